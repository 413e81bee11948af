import os
from dataclasses import replace

import numpy as np
import pytest

from lnsdk import BackendUnavailable
from lnsdk.backends import BACKENDS
from lnsdk.backends.onnx import PRECISIONS
from lnsdk.bundle import Bundle

ONNX = BACKENDS["onnx"]


@pytest.mark.parametrize("batch", [1, 2, 7, 8])
def test_a_graph_runs(bundle: Bundle, batch: int) -> None:
    session = ONNX.open(bundle.graph("head"), "cpu", "fp32", 1)
    rois = np.tile(np.array([[0, 0, 8, 4], [0, 0, 24, 4]], np.float32), (batch, 1, 1))
    outputs = session.run({"features": np.zeros((batch, 9, 4, 4), np.float32), "rois": rois})
    assert list(outputs) == ["scores", "offsets"]
    assert np.allclose(outputs["scores"], np.tile([[0.5, 0.25], [0.75, 0.375]], (batch, 1, 1)))
    assert outputs["offsets"].shape == (batch, 2, 2, 4)


def test_cuda_needs_its_own_package(bundle: Bundle) -> None:
    assert ONNX.device("cpu") == "cpu"
    with pytest.raises(BackendUnavailable, match="onnx: this ONNX Runtime has no CUDA; install it with `pip install o"):
        ONNX.device("cuda")


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_a_precision_that_the_cpu_does_not_have_is_refused(bundle: Bundle, precision: str) -> None:
    with pytest.raises(BackendUnavailable, match=f"onnx: computes in fp32 on cpu here, got .*'{precision}'"):
        ONNX.open(bundle.graph("head"), "cpu", precision, None)


def test_float16_that_runs_in_float32_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a CPU does with every float16 graph."""
    monkeypatch.setitem(PRECISIONS, "cpu", ("fp32", "fp16"))
    graph = bundle.graph("image")
    session = ONNX.open(replace(graph, read=lambda suffix: graph.read(".onnx")), "cpu", "fp16", 1)
    session.run({"image": np.zeros((1, 3, 64, 64), np.float32)})
    with pytest.raises(BackendUnavailable, match="graph 'image' was to run in fp16, but its layers ran in float"):
        session.check_precision()


def test_a_fall_back_to_the_cpu_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("lnsdk.backends.onnx.PROVIDERS", {"cuda": ["CPUExecutionProvider"]})
    assert ONNX.device("cuda") == "cuda"
    with pytest.raises(BackendUnavailable, match="onnx: CUDA cannot be used"):
        ONNX.open(bundle.graph("head"), "cuda", "fp32", None)


def test_onnx_runtime_reports_to_nobody(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    told = []
    monkeypatch.setattr("onnxruntime.disable_telemetry_events", lambda: told.append("be quiet"))
    ONNX.open(bundle.graph("head"), "cpu", "fp32", 1)
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    assert told
