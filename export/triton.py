"""A bundle's graphs as a model repository of NVIDIA's Triton Inference Server, for more than one machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lnsdk.backends import choose
from lnsdk.backends.base import Shape, Signature
from lnsdk.bundle import Bundle
from lnsdk.errors import InputError
from lnsdk.pipelines.false_positives import pooling_weights
from lnsdk.pipelines.settings import FPR, Settings, read_settings

Tensors = dict[str, NDArray[np.float32]]

CONFIG, MODEL = "config.pbtxt", "model.onnx"
"""What Triton looks for in the folder of a model, and of one of its versions."""

SIDE = 256
"""Rows and columns of the slice that the warm-up runs."""

QUEUE_MICROSECONDS = 500
"""How long a request may wait for others of its shape."""


def write_triton(bundle: Bundle, folder: Path) -> list[Path]:
    """Write a model repository: every graph of a detector's bundle as a model of its own.

    Parameters
    ----------
    bundle : Bundle
        Of a detector, with ONNX graphs.
    folder : Path
        The repository; made when missing. Models that are there already get another version.

    Returns
    -------
    list of Path
        Folders of the versions that were written. The models are called NAME_GRAPH, such as ``lens_edge_image``.

    Raises
    ------
    InputError
        When the bundle is no detector's or lacks a graph, ``output-folder`` when `folder` cannot be written to.

    Notes
    -----
    What lies between the graphs (grid, decoding, stacking, coordinates) is `lnsdk.Detector`'s; the repository serves
    the networks. Inputs of one shape are batched; each model is warmed up with a slice of 256 x 256.
    """
    settings = read_settings(bundle)
    shapes = warm_up_shapes(bundle, settings)
    try:
        return [_write_model(bundle, name, settings.max_batch, shapes[name], folder) for name in bundle.graphs]
    except OSError as error:
        raise InputError("output-folder", f"cannot write to {folder}: {error.strerror or error}") from error


def model_name(bundle: Bundle, graph: str) -> str:
    """Name of a graph's model in the repository."""
    return f"{bundle.name}_{graph}".replace("-", "_")


def warm_up_shapes(bundle: Bundle, settings: Settings) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes of every graph's inputs for one slice of `SIDE` x `SIDE`, without the batch."""
    engine = choose("onnx", "cpu")
    image, fuse = (engine.open(bundle.graph(name), "cpu", "fp32", None) for name in ("image", "fuse"))
    inputs: dict[str, Tensors] = {"image": {"image": np.zeros((1, 3, SIDE, SIDE), np.float32)}}
    parts = image.run(inputs["image"])
    inputs["fuse"] = {f"{name}{place}": part for name, part in parts.items() for place in ("_prev", "", "_next")}
    features = fuse.run(inputs["fuse"])["features"]
    inputs["head"] = {"features": features, "rois": np.zeros((1, settings.post_nms, 4), np.float32)}
    if settings.fpr is not None:
        patch = np.zeros((1, *settings.fpr.patch), np.float32)
        inputs[FPR] = {"patch": patch, **pooling_weights(np.zeros((1, 6), np.float32), settings.fpr)}
    return {graph: {name: array.shape[1:] for name, array in arrays.items()} for graph, arrays in inputs.items()}


def _write_model(
    bundle: Bundle, graph: str, max_batch: int, shapes: Mapping[str, tuple[int, ...]], folder: Path
) -> Path:
    name = model_name(bundle, graph)
    content = bundle.graph(graph).read(".onnx")
    place = folder / name
    numbers = [int(path.name) for path in place.glob("*") if path.name.isdigit()]
    version = place / str(max(numbers, default=0) + 1)
    version.mkdir(parents=True)
    (version / MODEL).write_bytes(content)
    (place / CONFIG).write_text(_config(name, bundle.graphs[graph], max_batch, shapes))
    return version


def _config(name: str, signature: Signature, max_batch: int, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The model's description in protobuf's text format."""
    lines = [f'name: "{name}"', 'backend: "onnxruntime"', f"max_batch_size: {max_batch}"]
    lines += [_tensor("input", tensor, shape) for tensor, shape in signature.inputs.items()]
    lines += [_tensor("output", tensor, shape) for tensor, shape in signature.outputs.items()]
    lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_MICROSECONDS} }}")
    zeros = (
        f'inputs {{ key: "{tensor}" value {{ data_type: TYPE_FP32 dims: {list(shape)} zero_data: true }} }}'
        for tensor, shape in shapes.items()
    )
    lines.append(f'model_warmup {{ name: "one slice" batch_size: 1 {" ".join(zeros)} }}')
    return "\n".join(lines) + "\n"


def _tensor(kind: str, name: str, shape: Shape) -> str:
    dims = [-1 if size is None else size for size in shape[1:]]
    return f'{kind} {{ name: "{name}" data_type: TYPE_FP32 dims: {dims} }}'
