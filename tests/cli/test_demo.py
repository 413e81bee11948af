import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lnsdk import Detector, read
from lnsdk.cli import demo
from lnsdk.cli.__main__ import main
from tests.test_results import LESION


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "SLICES", 16)
    monkeypatch.setattr(demo, "SPACING", (0.9, 0.9, 5.0))


def test_the_demo_leaves_all_it_promises(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "-o", str(tmp_path), "--bundle", str(toy), "--lesions", "4", "--seed", "1"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "dicom",
        "known_lesions.json",
        "demo.png",
        "detections.json",
        "detections.csv",
        "detections.png",
    }
    volume = read(tmp_path / "dicom")
    assert volume.shape[0] == 16
    assert volume.warnings == ()
    known = json.loads((tmp_path / "known_lesions.json").read_text())
    assert 0 < len(known["lesions"]) <= 4
    assert known["box_convention"].startswith("x1, y1, z1, x2, y2, z2")
    with Image.open(tmp_path / "demo.png") as picture:
        assert min(picture.size) > 400
    text = capsys.readouterr().out
    assert f"of {len(known['lesions'])} found" in text
    assert "in all: read" in text


def test_a_known_lesion_that_is_found_is_told(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A detector that answers with one known box and one that is nowhere near it."""
    answer = Detector.__call__

    def known_and_wrong(self: Detector, *arguments: object, **options: object) -> object:
        result = answer(self, *arguments, **options)  # type: ignore[arg-type]
        truth = json.loads((tmp_path / "known_lesions.json").read_text())["lesions"][0]
        found = replace(LESION, box=tuple(truth["box"]), score=0.875)
        wrong = replace(found, box=(0.0, 0.0, 0.0, 3.0, 3.0, 1.0), score=0.625)
        return replace(result, lesions=(found, wrong))

    monkeypatch.setattr(Detector, "__call__", known_and_wrong)
    assert main(["demo", "-o", str(tmp_path), "--bundle", str(toy), "--lesions", "2"]) == 0
    text = capsys.readouterr().out
    assert "known lesions: 1 of " in text
    assert "0.875" in text
    assert "false positives: 1" in text
    assert "0.625" in text


@pytest.mark.parametrize("seed", ["-1", "x", "1.5"])
def test_a_wrong_seed_is_named(tmp_path: Path, seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "-o", str(tmp_path), "--seed", seed])
    assert ended.value.code == 2
    assert f"argument --seed: must be a whole number of at least 0, got {seed!r}" in capsys.readouterr().err
