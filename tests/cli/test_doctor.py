from pathlib import Path

import pytest

from lnsdk.cli.__main__ import main


def test_a_working_installation_is_told(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lnsdk.bundle.DEFAULT_BUNDLE", toy)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for part in ("onnxruntime", "compiled kernels: ", "numba kernels: ", "default model: toy 1.0.0", "backend onnx"):
        assert part in text
    assert "FAILED" not in text


def test_a_missing_model_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lnsdk.bundle.DEFAULT_BUNDLE", tmp_path / "nowhere")
    assert main(["doctor"]) == 1
    assert "FAILED   default model: there is no bundle at " in capsys.readouterr().out


def test_a_missing_engine_says_what_to_install(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lnsdk.bundle.DEFAULT_BUNDLE", toy)
    monkeypatch.setattr("lnsdk.backends.torchscript.find_spec", lambda name: None)
    assert main(["doctor"]) == 0
    assert "missing  backend torchscript: no module named 'torch'; install it with" in capsys.readouterr().out
