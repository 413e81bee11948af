"""OpenVINO against ONNX Runtime on the same graphs, and what it refuses."""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lnsdk import BackendUnavailable
from lnsdk.backends import BACKENDS
from lnsdk.backends.base import Graph, Signature
from lnsdk.bundle import Bundle
from tests.toy_bundle import write_toy_bundle

OPENVINO, ONNX = BACKENDS["openvino"], BACKENDS["onnx"]

SIGNATURE = Signature({"image": (None, 32, None, None), "unused": (None, 1)}, {"sum": (None, 32, None, None)})
HAS_BF16 = "bf16" in OPENVINO.precisions("cpu")


def convolution(rng: np.random.Generator) -> Graph:
    """A convolution that is worth bfloat16, with an input that nothing reads."""
    weight = numpy_helper.from_array(rng.normal(size=(32, 32, 3, 3)).astype(np.float32), "weight")
    node = helper.make_node("Conv", ["image", "weight"], ["sum"], pads=[1, 1, 1, 1])
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 32, "y", "x"]),
        helper.make_tensor_value_info("unused", TensorProto.FLOAT, ["n", 1]),
    ]
    output = helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["n", 32, "y", "x"])
    model = helper.make_model(
        helper.make_graph([node], "convolution", inputs, [output], [weight]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return Graph("convolution", SIGNATURE, {".onnx": model.SerializeToString()}.__getitem__)


def image(rng: np.random.Generator, batch: int) -> dict[str, np.ndarray]:
    values = rng.normal(size=(batch, 32, 8, 12)).astype(np.float32)
    return {"image": values, "unused": np.zeros((batch, 1), np.float32)}


@pytest.mark.parametrize("batch", [1, 2, 7, 8])
@pytest.mark.parametrize("writeable", [True, False])
def test_a_graph_gives_what_onnx_runtime_gives(batch: int, writeable: bool) -> None:
    rng = np.random.default_rng(0)
    graph = convolution(rng)
    inputs = image(rng, batch)
    inputs["image"].flags.writeable = writeable
    expected = ONNX.open(graph, "cpu", "fp32", 1).run(inputs)["sum"]
    found = OPENVINO.open(graph, "cpu", "fp32", 1).run(inputs)["sum"]
    assert np.allclose(found, expected, rtol=0, atol=1e-4)


def test_every_graph_of_a_detector_runs(bundle: Bundle) -> None:
    features = OPENVINO.open(bundle.graph("image"), "cpu", "fp32", 1).run(
        {"image": np.full((2, 3, 64, 64), 60, np.float32)}
    )
    expected = ONNX.open(bundle.graph("image"), "cpu", "fp32", 1).run(
        {"image": np.full((2, 3, 64, 64), 60, np.float32)}
    )
    assert list(features) == ["mid", "shallow", "deep"]
    for name, values in expected.items():
        assert np.allclose(features[name], values, rtol=1e-5, atol=1e-2)


def test_outputs_belong_to_the_caller() -> None:
    rng = np.random.default_rng(0)
    session = OPENVINO.open(convolution(rng), "cpu", "fp32", 1)
    first = session.run(image(rng, 1))["sum"]
    kept = first.copy()
    session.run(image(rng, 1))
    assert np.array_equal(first, kept)


def test_threads_have_requests_of_their_own() -> None:
    rng = np.random.default_rng(0)
    session = OPENVINO.open(convolution(rng), "cpu", "fp32", 2)
    asked = [image(rng, 1 + n % 3) for n in range(48)]
    expected = [session.run(inputs)["sum"] for inputs in asked]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda inputs: session.run(inputs)["sum"], asked))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bfloat16")
def test_bfloat16_rounds_and_float32_does_not() -> None:
    rng = np.random.default_rng(0)
    graph, inputs = convolution(rng), image(rng, 1)
    expected = ONNX.open(graph, "cpu", "fp32", 1).run(inputs)["sum"]
    found = OPENVINO.open(graph, "cpu", "bf16", 1).run(inputs)["sum"]
    gap = np.abs(found - expected).max() / np.abs(expected).max()
    assert 2**-12 < gap < 2**-6


def test_a_precision_that_the_engine_does_not_use_is_refused() -> None:
    graph = convolution(np.random.default_rng(0))
    pretended = Graph("convolution", SIGNATURE, lambda suffix: graph.read(".onnx"))
    with pytest.raises(BackendUnavailable, match="was to run in int8, but its layers run in f32"):
        OPENVINO.open(pretended, "cpu", "int8", None)


@pytest.mark.parametrize("precision", ["fp16", "fp64", "auto"])
def test_a_precision_that_it_does_not_have_is_refused(bundle: Bundle, precision: str) -> None:
    with pytest.raises(BackendUnavailable, match=f"openvino: computes in fp32 or .* got precision '{precision}'"):
        OPENVINO.open(bundle.graph("head"), "cpu", precision, None)


def test_there_is_no_other_device() -> None:
    assert OPENVINO.device("auto") == OPENVINO.device("cpu") == "cpu"
    with pytest.raises(BackendUnavailable, match="openvino: runs on the CPU only, got device 'cuda'"):
        OPENVINO.device("cuda")


def test_nothing_leaves_the_machine(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    OPENVINO.open(bundle.graph("head"), "cpu", "fp32", 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_a_forked_process_runs_and_deletes_what_it_inherits(tmp_path: Path, backend: str) -> None:
    program = """
import os, sys, numpy as np
from lnsdk.backends import BACKENDS
from lnsdk.bundle import read_bundle
bundle = read_bundle(sys.argv[1])
session, other = (BACKENDS[sys.argv[2]].open(bundle.graph("image"), "cpu", "fp32", 2) for _ in range(2))
inputs = {"image": np.full((1, 3, 64, 64), 90, np.float32)}
expected = session.run(inputs)
if os.fork() == 0:
    del other
    found = session.run(inputs)
    print(all(np.array_equal(found[name], expected[name]) for name in expected), flush=True)
    del session
    os._exit(0)
os.wait()
"""
    bundle = write_toy_bundle(tmp_path / "toy")
    found = subprocess.run([sys.executable, "-c", program, bundle, backend], capture_output=True, text=True, timeout=60)
    assert found.stdout == "True\n", found.stderr
