import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lnsdk import BackendUnavailable, InputError
from lnsdk.backends import BACKENDS
from lnsdk.backends.onnx import PRECISIONS
from lnsdk.bundle import Bundle, read_bundle
from tests.toy_bundle import SIGNATURES, write_bundle, write_toy_bundle

ONNX = BACKENDS["onnx"]


@pytest.mark.parametrize("batch", [1, 2, 7, 8])
def test_a_graph_runs(bundle: Bundle, batch: int) -> None:
    session = ONNX.open(bundle.graph("head"), "cpu", "fp32", 1)
    rois = np.tile(np.array([[0, 0, 8, 4], [0, 0, 24, 4]], np.float32), (batch, 1, 1))
    outputs = session.run({"features": np.zeros((batch, 9, 4, 4), np.float32), "rois": rois})
    assert list(outputs) == ["scores", "offsets"]
    assert np.allclose(outputs["scores"], np.tile([[0.5, 0.25], [0.75, 0.375]], (batch, 1, 1)))
    assert outputs["offsets"].shape == (batch, 2, 2, 4)


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "toy", {"models/image.onnx": b"\x08\x0a"}))
    with pytest.raises(InputError, match="ONNX Runtime cannot load graph 'image'") as caught:
        ONNX.open(bundle.graph("image"), "cpu", "fp32", None)
    assert caught.value.reason == "bundle-graph"
    assert "\n" not in str(caught.value)


def test_a_graph_with_other_tensors_is_refused(tmp_path: Path) -> None:
    graphs = SIGNATURES | {"head": SIGNATURES["head"] | {"outputs": {"scores": [None, None, 2]}}}
    bundle = read_bundle(write_toy_bundle(tmp_path / "toy", graphs=graphs))
    with pytest.raises(InputError, match="graph 'head' has outputs scores, offsets where its bundle promises scores"):
        ONNX.open(bundle.graph("head"), "cpu", "fp32", None)


def test_a_graph_with_another_size_is_refused(tmp_path: Path) -> None:
    graphs = SIGNATURES | {"image": SIGNATURES["image"] | {"inputs": {"image": [None, 5, None, None]}}}
    bundle = read_bundle(write_toy_bundle(tmp_path / "toy", graphs=graphs))
    with pytest.raises(InputError, match="'image' of shape \\(any, 3, any, any\\) where its bundle promises"):
        ONNX.open(bundle.graph("image"), "cpu", "fp32", None)


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
