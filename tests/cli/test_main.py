import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

from lnsdk import BackendUnavailable, Detector, InputError
from lnsdk.cli.__main__ import COMMANDS, main
from tests.toy_bundle import FPR, phantom, write_toy_bundle


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = sitk.GetImageFromArray(phantom((12, 90, 100), (1, 1, 2), (50.2, 44.9, 6.0)))
    image.SetSpacing((1, 1, 2))
    path = tmp_path_factory.mktemp("ct") / "ct.nii.gz"
    sitk.WriteImage(image, str(path))
    return path


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert main([]) == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("lnsdk 0.")


def test_an_unknown_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find"]) == 2
    assert capsys.readouterr().err == (
        f"lnsdk: unknown command 'find'; it must be one of {', '.join(COMMANDS)} (see lnsdk --help)\n"
    )


@pytest.mark.parametrize("command", ["detect", "demo", "doctor"])
def test_help_is_complete(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: lnsdk {command}" in text
    assert f"examples:\n  lnsdk {command}" in text


@pytest.mark.parametrize(
    "error", [InputError("missing-slice", "slice 3\nis missing"), BackendUnavailable("slice 3 is missing")]
)
def test_what_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def refuse(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr("lnsdk.cli.doctor.main", refuse)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "lnsdk: slice 3 is missing\n"


def test_an_interruption_is_no_success(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("lnsdk.cli.doctor.main", interrupt)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == "lnsdk: interrupted\n"


def test_detect_writes_its_files(toy: Path, ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", str(ct), "-o", str(tmp_path / "a/b"), "--bundle", str(toy)]) == 0
    written = {path.name for path in (tmp_path / "a/b").iterdir()}
    assert written == {"detections.json", "detections.csv", "detections.png"}
    document = json.loads((tmp_path / "a/b/detections.json").read_text())
    assert document["lesions"][0]["center_mm"] == pytest.approx([50.2, 44.9, 12.0], abs=0.5)
    printed = capsys.readouterr()
    assert "score 0.50 or more" in printed.out
    assert "in all: read" in printed.out
    assert printed.err == ""


def test_detect_passes_its_options_on(toy: Path, ct: Path, tmp_path: Path) -> None:
    options = ["--threshold", "0", "--experts", "lung", "--crop", "none", "--threads", "1", "--backend", "onnx"]
    assert main(["detect", str(ct), "-o", str(tmp_path), "--bundle", str(toy), *options]) == 0
    document = json.loads((tmp_path / "detections.json").read_text())
    assert document["threshold"] == 0
    assert document["experts"] == ["lung"]
    assert document["crop"] == "none"


def test_detect_can_leave_false_positive_reduction_out(ct: Path, tmp_path: Path) -> None:
    bundle = write_toy_bundle(tmp_path / "toy", fpr=FPR)
    looked = []
    for name, options in (("with", []), ("without", ["--no-fpr"])):
        assert main(["detect", str(ct), "-o", str(tmp_path / name), "--bundle", str(bundle), *options]) == 0
        document = json.loads((tmp_path / name / "detections.json").read_text())
        looked.append((document["false_positive_reduction"], document["lesions"][0]["fpr_score"] is not None))
    assert looked == [(True, True), (False, False)]


@pytest.mark.parametrize(
    "options",
    [["--threshold", "2"], ["--threads", "0"], ["--experts", "spleen"], ["--crop", "head"], ["--backend", "x"]],
)
def test_detect_refuses_wrong_options(
    toy: Path, ct: Path, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["detect", str(ct), "-o", str(tmp_path), "--bundle", str(toy), *options])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_detect_refuses_what_it_cannot_read(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", str(tmp_path / "nowhere"), "-o", str(tmp_path / "out"), "--bundle", str(toy)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("lnsdk: ")
    assert message.count("\n") == 1


def test_detect_refuses_an_output_that_is_a_file(
    toy: Path, ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["detect", str(ct), "-o", str(tmp_path / "file"), "--bundle", str(toy)]) == 2
    assert capsys.readouterr().err.startswith(f"lnsdk: cannot write to {tmp_path / 'file'}: ")


def test_detect_refuses_an_output_that_cannot_be_written_before_it_detects(
    toy: Path, ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**options: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("lnsdk.cli.console.TemporaryFile", refuse)
    monkeypatch.setattr(Detector, "__call__", lambda *arguments, **options: pytest.fail("detected"))
    assert main(["detect", str(ct), "-o", str(tmp_path), "--bundle", str(toy)]) == 2
    assert capsys.readouterr().err == f"lnsdk: cannot write to {tmp_path}: Read-only file system\n"


@pytest.mark.parametrize("name", ["detections.json", "detections.csv", "detections.png"])
def test_detect_tells_a_full_disk(
    toy: Path, ct: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ordinary = io.open

    def refuse(file: object, *arguments: Any, **options: Any) -> Any:
        if str(file).endswith(name):
            raise OSError(28, "No space left on device")
        return ordinary(file, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    assert main(["detect", str(ct), "-o", str(tmp_path), "--bundle", str(toy)]) == 2
    assert capsys.readouterr().err == f"lnsdk: cannot write to {tmp_path}: No space left on device\n"


def test_the_program_ends_with_the_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lnsdk.cli.__main__", "detect", str(tmp_path / "nowhere"), "-o", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
