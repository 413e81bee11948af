import json
from pathlib import Path

import numpy as np
import pytest

from lnsdk import InputError
from lnsdk.bench.arrays import SLICES, read_array, write_phantom
from lnsdk.bench.measure import Failure, Timing, measure
from lnsdk.bench.report import to_markdown
from lnsdk.cli.__main__ import main
from lnsdk.verification import EngineChoice
from tests.toy_bundle import phantom

ONNX = EngineChoice("onnx", "cpu", "fp32")


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ct") / "ball.npz"
    voxels = phantom((9, 90, 100), (1.0, 1.0, 2.0), (50.2, 44.9, 4.0))
    np.savez(path, voxels=voxels, affine=np.diag([1.0, 1.0, 2.0, 1.0]))
    return path


def test_engines_are_timed(toy: Path, array: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["--bundle", str(toy), "--backend", "onnx", "openvino", "--precision", "fp32", "--repeats", "2"]
    assert main(["bench", str(array), "-o", str(tmp_path), "--no-gate", *wanted]) == 0
    document = json.loads((tmp_path / "bench.json").read_text())
    assert [entry["engine"]["backend"] for entry in document["timings"]] == ["onnx", "openvino"]
    for entry in document["timings"]:
        assert entry["slices"] == 9
        assert entry["lesions"] == 1
        assert len(entry["warm"]) == 2
        assert entry["load"] > 0 < entry["first"]
        assert entry["peak_bytes"] > 1e7
        assert {"resample", "image", "fuse", "head", "total"} <= entry["stages"].keys()
    assert document["machine"]["cores"] >= 1
    text = (tmp_path / "bench.md").read_text()
    assert "| onnx cpu fp32 |" in text
    assert text in capsys.readouterr().out


def test_the_gate_comes_with_it(toy: Path, array: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["--bundle", str(toy), "--backend", "openvino", "--precision", "fp32", "--repeats", "1"]
    assert main(["bench", str(array), "-o", str(tmp_path), "--simulated", "0", *wanted]) == 0
    assert json.loads((tmp_path / "bench.json").read_text())["gate"]["passed"]
    assert "| openvino cpu fp32 | passed |" in (tmp_path / "bench.md").read_text()
    text = capsys.readouterr().out
    assert "## CT 1, 9 slices" in text
    assert array.name not in text


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_an_array_file_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ct.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"ct\.npz is no \.npz file with voxels and affine"):
        read_array(tmp_path / "ct.npz")


def test_an_engine_that_is_not_there_is_told(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "-o", str(tmp_path), "--bundle", str(toy), "--backend", "torchscript"]) == 2
    assert "torchscript cpu fp32: the bundle has no models/image.ts" in capsys.readouterr().err


def test_an_engine_that_fails_is_told(toy: Path, tmp_path: Path) -> None:
    found = measure(toy, ONNX, "nowhere", tmp_path / "nowhere", 1, None)
    assert isinstance(found, Failure)
    assert "nowhere" in found.reason
    stages = {"image": 60.0, "fuse": 20.0}
    text = to_markdown([found, Timing(ONNX, "other", 10, 1, 0.5, 0.3, (0.2, 0.1), stages, 10**9, {})])
    assert f"## nowhere\n\n- onnx cpu fp32: {found.reason}" in text
    assert "## other, 10 slices\n\n| engine |" in text
    assert "| onnx cpu fp32 | 0.50 | 0.30 | 0.10 | 10.0 | 0 | 0 | 80 | 0 | 0 | 0 | 1.00 |" in text


@pytest.mark.slow
def test_the_simulated_ct(tmp_path: Path) -> None:
    assert read_array(write_phantom(tmp_path / "simulated.npz")).shape == (SLICES, 512, 512)
