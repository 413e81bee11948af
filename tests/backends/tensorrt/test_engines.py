"""Engines that are built and run, only where NVIDIA's library, pycuda and a GPU are: ``pytest -m tensorrt``."""

from pathlib import Path

import numpy as np
import pytest

from lnsdk import Detector, Volume
from lnsdk.backends import BACKENDS
from lnsdk.bundle import read_bundle
from lnsdk.phantom import chest_phantom, draw_lesions, insert_lesions
from lnsdk.pipelines.settings import read_settings
from lnsdk.verification import check_lesions
from tests.toy_bundle import phantom, write_toy_bundle

pytestmark = pytest.mark.tensorrt


@pytest.fixture(params=["tensorrt", "tensorrt-lean"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    reason = BACKENDS[name].why_unavailable()
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    monkeypatch.setenv("LNSDK_CACHE", str(tmp_path / "cache"))
    return name


def test_the_toy_finds_what_it_finds_on_the_cpu(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_toy_bundle(tmp_path / "toy")
    spacing = (0.8, 0.8, 2.0)
    voxels = phantom((40, 160, 176), spacing, (60.0, 90.0, 20.0))
    volume = Volume(voxels, np.diag([*spacing, 1.0]))
    detector = Detector(bundle, backend=backend, threshold=0.0)
    found = detector(volume)
    expected = Detector(bundle, backend="onnx", threshold=0.0)(volume)
    assert expected.lesions
    check_lesions(expected, found, 0.5)
    assert found.provenance.device == "cuda"

    def refuse(*arguments: object) -> None:
        raise AssertionError("an engine was built that is in the cache")

    monkeypatch.setattr("lnsdk.backends.tensorrt.build", refuse)
    check_lesions(found, Detector(bundle, backend=backend, threshold=0.0)(volume), 0.5)


def test_the_embedded_model_finds_what_it_finds_on_the_cpu(backend: str) -> None:
    phantom = chest_phantom(3, slices=24, spacing=(0.75, 0.75, 3.0))
    random = np.random.default_rng(3)
    volume, _ = insert_lesions(phantom.volume, draw_lesions(phantom.volume, phantom.organs, 4, random), random)
    expected, found = (Detector(backend=name, threshold=0.0)(volume) for name in ("onnx", backend))
    assert expected.lesions
    check_lesions(expected, found, read_settings(read_bundle()).operating_point)
