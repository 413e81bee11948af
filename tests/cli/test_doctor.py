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


@pytest.mark.parametrize("error", [ImportError("no symbol x"), OSError("libcudart.so: cannot open shared object file")])
@pytest.mark.parametrize(("name", "module", "code"), [("torchscript", "torch", 0), ("onnx", "onnxruntime", 1)])
def test_an_engine_that_cannot_be_imported_is_told(
    toy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    module: str,
    code: int,
    error: Exception,
) -> None:
    def refuse(wanted: str) -> None:
        raise error

    monkeypatch.setattr("lnsdk.bundle.DEFAULT_BUNDLE", toy)
    monkeypatch.setattr(f"lnsdk.backends.{name}.import_module", refuse)
    assert main(["doctor"]) == code
    text = capsys.readouterr().out
    assert f"FAILED   backend {name}: {name}: {error}; install it with" in text
    assert f"ok       backend {name}" not in text


def test_a_model_that_gives_no_numbers_is_told(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError("graph 'head' gave NaN")

    monkeypatch.setattr("lnsdk.bundle.DEFAULT_BUNDLE", toy)
    monkeypatch.setattr("lnsdk.pipelines.detector.Detector.__call__", refuse)
    assert main(["doctor"]) == 1
    assert "FAILED   detection: graph 'head' gave NaN" in capsys.readouterr().out
