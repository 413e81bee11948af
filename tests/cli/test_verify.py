import json
import re
from pathlib import Path

import numpy as np
import pytest

from lnsdk.bundle import read_bundle
from lnsdk.cli.__main__ import main
from lnsdk.phantom import write_series
from lnsdk.volume import Volume
from tests.toy_bundle import phantom, write_toy_bundle


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ct")
    voxels = phantom((9, 90, 100), (1.0, 1.0, 2.0), (50.2, 44.9, 4.0))
    write_series(Volume(voxels, np.diag([1.0, 1.0, 2.0, 1.0])), folder)
    return folder


def test_engines_are_compared(toy: Path, ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["--backend", "openvino", "--precision", "fp32", "int8", "--simulated", "0"]
    assert main(["verify", str(toy), "--on", str(ct), "-o", str(tmp_path), *wanted]) == 0
    text = capsys.readouterr().out
    assert re.search(r"openvino cpu fp32 +passed", text)
    assert "openvino cpu int8 missing: the bundle has no models/image.int8.onnx" in text
    assert all(len(line) <= 80 for line in text.splitlines() if "written to" not in line and "missing" not in line)
    document = json.loads((tmp_path / "verification.json").read_text())
    assert document["passed"]
    assert document["volumes"] == ["CT 1"]


def test_a_failure_is_an_exit_code(toy: Path, ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = read_bundle(toy).read
    files = {f"models/{name}.int8.onnx": content(f"models/{name}.onnx") for name in ("image", "fuse")}
    bundle = write_toy_bundle(tmp_path / "toy", files)
    wanted = ["--backend", "openvino", "--precision", "int8", "--device", "cpu", "--simulated", "0"]
    assert main(["verify", str(bundle), "--on", str(ct), *wanted]) == 1
    assert "openvino cpu int8 failed: openvino: graph 'image' was to run in int8" in capsys.readouterr().out


def test_precisions_are_added(toy: Path, ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["--precision", "fp16", "--verify-on", str(ct), "--simulated", "0"]
    assert main(["export", "--bundle", str(toy), "-o", str(tmp_path / "lower"), *wanted]) == 0
    assert "fp16 was not compared: no engine of this machine computes in it" in capsys.readouterr().out
    assert "models/image.fp16.onnx" in read_bundle(tmp_path / "lower").files


def test_int8_needs_known_lesions(toy: Path, ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["--precision", "int8", "--verify-on", str(ct), "--simulated", "0"]
    assert main(["export", "--bundle", str(toy), "-o", str(tmp_path / "lower"), *wanted]) == 1
    assert "int8 needs CTs whose lesions are known: ask for simulated ones" in capsys.readouterr().err


def test_a_refused_precision_is_an_exit_code(
    toy: Path, ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lnsdk.export.precisions.to_int8", lambda model, feeds: model)
    wanted = ["--precision", "int8", "--verify-on", str(ct), "--simulated", "0"]
    assert main(["export", "--bundle", str(toy), "-o", str(tmp_path / "lower"), *wanted]) == 1
    assert "lnsdk: the gate refused: openvino cpu int8: openvino: graph" in capsys.readouterr().err
    assert not (tmp_path / "lower").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["export", "--precision", "int8", "-o", "out"], "int8 takes the ranges of its activations from real slices"),
        (["verify", "--simulated", "0"], "there is no CT to verify on"),
    ],
)
def test_what_lacks_is_told(
    toy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lnsdk.bundle.DEFAULT_BUNDLE", toy)
    assert main(arguments) == 2
    assert expected in capsys.readouterr().err


def test_a_precision_needs_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--precision", "int8"])
    assert "--precision needs the folder of the bundle that is written: --output" in capsys.readouterr().err
