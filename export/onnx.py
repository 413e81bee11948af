"""A graph to ONNX, the source of truth of every bundle."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch

from lnsdk.export.graph import ExportGraph
from lnsdk.export.tensorrt_limits import check_limits

OPSET = 18
"""Operator set: within what TensorRT's parser takes (9 to 20), with the GridSample of opset 16."""


def export_onnx(graph: ExportGraph, folder: Path) -> Path:
    """Write `folder`/NAME.onnx with dynamic batch and image size, weights inside.

    Parameters
    ----------
    graph : ExportGraph
        What to export.
    folder : Path
        Exists.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        ``tensorrt-limits`` when TensorRT would refuse the graph.
    """
    path = folder / f"{graph.name}.onnx"
    with warnings.catch_warnings():
        # the exporter's own calls use names that torch and Python have deprecated; nothing of ours is concerned
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        # said of every dynamic axis that several inputs share, which is what one batch axis for all of them means
        warnings.filterwarnings("ignore", message="# The axis name.*will not be used", category=UserWarning)
        torch.onnx.export(
            graph.module,
            graph.make_inputs(2, 64, 96),
            path,
            input_names=list(graph.signature.inputs),
            output_names=list(graph.signature.outputs),
            dynamic_shapes={name: dict(axes) for name, axes in graph.dynamic.items()},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    check_limits(graph.name, onnx.load(path))
    return path
