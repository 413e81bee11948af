"""Eight bits: which layers, and how close."""

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lnsdk.backends import BACKENDS, Graph, Signature
from lnsdk.export.int8 import Feed, to_int8

CHANNELS = 16
SIGNATURE = Signature({"image": (None, 3, None, None)}, {"centerness": (None, 1, None, None)})


@pytest.fixture
def model() -> onnx.ModelProto:
    """Four convolutions, the last of which gives scores."""
    rng = np.random.default_rng(0)
    sizes = [3, CHANNELS, CHANNELS, CHANNELS, 1]
    weights, nodes, read = [], [], "image"
    for n in range(4):
        values = rng.normal(size=(sizes[n + 1], sizes[n], 3, 3)) / np.sqrt(9 * sizes[n])
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"weight{n}"))
        nodes.append(helper.make_node("Conv", [read, f"weight{n}"], [f"conv{n}"], pads=[1, 1, 1, 1], name=f"conv{n}"))
        read = f"relu{n}"
        nodes.append(helper.make_node("Relu", [f"conv{n}"], [read]))
    nodes[-1] = helper.make_node("Sigmoid", ["conv3"], ["centerness"])
    values = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "y", "x"]),
        helper.make_tensor_value_info("centerness", TensorProto.FLOAT, ["n", 1, "y", "x"]),
    ]
    graph = helper.make_graph(nodes, "four", values[:1], values[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(made)
    return made


def image(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 1, (1, 3, 24, 24)).astype(np.float32)


def feeds() -> Iterator[Feed]:
    for seed in range(4):
        yield {"image": image(seed)}


def test_the_first_layer_and_that_of_the_scores_are_left(model: onnx.ModelProto) -> None:
    graph = to_int8(model, feeds()).graph
    rounded = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = {node.name: set(node.input) <= rounded for node in graph.node if node.op_type == "Conv"}
    assert convolutions == {"conv0": False, "conv1": True, "conv2": True, "conv3": False}
    assert {weight.data_type for weight in graph.initializer if "conv1" in weight.name or "weight1" in weight.name} >= {
        TensorProto.INT8
    }


def test_scores_are_close(model: onnx.ModelProto) -> None:
    feed = {"image": image(9)}
    expected, found = (
        onnxruntime.InferenceSession(graph.SerializeToString()).run(None, feed)[0]
        for graph in (model, to_int8(model, feeds()))
    )
    assert 0 < np.abs(found - expected).max() < 0.02


def test_openvino_computes_in_eight_bits(model: onnx.ModelProto) -> None:
    content = to_int8(model, feeds()).SerializeToString()
    graph = Graph("four", SIGNATURE, {".int8.onnx": content}.__getitem__)
    found = BACKENDS["openvino"].open(graph, "cpu", "int8", 1).run({"image": image(9)})["centerness"]
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": image(9)})[0]
    assert np.abs(found - expected).max() < 0.02
