"""Float16 in a graph: where it is, where not, and what it does to the outputs."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, numpy_helper, shape_inference

from lnsdk import InputError
from lnsdk.export.float16 import to_float16
from lnsdk.export.tensorrt_limits import check_limits
from tests.export.test_layers import two_outputs


@pytest.fixture
def model() -> ModelProto:
    return two_outputs()


def types(model: ModelProto) -> dict[str, int]:
    inferred = shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def test_only_what_lies_between_convolutions_is_rounded(model: ModelProto) -> None:
    half = to_float16(model)
    found = types(half)
    assert {name for name, kind in found.items() if kind == TensorProto.FLOAT16} == {
        "window_float16",
        "first_float16",
        "features_float16",
        "logits_float16",
    }
    assert all(found[name] == TensorProto.FLOAT for name in ("image", "window", "features", "logits", "scores"))
    assert [weight.name for weight in half.graph.initializer] == ["half", "weight_float16"]
    assert sum(node.op_type == "Cast" for node in half.graph.node) == 3


def test_the_given_model_stays(model: ModelProto) -> None:
    before = model.SerializeToString()
    to_float16(model)
    assert model.SerializeToString() == before


def test_outputs_are_close(model: ModelProto) -> None:
    image = np.random.default_rng(0).uniform(0, 255, (2, 2, 8, 8)).astype(np.float32)
    expected, found = (
        onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"image": image})
        for graph in (model, to_float16(model))
    )
    for right, other in zip(expected, found, strict=True):
        assert other.dtype == np.float32
        assert 0 < np.abs(other - right).max() < 2**-10 * np.abs(right).max()


def test_tensorrt_takes_it(model: ModelProto) -> None:
    check_limits("two", to_float16(model))


def test_a_weight_beyond_float16_is_refused(model: ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((2, 2, 1, 1), 7e4, np.float32), "weight"))
    with pytest.raises(InputError, match="weight 'weight' has values beyond float16's range"):
        to_float16(model)


def test_scales_of_a_resize_stay_float32() -> None:
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "weight")
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    nodes = [
        onnx.helper.make_node("Conv", ["image", "weight"], ["small"]),
        onnx.helper.make_node("Resize", ["small", "", "scales"], ["large"], mode="nearest"),
        onnx.helper.make_node("Conv", ["large", "weight"], ["out"]),
    ]
    values = [
        onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, None, None]) for name in ("image", "out")
    ]
    graph = onnx.helper.make_graph(nodes, "resize", values[:1], values[1:], [weight, scales])
    half = to_float16(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10))
    assert {weight.name: weight.data_type for weight in half.graph.initializer} == {
        "scales": TensorProto.FLOAT,
        "weight_float16": TensorProto.FLOAT16,
    }
    found = onnxruntime.InferenceSession(half.SerializeToString()).run(
        None, {"image": np.ones((1, 1, 2, 2), np.float32)}
    )
    assert np.array_equal(found[0], np.ones((1, 1, 4, 4)))


def chain(*nodes: onnx.NodeProto, weights: tuple[TensorProto, ...] = ()) -> ModelProto:
    """Convolutions with something between them."""
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "weight")
    first = onnx.helper.make_node("Conv", ["image", "weight"], ["first"])
    last = onnx.helper.make_node("Conv", [nodes[-1].output[0], "weight"], ["out"])
    values = [
        onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, None, None]) for name in ("image", "out")
    ]
    graph = onnx.helper.make_graph([first, *nodes, last], "chain", values[:1], values[1:], [weight, *weights])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


def run(model: ModelProto, value: float) -> float:
    image = np.full((1, 1, 2, 2), value, np.float32)
    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": image})
    return float(found[0, 0, 0, 0])


def test_bounds_of_a_clip_saturate() -> None:
    most = numpy_helper.from_array(np.array(3.4e38, np.float32), "most")
    zero = numpy_helper.from_array(np.array(0, np.float32), "zero")
    model = chain(onnx.helper.make_node("Clip", ["first", "zero", "most"], ["clipped"]), weights=(zero, most))
    assert run(to_float16(model), 3.0) == 3.0
    assert run(to_float16(model), -3.0) == 0.0


def test_constants_are_rounded_when_they_are_written() -> None:
    large = onnx.helper.make_node(
        "Constant", [], ["large"], value=numpy_helper.from_array(np.array(1e5, np.float32), "value")
    )
    model = chain(large, onnx.helper.make_node("Mul", ["first", "large"], ["product"]))
    with pytest.raises(InputError, match="weight 'large' has values beyond float16's range"):
        to_float16(model)


def test_exponentials_between_convolutions_stay_float32() -> None:
    model = chain(onnx.helper.make_node("Exp", ["first"], ["power"]))
    half = to_float16(model)
    (exponential,) = [node for node in half.graph.node if node.op_type == "Exp"]
    assert list(exponential.input) == ["first"]
    assert run(half, 2.0) == pytest.approx(np.exp(2.0), rel=2**-10)


def test_a_condition_is_refused() -> None:
    value = onnx.helper.make_tensor_value_info("same", TensorProto.FLOAT, ["n", 1, None, None])
    branch = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["first"], ["same"])], "branch", [], [value])
    always = numpy_helper.from_array(np.array(True), "always")
    choice = onnx.helper.make_node("If", ["always"], ["chosen"], then_branch=branch, else_branch=branch)
    with pytest.raises(InputError, match="If"):
        to_float16(chain(choice, weights=(always,)))
