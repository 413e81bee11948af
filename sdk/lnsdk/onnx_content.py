"""Looks through an ONNX file, before an engine does, for weights that lie in other files.

A tensor may say that its values are in another file, by any path: engines read that file, whatever it is, and nobody
has checked it. Only the places of the format where a tensor may be are followed; see onnx.proto.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from lnsdk.errors import InputError

MODEL, GRAPH, NODE, ATTRIBUTE, TENSOR, SPARSE, FUNCTION = range(7)
"""Messages of onnx.proto."""

CHILDREN: Mapping[int, Mapping[int, int]] = MappingProxyType(
    {
        MODEL: {7: GRAPH, 25: FUNCTION},
        GRAPH: {1: NODE, 5: TENSOR, 15: SPARSE},
        NODE: {5: ATTRIBUTE},
        ATTRIBUTE: {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
        TENSOR: {},
        SPARSE: {1: TENSOR, 2: TENSOR},
        FUNCTION: {7: NODE, 11: ATTRIBUTE},
    }
)
"""By message: the fields that may hold a tensor, with the message that each of them is."""

EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""Fields of a tensor that send the reader elsewhere."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types of protobuf; the two others, groups, are not used by ONNX."""

DEEPEST = 200
"""Graphs in graphs: more is an attack on the reader's stack."""


class _Field(NamedTuple):
    number: int
    kind: int
    start: int
    stop: int


def check_self_contained(name: str, content: bytes) -> None:
    """Refuse an ONNX file that has weights elsewhere, or that is no protobuf.

    Parameters
    ----------
    name : str
        Of the file, for the message.
    content : bytes
        The file.

    Raises
    ------
    InputError
        ``bundle-graph``.
    """
    waiting = [(MODEL, 0, len(content), 0)]
    while waiting:
        message, start, stop, depth = waiting.pop()
        if depth > DEEPEST:
            raise InputError("bundle-graph", f"{name} is nested more than {DEEPEST} deep")
        try:
            fields = list(_fields(content, start, stop))
        except (ValueError, IndexError) as error:
            raise InputError("bundle-graph", f"{name} is no ONNX file: it is cut off or damaged") from error
        if message == TENSOR and any(_leads_elsewhere(content, field) for field in fields):
            raise InputError(
                "bundle-graph",
                f"{name} has weights in another file, which a bundle may not; export it with its weights inside",
            )
        children = CHILDREN[message]
        waiting += [
            (children[field.number], field.start, field.stop, depth + 1)
            for field in fields
            if field.number in children and field.kind == BYTES
        ]


def _leads_elsewhere(content: bytes, field: _Field) -> bool:
    """Whether a tensor's field says that its values are in another file; location 0 says that they are not."""
    if field.number == DATA_LOCATION:
        return any(byte & 0x7F for byte in content[field.start : field.stop])
    return field.number == EXTERNAL_DATA


def _fields(content: bytes, position: int, stop: int) -> Iterator[_Field]:
    """Fields of a message, by number, wire type and where their values are."""
    while position < stop:
        key, position = _varint(content, position, stop)
        kind, start = key & 7, position
        if kind == VARINT:
            _, position = _varint(content, position, stop)
        elif kind == FIXED64:
            position += 8
        elif kind == FIXED32:
            position += 4
        elif kind == BYTES:
            length, start = _varint(content, position, stop)
            position = start + length
        else:
            raise ValueError(f"wire type {kind}")
        if position > stop:
            raise ValueError("a field ends behind its message")
        yield _Field(key >> 3, kind, start, position)


def _varint(content: bytes, position: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while position < stop and shift < 64:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number without an end")
