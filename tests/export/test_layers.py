"""What lies before the first, between, and after the last convolution."""

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from lnsdk.export.layers import after_last, before_first, first_heavy, last_heavy, name_nodes


@pytest.fixture
def model() -> ModelProto:
    return two_outputs()


def two_outputs() -> ModelProto:
    """A window, a convolution, then scores of a second convolution and features that skip it."""
    weight = numpy_helper.from_array(np.full((2, 2, 1, 1), 0.5, np.float32), "weight")
    half = numpy_helper.from_array(np.array(0.5, np.float32), "half")
    nodes = [
        helper.make_node("Mul", ["image", "half"], ["window"]),
        helper.make_node("Conv", ["window", "weight"], ["first"]),
        helper.make_node("Relu", ["first"], ["features"]),
        helper.make_node("Conv", ["features", "weight"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2, "y", "x"]) for name in VALUES]
    graph = helper.make_graph(nodes, "two", values[:1], values[1:], [weight, half])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model


VALUES = ("image", "features", "scores")


def outputs(nodes: list[onnx.NodeProto]) -> list[str]:
    return [node.output[0] for node in nodes]


def test_parts_of_a_graph(model: ModelProto) -> None:
    graph: GraphProto = model.graph
    assert outputs(before_first(graph)) == ["window"]
    assert outputs(after_last(graph)) == ["scores"]
    assert outputs(first_heavy(graph)) == ["first"]
    assert outputs(last_heavy(graph, ["scores"])) == ["logits"]
    assert outputs(last_heavy(graph, ["features"])) == ["first"]


def test_every_node_gets_a_name(model: ModelProto) -> None:
    model.graph.node[1].name = "mine"
    name_nodes(model.graph)
    assert [node.name for node in model.graph.node] == ["Mul_0", "mine", "Relu_2", "Conv_3", "Sigmoid_4"]
