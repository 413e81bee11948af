"""Graphs that reach for what is not theirs, with hashes that are right."""

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

DIMS = (3, 3, 2, 2)

MARKER = "run-by-a-pickle"
"""File that the pickle would make."""


def outside(location: str) -> bytes:
    """Weights from another file of the machine."""
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=DIMS, data_location=TensorProto.EXTERNAL)
    length = 4 * int(np.prod(DIMS))
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        weight.external_data.add(key=key, value=value)
    return _model([weight])


def constant_outside(location: str) -> bytes:
    """The same in a node's attribute."""
    inner = onnx.load_model_from_string(outside(location)).graph.initializer[0]
    return _model([], [helper.make_node("Constant", [], ["weight"], value=inner)])


def nested_outside(location: str) -> bytes:
    """The same in the branch of a condition."""
    inner = onnx.load_model_from_string(outside(location)).graph.initializer[0]
    value = helper.make_tensor_value_info("chosen", TensorProto.FLOAT, DIMS)
    branch = helper.make_graph([helper.make_node("Identity", ["weight_"], ["chosen"])], "branch", [], [value])
    inner.name = "weight_"
    branch.initializer.append(inner)
    always = numpy_helper.from_array(np.array(True), "always")
    choice = helper.make_node("If", ["always"], ["weight"], then_branch=branch, else_branch=branch)
    return _model([always], [choice])


def enormous() -> bytes:
    """A weight that claims to hold 18 petabytes."""
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=(1 << 20, 3, 1 << 16, 1 << 16))
    weight.raw_data = bytes(16)
    return _model([weight])


def negative() -> bytes:
    """A weight of negative size."""
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=(-3, 3, 2, 2))
    weight.raw_data = bytes(16)
    return _model([weight])


def truncated() -> bytes:
    """The first half of a graph."""
    content = _model([numpy_helper.from_array(np.zeros(DIMS, np.float32), "weight")])
    return content[: len(content) // 2]


def endless() -> bytes:
    """Lengths that point behind the end."""
    return b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"


def deep() -> bytes:
    """Graphs in graphs in graphs."""
    content = b""
    for _ in range(3000):
        content = _field(6, content)  # a graph as a node's attribute
        content = _field(1, _field(5, content))
    return _field(7, content)


def crowded() -> bytes:
    """Millions of empty graphs, each of which costs its reader memory."""
    return b"\x3a\x00" * 3_000_000


def disguised() -> bytes:
    """Weights from another file, in a graph whose tag has more bits than protobuf looks at."""
    content = outside("secret.bin")
    at = content.index(b"\x3a")
    return content[:at] + b"\xba\x80\x80\x80\x10" + content[at + 1 :]


def flatbuffer() -> bytes:
    """ONNX Runtime's own format, which begins like protobuf."""
    return b"\x12\x06\x00\x00ORTM" + bytes(64)


def reads_a_file(path: Path) -> bytes:
    """A TorchScript network whose output is a file's content."""

    class Reads(torch.nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image + torch.from_file(self.name, False, 8)[0]

    return _scripted(Reads(str(path)))


def writes_a_file(path: Path) -> bytes:
    """A TorchScript network that writes a file."""

    class Writes(torch.nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            torch.save(image, self.name)
            return image

    return _scripted(Writes(str(path)))


def never_ends(path: Path) -> bytes:
    """A TorchScript network that does not come back."""

    class Loops(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            while bool(image.sum() > -1):
                image = image + 1
            return image

    return _scripted(Loops())


def archive(code: str) -> bytes:
    """A TorchScript archive with code of one's own."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        made.writestr("archive/code/__torch__.py", code)
        made.writestr("archive/version", b"3\n")
    return content.getvalue()


def _scripted(module: torch.nn.Module) -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated")
        torch.jit.save(torch.jit.script(module), content)
    return content.getvalue()


def pickled(marker: Path) -> bytes:
    """A TorchScript archive whose data is a pickle that runs a command."""

    class Attack:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            import os

            return os.system, (f"touch {marker}",)

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        made.writestr("archive/data.pkl", pickle.dumps(Attack(), protocol=2))
        made.writestr("archive/constants.pkl", pickle.dumps(Attack(), protocol=2))
        made.writestr("archive/version", b"3\n")
    return content.getvalue()


def _model(weights: list[TensorProto], nodes: list[onnx.NodeProto] | None = None) -> bytes:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "y", "x"]) for name in ("image", "out")]
    convolution = helper.make_node("Conv", ["image", "weight"], ["out"], pads=[0, 0, 1, 1])
    graph = helper.make_graph([*(nodes or []), convolution], "hostile", values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
