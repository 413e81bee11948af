"""ONNX graphs in eight bits for CPUs, calibrated on real slices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from lnsdk.export.layers import first_heavy, last_heavy, name_nodes

Feed = Mapping[str, NDArray[np.float32]]
"""Inputs of a graph by name."""

SCORES_AND_BOXES = ("centerness", "distances", "scores", "offsets")
"""Outputs whose last layer is not quantized: a step of it would be seen in every score and box."""


def to_int8(model: ModelProto, feeds: Iterable[Feed]) -> ModelProto:
    """Quantize the convolutions of a graph to eight bits, but for the first and for those that end in scores and boxes.

    Parameters
    ----------
    model : ModelProto
        In float32; stays as it is.
    feeds : iterable of mapping
        Inputs from real slices: the range of every activation is what they give.

    Returns
    -------
    ModelProto
        With weights in eight bits, one scale per channel, and the rounding of every convolution's input written down
        as QuantizeLinear and DequantizeLinear. Outputs are not rounded: the next convolution rounds what it reads.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    name_nodes(copy.graph)
    with TemporaryDirectory() as folder:
        named, prepared, quantized = (Path(folder, f"{step}.onnx") for step in ("named", "prepared", "quantized"))
        onnx.save(copy, named)
        quant_pre_process(named, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        outputs = [output.name for output in graph.output if output.name in SCORES_AND_BOXES]
        quantize_static(
            prepared,
            quantized,
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[node.name for node in (*first_heavy(graph), *last_heavy(graph, outputs))],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"OpTypesToExcludeOutputQuantization": ["Conv"]},
        )
        made = onnx.load(quantized)
    onnx.checker.check_model(made)
    return made


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands out inputs one by one, as the quantizer asks for them."""

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        feed = next(self._feeds, None)
        return None if feed is None else dict(feed)
