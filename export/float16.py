"""Float16 written into an ONNX graph, as strongly typed engines want it: every tensor has the type that it says."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from lnsdk.errors import InputError
from lnsdk.export.layers import after_last, before_first, name_nodes
from lnsdk.export.tensorrt_limits import check_limits

# fmt: off
EXACT = frozenset({
    "Cast", "ConstantOfShape", "Elu", "Erf", "Exp", "Gelu", "GridSample", "GroupNormalization", "InstanceNormalization",
    "LayerNormalization", "Log", "LogSoftmax", "Mish", "Pow", "Range", "Reciprocal", "RoiAlign", "Sigmoid", "Softmax",
    "Softplus", "Sqrt", "Tanh",
})
# fmt: on
"""Operators that stay float32 wherever they are: exponentials and quotients, what takes coordinates, and what has its
type from an attribute."""

FIRST_INPUT_ONLY = frozenset({"Resize"})
"""Operators whose other inputs are not of the type of the first."""

SATURATING = frozenset({"Clip", "Max", "Min"})
"""Operators whose bounds may lie beyond float16's range, which the values between them do not."""

SUFFIX = "_float16"
"""Ends the name of what was rounded."""


def to_float16(model: ModelProto) -> ModelProto:
    """Write float16 into a graph, from its first to its last convolution or matrix product on every way.

    What comes before (windows, coordinates) and after (exp, sigmoid, box arithmetic) stays float32, and so do inputs
    and outputs: the signature holds for every precision.

    Parameters
    ----------
    model : ModelProto
        In float32; stays as it is.

    Returns
    -------
    ModelProto
        With casts where the precision changes.

    Raises
    ------
    InputError
        ``float16-range`` when a weight is too large for float16; what `check_limits` refuses.
    """
    check_limits(model.graph.name, model)
    half = ModelProto()
    half.CopyFrom(shape_inference.infer_shapes(model))
    name_nodes(half.graph)
    _constants_to_weights(half.graph)
    _Rounding(half.graph).apply()
    onnx.checker.check_model(half, full_check=True)
    return half


class _Rounding:
    """Rewrites a graph node by node, with every cast made once."""

    def __init__(self, graph: GraphProto) -> None:
        kept = {node.name for node in (*before_first(graph), *after_last(graph))}
        self._graph = graph
        self._kept = kept | {node.name for node in graph.node if node.op_type in EXACT}
        self._float = _float_tensors(graph)
        self._weights = {weight.name: weight for weight in graph.initializer}
        self._rounded: set[str] = set()
        self._casts: set[str] = set()
        self._nodes: list[NodeProto] = []

    def apply(self) -> None:
        for node in list(self._graph.node):
            if node.name in self._kept:
                self._widen(node.input)
                self._nodes.append(node)
            else:
                self._round(node)
        self._widen(output.name for output in self._graph.output)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        del self._graph.value_info[:]
        self._drop_unused_weights()

    def _round(self, node: NodeProto) -> None:
        """Let a node read and write float16."""
        inputs = node.input[:1] if node.op_type in FIRST_INPUT_ONLY else node.input
        for index, name in enumerate(inputs):
            if name in self._float:
                node.input[index] = self._narrowed(name, node.op_type in SATURATING)
        for index, name in enumerate(node.output):
            if name in self._float:
                self._rounded.add(name)
                node.output[index] = name + SUFFIX
        self._nodes.append(node)

    def _narrowed(self, name: str, saturate: bool) -> str:
        """Return the float16 version of a tensor, which is made when it is not there."""
        short = name + SUFFIX
        if name not in self._rounded and short not in self._casts:
            self._casts.add(short)
            if name in self._weights:
                self._graph.initializer.append(_narrow_weight(self._weights[name], saturate))
            else:
                self._nodes.append(helper.make_node("Cast", [name], [short], f"Cast_{short}", to=TensorProto.FLOAT16))
        return short

    def _widen(self, names: object) -> None:
        """Make the float32 version of what was rounded."""
        for name in names:  # type: ignore[attr-defined]
            if name in self._rounded and name not in self._casts:
                self._casts.add(name)
                cast = helper.make_node("Cast", [name + SUFFIX], [name], f"Cast_{name}", to=TensorProto.FLOAT)
                self._nodes.append(cast)

    def _drop_unused_weights(self) -> None:
        used = {name for node in self._graph.node for name in node.input}
        weights = [weight for weight in self._graph.initializer if weight.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(weights)


def _float_tensors(graph: GraphProto) -> set[str]:
    values = (*graph.input, *graph.output, *graph.value_info)
    tensors = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return tensors | {weight.name for weight in graph.initializer if weight.data_type == TensorProto.FLOAT}


def _constants_to_weights(graph: GraphProto) -> None:
    """Let constants that are nodes be weights, so that they are rounded here and not when the graph runs."""
    for node in [node for node in graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]:
        weight = graph.initializer.add()
        weight.CopyFrom(node.attribute[0].t)
        weight.name = node.output[0]
        graph.node.remove(node)


def _narrow_weight(weight: TensorProto, saturate: bool) -> TensorProto:
    values, largest = numpy_helper.to_array(weight), np.finfo(np.float16).max
    if saturate:
        values = np.clip(values, -largest, largest)
    if np.abs(values).max(initial=0.0) > largest:
        raise InputError(
            "float16-range", f"weight {weight.name!r} has values beyond float16's range; export the model in fp32 only"
        )
    return numpy_helper.from_array(values.astype(np.float16), weight.name + SUFFIX)
