"""A detector bundle whose network is arithmetic: it finds bright balls, so geometry is tested without training.

A ball of 300 HU in water becomes a disc in each slice. The ``image`` graph takes the disc's moments in a window around
every feature pixel, ``fuse`` turns them into a box around the disc, and ``head`` scores a box by its width. ``fpr``,
which a bundle has when it is given settings for it, scores a box by how bright it is: 0 for water, 1 for a ball.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lnsdk.bundle import FORMAT_VERSION, metadata_digest

WATER, BALL = ((hu + 1024) / 4095 * 255 for hu in (0, 300))
"""Grid values of the background and of a ball."""

WINDOW = 41
"""Side of the window over which moments are taken, in grid pixels."""

EXPERTS = ["universal", "lung"]

SIGNATURES: dict[str, dict[str, dict[str, list[int | None]]]] = {
    "image": {
        "inputs": {"image": [None, 3, None, None]},
        "outputs": {
            "mid": [None, 1, None, None],
            "shallow": [None, 3, None, None],
            "deep": [None, 3, None, None],
        },
    },
    "fuse": {
        "inputs": {
            f"{name}{when}": [None, channels, None, None]
            for name, channels in (("mid", 1), ("shallow", 3), ("deep", 3))
            for when in ("_prev", "", "_next")
        },
        "outputs": {
            "features": [None, 9, None, None],
            "centerness": [None, 2, None, None],
            "distances": [None, 2, 4, None, None],
        },
    },
    "head": {
        "inputs": {"features": [None, 9, None, None], "rois": [None, None, 4]},
        "outputs": {"scores": [None, None, 2], "offsets": [None, None, 2, 4]},
    },
}

FPR_SIGNATURE: dict[str, dict[str, list[int | None]]] = {
    "inputs": {"patch": [None, 8, 32, 32], "z": [None, 1, 8], "y1": [None, 1, 8], "x1": [None, 1, 8]},
    "outputs": {"scores": [None, 1]},
}

FPR = {"patch": [8, 32, 32], "bins": [1, 1, 1], "strides": [4], "boxes": 50, "threshold": 0.25}
"""Settings of ``fpr``."""


def write_toy_bundle(path: Path, more: Mapping[str, bytes] = MappingProxyType({}), **settings: Any) -> Path:
    """Write the bundle into a folder, with `more` files; `settings` replace entries of the ``lnsdk`` section."""
    graphs = {"image": _image_graph(), "fuse": _fuse_graph(), "head": _head_graph()}
    if "fpr" in settings:
        graphs["fpr"] = _fpr_graph()
        settings = {"graphs": SIGNATURES | {"fpr": FPR_SIGNATURE}} | settings
    files = {f"models/{name}.onnx": graph.SerializeToString() for name, graph in graphs.items()}
    files |= {"LICENSE": b"Apache-2.0\n", "docs/README.md": b"# A toy\n", **more}
    return write_bundle(path, files, **settings)


def write_bundle(path: Path, files: dict[str, bytes], **settings: Any) -> Path:
    """Write files and a description that matches them."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    section = {
        "format_version": FORMAT_VERSION,
        "task": "detector",
        "name": "toy",
        "experts": EXPERTS,
        "grid": {"spacing": [0.8, 0.8, 2.0], "multiple": 16, "images": 3, "channels": 3, "stride": 4},
        "window": [-1024, 3071],
        "proposals": {"pre_nms": 6000, "post_nms": 100, "iou": 0.7, "min_score": 0.01},
        "detections": {"iou": 0.5, "per_slice": 50, "min_score": 0.05, "stack_iou": 0.5},
        "box_deltas": {"weights": [10, 10, 5, 5]},
        "threshold": 0.5,
        "max_batch": 8,
        "graphs": SIGNATURES,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    write_metadata(path, {"version": "1.0.0", "lnsdk": section | settings})
    return path


def write_metadata(path: Path, metadata: dict[str, Any]) -> None:
    """Write a description with its digest."""
    metadata["lnsdk"]["sha256"] = metadata_digest(metadata)
    (path / "configs").mkdir(parents=True, exist_ok=True)
    (path / "configs/metadata.json").write_text(json.dumps(metadata))


def phantom(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    center: tuple[float, float, float] | None,
    radius: float = 10.0,
) -> NDArray[np.int16]:
    """Return an elliptic cylinder of water in air, with a bright ball at `center` (x, y, z voxels) of `radius` mm."""
    z, y, x = np.indices(shape, dtype=np.float64, sparse=True)
    height, width = shape[1] - 1, shape[2] - 1
    inside = ((x / width - 0.5) / 0.42) ** 2 + ((y / height - 0.5) / 0.42) ** 2 <= 1
    voxels = np.where(np.broadcast_to(inside, shape), 0.0, -1000.0)
    if center is not None:
        offsets = ((x - center[0]) * spacing[0], (y - center[1]) * spacing[1], (z - center[2]) * spacing[2])
        distance = np.sqrt(sum(offset**2 for offset in offsets))
        edge = min(spacing[:2])
        voxels = np.maximum(voxels, 300 * np.clip((radius - distance) / edge + 0.5, 0, 1))
    return np.rint(voxels).astype(np.int16)


def _image_graph() -> onnx.ModelProto:
    offsets = np.arange(WINDOW, dtype=np.float32) - WINDOW // 2
    x, y = np.broadcast_to(offsets, (WINDOW, WINDOW)), np.broadcast_to(offsets[:, None], (WINDOW, WINDOW))
    kernels = np.stack([np.ones_like(x), x, y])[:, None].astype(np.float32)
    nodes = [
        helper.make_node("Slice", ["image", "one", "two", "channel_axis"], ["center"]),
        helper.make_node("Sub", ["center", "water"], ["above"]),
        helper.make_node("Div", ["above", "contrast"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "zero", "unit"], ["disc"]),
        helper.make_node("Conv", ["disc", "kernels"], ["moments"], strides=[4, 4], pads=[WINDOW // 2] * 4),
        helper.make_node("Conv", ["moments", "identity"], ["shallow"]),  # a second one, which can be quantized
        helper.make_node("AveragePool", ["center"], ["mid"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("AveragePool", ["image"], ["deep"], kernel_shape=[16, 16], strides=[16, 16]),
    ]
    constants = {
        "one": np.array([1]),
        "two": np.array([2]),
        "channel_axis": np.array([1]),
        "water": np.float32(WATER),
        "contrast": np.float32(BALL - WATER),
        "zero": np.float32(0),
        "unit": np.float32(1),
        "kernels": kernels,
        "identity": np.eye(3, dtype=np.float32)[:, :, None, None],
    }
    return _model("image", nodes, constants)


def _fuse_graph() -> onnx.ModelProto:
    """Disc of area m0 whose centre lies (m1, m2) / m0 from the pixel; 20 pixels are the smallest area looked at."""
    nodes = [
        helper.make_node("Split", ["shallow"], ["m0", "m1", "m2"], axis=1, num_outputs=3),
        helper.make_node("Max", ["m0", "least"], ["area"]),
        helper.make_node("Div", ["m1", "area"], ["dx"]),
        helper.make_node("Div", ["m2", "area"], ["dy"]),
        helper.make_node("Mul", ["dx", "dx"], ["dxdx"]),
        helper.make_node("Mul", ["dy", "dy"], ["dydy"]),
        helper.make_node("Add", ["dxdx", "dydy"], ["far"]),
        helper.make_node("Div", ["far", "minus_eight"], ["exponent"]),
        helper.make_node("Exp", ["exponent"], ["close"]),
        helper.make_node("Greater", ["m0", "least"], ["is_disc"]),
        helper.make_node("Cast", ["is_disc"], ["disc"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["close", "disc"], ["center"]),
        helper.make_node("Concat", ["center", "center"], ["centerness"], axis=1),
        helper.make_node("Div", ["area", "pi"], ["squared"]),
        helper.make_node("Sqrt", ["squared"], ["radius"]),
        helper.make_node("Sub", ["radius", "dx"], ["left"]),
        helper.make_node("Sub", ["radius", "dy"], ["top"]),
        helper.make_node("Add", ["radius", "dx"], ["right"]),
        helper.make_node("Add", ["radius", "dy"], ["bottom"]),
        helper.make_node("Concat", ["left", "top", "right", "bottom"], ["sides"], axis=1),
        helper.make_node("Unsqueeze", ["sides", "expert_axis"], ["one_expert"]),
        helper.make_node("Concat", ["one_expert", "one_expert"], ["distances"], axis=1),
        helper.make_node("Concat", ["shallow_prev", "shallow", "shallow_next"], ["features"], axis=1),
    ]
    constants = {
        "least": np.float32(20),
        "minus_eight": np.float32(-8),
        "pi": np.float32(math.pi),
        "expert_axis": np.array([1]),
    }
    return _model("fuse", nodes, constants)


def _head_graph() -> onnx.ModelProto:
    """Score w / (w + 8), half of it from the second expert; no offsets."""
    nodes = [
        helper.make_node("Slice", ["rois", "zero_index", "one_index", "last_axis"], ["x1"]),
        helper.make_node("Slice", ["rois", "two_index", "three_index", "last_axis"], ["x2"]),
        helper.make_node("Sub", ["x2", "x1"], ["width"]),
        helper.make_node("Add", ["width", "eight"], ["more"]),
        helper.make_node("Div", ["width", "more"], ["score"]),
        helper.make_node("Mul", ["score", "shares"], ["scores"]),
        helper.make_node("Unsqueeze", ["scores", "last_axis_4d"], ["column"]),
        helper.make_node("Mul", ["column", "zeros"], ["offsets"]),
    ]
    constants = {
        "zero_index": np.array([0]),
        "one_index": np.array([1]),
        "two_index": np.array([2]),
        "three_index": np.array([3]),
        "last_axis": np.array([2]),
        "last_axis_4d": np.array([3]),
        "eight": np.float32(8),
        "shares": np.array([1, 0.5], np.float32),
        "zeros": np.zeros(4, np.float32),
    }
    return _model("head", nodes, constants)


def _fpr_graph() -> onnx.ModelProto:
    """Mean over the box of every fourth pixel of the patch, by three matrix products."""
    nodes = [
        helper.make_node("Slice", ["patch", "starts", "ends", "axes", "steps"], ["sampled"]),
        helper.make_node("Reshape", ["sampled", "flat"], ["slices"]),
        helper.make_node("MatMul", ["z", "slices"], ["summed"]),
        helper.make_node("Reshape", ["summed", "plane"], ["one_slice"]),
        helper.make_node("MatMul", ["y1", "one_slice"], ["row"]),
        helper.make_node("Transpose", ["x1"], ["x1_column"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["row", "x1_column"], ["mean"]),
        helper.make_node("Sub", ["mean", "water"], ["above"]),
        helper.make_node("Div", ["above", "contrast"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "zero", "unit"], ["clipped"]),
        helper.make_node("Reshape", ["clipped", "column"], ["scores"]),
    ]
    constants = {
        "starts": np.array([0, 0]),
        "ends": np.array([32, 32]),
        "axes": np.array([2, 3]),
        "steps": np.array([4, 4]),
        "flat": np.array([-1, 8, 64]),
        "plane": np.array([-1, 8, 8]),
        "column": np.array([-1, 1]),
        "water": np.float32(WATER),
        "contrast": np.float32(BALL - WATER),
        "zero": np.float32(0),
        "unit": np.float32(1),
    }
    return _model("fpr", nodes, constants)


def _model(name: str, nodes: list[onnx.NodeProto], constants: dict[str, Any]) -> onnx.ModelProto:
    signature = FPR_SIGNATURE if name == "fpr" else SIGNATURES[name]
    graph = helper.make_graph(
        nodes,
        name,
        [_tensor(tensor, shape) for tensor, shape in signature["inputs"].items()],
        [_tensor(tensor, shape) for tensor, shape in signature["outputs"].items()],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model


def _tensor(name: str, shape: list[int | None]) -> onnx.ValueInfoProto:
    sizes = [f"{name}_{axis}" if size is None else size for axis, size in enumerate(shape)]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
