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
"""Graphs in graphs: more is an attack on the reader."""

MOST_FIELDS = 300_000
"""Fields that are looked at: the paper's network has some ten thousand."""

LARGEST_KEY = 0xFFFFFFFF
"""Protobuf cuts larger ones, and then reads another field than was written."""


class _Field(NamedTuple):
    number: int
    kind: int
    start: int
    stop: int


def check_onnx(name: str, content: bytes) -> None:
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
    try:
        leads_elsewhere = any(_leads_elsewhere(content, field) for field in _tensor_fields(content))
    except ValueError as error:
        raise InputError("bundle-graph", f"{name} is no ONNX file: {error}") from error
    if leads_elsewhere:
        raise InputError(
            "bundle-graph",
            f"{name} has weights in another file, which a bundle may not; export it with its weights inside",
        )


def _tensor_fields(content: bytes) -> Iterator[_Field]:
    """Walk through the file, depth first, and give the fields of every tensor in it."""
    open_messages = [(MODEL, _fields(content, 0, len(content)))]
    count = 0
    while open_messages:
        message, fields = open_messages[-1]
        field = next(fields, None)
        if field is None:
            open_messages.pop()
            continue
        count += 1
        if count > MOST_FIELDS or len(open_messages) > DEEPEST:
            raise ValueError("it has more parts than any network")
        if message == TENSOR:
            yield field
        child = CHILDREN[message].get(field.number)
        if child is not None and field.kind == BYTES:
            open_messages.append((child, _fields(content, field.start, field.stop)))


def _leads_elsewhere(content: bytes, field: _Field) -> bool:
    """Whether a tensor's field says that its values are in another file; location 0 says that they are not."""
    if field.number == DATA_LOCATION:
        return any(byte & 0x7F for byte in content[field.start : field.stop])
    return field.number == EXTERNAL_DATA


def _fields(content: bytes, position: int, stop: int) -> Iterator[_Field]:
    """Fields of a message, by number, wire type and where their values are."""
    while position < stop:
        key, position = _varint(content, position, stop)
        number, kind, start = key >> 3, key & 7, position
        if key > LARGEST_KEY or number == 0:
            raise ValueError("it has a field that protobuf does not")
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
            raise ValueError("it has a field of a kind that ONNX does not")
        if position > stop:
            raise ValueError("it is cut off")
        yield _Field(number, kind, start, position)


def _varint(content: bytes, position: int, stop: int) -> tuple[int, int]:
    """Read a number and where it ends; one that is longer than it need be is refused, since readers differ there."""
    value = shift = 0
    while position < stop and shift < 70:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            if byte == 0 and shift > 0:
                raise ValueError("it has a number that is longer than it need be")
            return value, position
        shift += 7
    raise ValueError("it is cut off")
