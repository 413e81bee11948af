"""What TensorRT's ONNX parser refuses, told when a graph is exported and not on a hospital's machine.

The limits are those of the operator table of TensorRT's ONNX parser, 10.12 to 11. A model that passes has met the
documented limits, and nothing more: no engine is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

from lnsdk.errors import InputError

OLDEST_OPSET, NEWEST_OPSET = 9, 20
"""Operator sets that the parser reads."""

TOPK_LIMIT = 3840
"""K must be below this."""

# fmt: off
OPERATORS = frozenset({
    "Abs", "Add", "And", "ArgMax", "ArgMin", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat",
    "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Expand",
    "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool",
    "Greater", "GreaterOrEqual", "GridSample", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity",
    "InstanceNormalization", "IsInf", "IsNaN", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log",
    "LogSoftmax", "MatMul", "Max", "MaxPool", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pad",
    "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Reshape", "Resize",
    "RoiAlign", "Round", "Shape", "Sigmoid", "Sign", "Slice", "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub",
    "Sum", "Tanh", "Tile", "TopK", "Transpose", "Unsqueeze", "Where", "Xor",
})
# fmt: on
"""Operators that may be exported: those of the table that a network may need, without control flow, without those whose
output's size depends on values, and without NonMaxSuppression, which looks at 5000 boxes in 2D and is lnsdk's own."""

TYPES = frozenset(
    {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT32, TensorProto.INT64}
    | {TensorProto.BOOL, TensorProto.UINT8}
)
"""Types of tensors; double is refused here, which the parser would narrow without a word that reaches the user."""

RESIZE_MODES = ("nearest", "linear")


@dataclass(frozen=True)
class Refusal:
    """A node that TensorRT would refuse.

    Attributes
    ----------
    node : str
        Its name, or that of its first output.
    operator : str
        Such as ``"TopK"``; empty for the model as a whole.
    reason : str
        The limit, and what was found.
    """

    node: str
    operator: str
    reason: str


def refusals(model: onnx.ModelProto) -> list[Refusal]:
    """Return what of a model is outside TensorRT's documented limits.

    Parameters
    ----------
    model : onnx.ModelProto
        With its weights.

    Returns
    -------
    list of Refusal
        Empty when all of it is within them.
    """
    found = [
        Refusal(opset.domain or "ai.onnx", "", f"operator set {opset.version}; read are {OLDEST_OPSET}-{NEWEST_OPSET}")
        for opset in model.opset_import
        if opset.domain in ("", "ai.onnx") and not OLDEST_OPSET <= opset.version <= NEWEST_OPSET
    ]
    facts = _Facts(model)
    for node in model.graph.node:
        found += [Refusal(node.name or node.output[0], node.op_type, reason) for reason in _reasons(node, facts)]
    found += [
        Refusal(tensor.name, "", f"weights of type {TensorProto.DataType.Name(tensor.data_type)}")
        for tensor in model.graph.initializer
        if tensor.data_type not in TYPES
    ]
    return found


def check_limits(name: str, model: onnx.ModelProto) -> None:
    """Refuse a model that is outside TensorRT's documented limits.

    Raises
    ------
    InputError
        ``tensorrt-limits``, naming every node and the limit.
    """
    found = refusals(model)
    if found:
        listed = "; ".join(f"{each.operator} {each.node}".strip() + f": {each.reason}" for each in found)
        raise InputError(
            "tensorrt-limits", f"graph {name!r} is outside TensorRT's limits ({listed}); change the network"
        )


class _Facts:
    """Ranks, types and constants of a model's tensors, as far as shape inference tells them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = shape_inference.infer_shapes(model).graph
        described = {info.name: info.type.tensor_type for info in (*graph.input, *graph.output, *graph.value_info)}
        self.rank: dict[str, int] = {
            name: len(type_.shape.dim) for name, type_ in described.items() if type_.HasField("shape")
        }
        self.type: dict[str, int] = {name: type_.elem_type for name, type_ in described.items()}
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self.rank |= {name: len(tensor.dims) for name, tensor in self._weights.items()}
        self._constants = {
            node.output[0]: attribute.t
            for node in graph.node
            if node.op_type == "Constant"
            for attribute in node.attribute
            if attribute.name == "value"
        }

    def constant(self, name: str) -> Any:
        """Value of a tensor that does not depend on the inputs, else None."""
        tensor = self._weights.get(name) or self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)


def _reasons(node: NodeProto, facts: _Facts) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
        yield "no operator that TensorRT supports, or one that lnsdk keeps out of its graphs"
        return
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    for output in node.output:
        if facts.type.get(output, TensorProto.FLOAT) not in TYPES:
            yield f"output {output!r} of type {TensorProto.DataType.Name(facts.type[output])}"
    if node.op_type in LIMITS:
        yield from LIMITS[node.op_type](node, attributes, facts)


def _grid_sample(node: NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> Iterator[str]:
    rank = facts.rank.get(node.input[0])
    if rank != 4:
        yield f"the input must have 4 dimensions, got {rank or 'an unknown number'}"


def _top_k(node: NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> Iterator[str]:
    k = facts.constant(node.input[1])
    if k is None:
        yield f"K must be a constant below {TOPK_LIMIT}"
    elif int(k.item()) >= TOPK_LIMIT:
        yield f"K must be below {TOPK_LIMIT}, got {int(k.item())}"


def _resize(node: NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> Iterator[str]:
    mode = attributes.get("mode", b"nearest").decode()
    if mode not in RESIZE_MODES:
        yield f"mode must be {' or '.join(RESIZE_MODES)}, got {mode}"
    if attributes.get("antialias", 0):
        yield "antialias must be 0"
    if attributes.get("coordinate_transformation_mode", b"half_pixel") == b"tf_crop_and_resize":
        yield "coordinates of tf_crop_and_resize are not supported"


def _convolution(node: NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> Iterator[str]:
    rank = facts.rank.get(node.input[0])
    if rank not in (3, 4, 5):
        yield f"must be 1D, 2D or 3D: the input must have 3 to 5 dimensions, got {rank or 'an unknown number'}"


def _pooling(node: NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> Iterator[str]:
    if len(attributes["kernel_shape"]) not in (2, 3):
        yield f"must be 2D or 3D, got a window of {len(attributes['kernel_shape'])} dimensions"
    if len(node.output) > 1:
        yield "gives no indices"


def _batch_normalization(node: NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> Iterator[str]:
    if attributes.get("training_mode", 0):
        yield "training_mode must be 0"


LIMITS = {
    "GridSample": _grid_sample,
    "TopK": _top_k,
    "Resize": _resize,
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "MaxPool": _pooling,
    "AveragePool": _pooling,
    "BatchNormalization": _batch_normalization,
}
"""Operators with limits, and what gives the reasons why one is refused."""
