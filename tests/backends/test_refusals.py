"""Graphs that are not what their bundle promises, in both engines that read ONNX."""

from pathlib import Path

import pytest

from lnsdk import InputError
from lnsdk.backends import BACKENDS, Backend
from lnsdk.bundle import read_bundle
from tests.toy_bundle import SIGNATURES, write_bundle, write_toy_bundle

NAMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]


def test_a_file_that_is_no_network_is_refused(tmp_path: Path, backend: Backend) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "toy", {"models/image.onnx": b"\x08\x0a"}))
    with pytest.raises(InputError, match=f"{NAMES[backend.name]} cannot load graph 'image'") as caught:
        backend.open(bundle.graph("image"), "cpu", "fp32", None)
    assert caught.value.reason == "bundle-graph"
    assert "\n" not in str(caught.value)


def test_a_graph_with_other_tensors_is_refused(tmp_path: Path, backend: Backend) -> None:
    graphs = SIGNATURES | {"head": SIGNATURES["head"] | {"outputs": {"scores": [None, None, 2]}}}
    bundle = read_bundle(write_toy_bundle(tmp_path / "toy", graphs=graphs))
    with pytest.raises(InputError, match="graph 'head' has outputs scores, offsets where its bundle promises scores"):
        backend.open(bundle.graph("head"), "cpu", "fp32", None)


def test_a_graph_with_another_size_is_refused(tmp_path: Path, backend: Backend) -> None:
    graphs = SIGNATURES | {"image": SIGNATURES["image"] | {"inputs": {"image": [None, 5, None, None]}}}
    bundle = read_bundle(write_toy_bundle(tmp_path / "toy", graphs=graphs))
    with pytest.raises(InputError, match="'image' of shape \\(any, 3, any, any\\) where its bundle promises"):
        backend.open(bundle.graph("image"), "cpu", "fp32", None)
