from pathlib import Path

import pytest

from lnsdk.backends import BACKENDS as ENGINES
from lnsdk.backends import FILES
from lnsdk.cli.__main__ import main
from lnsdk.cli.engines import BACKENDS, PRECISIONS


def test_every_engine_and_precision_can_be_named() -> None:
    assert tuple(ENGINES) == BACKENDS
    assert set(FILES) == set(PRECISIONS)


@pytest.mark.parametrize("command", ["detect", "demo"])
def test_a_precision_that_an_engine_does_not_have_is_told(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    where = [str(tmp_path / "ct")] if command == "detect" else []
    wanted = ["--backend", "onnx", "--device", "cpu", "--precision", "bf16", "--bundle", str(toy)]
    assert main([command, *where, "-o", str(tmp_path / "out"), *wanted]) == 2
    assert "onnx: computes in fp32 on cpu here, got precision 'bf16'" in capsys.readouterr().err
