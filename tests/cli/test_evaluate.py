"""`lnsdk evaluate`: its help, and evaluations of files against figures by hand and those of official evaluators."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lnsdk.cli.__main__ import main
from lnsdk.cli.evaluate import EVALUATIONS

Cli = pytest.CaptureFixture[str]

POINTS = [0.125, 0.25, 0.5, 1, 2, 4, 8]


def box(x: float, size: float = 4) -> list[float]:
    """A cube of `size` voxels along each axis, the first of them x, 0, 0, in inclusive indices."""
    return [x, 0, 0, x + size - 1, size - 1, size - 1]


TRUTH: dict[str, Any] = {"a": [box(0), box(20)], "b": [box(0)], "c": []}
PREDICTIONS: dict[str, Any] = {
    "a": [[*box(0), 0.9], [*box(50), 0.8], [*box(20), 0.5]],
    "b": [[*box(0), 0.7], [*box(60), 0.6]],
    "c": [],
}


def save(folder: Path, predictions: object = PREDICTIONS, truth: object = TRUTH) -> list[str]:
    """Both files as arguments of the command, and the output folder."""
    for name, content in (("predictions", predictions), ("truth", truth)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return [str(folder / "predictions.json"), str(folder / "truth.json"), "-o", str(folder / "out")]


def froc(arguments: list[str], tmp_path: Path) -> Any:
    assert main(["evaluate", "froc", *arguments]) == 0
    return json.loads((tmp_path / "out/froc.json").read_text())


def refuse(arguments: list[str], capsys: Cli) -> str:
    assert main(["evaluate", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("lnsdk: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_help_lists_the_evaluations(capsys: Cli) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert list(EVALUATIONS) == ["lens", "froc", "luna16"]
    assert all(f"\n  {name:<6}  {evaluation.summary}\n" in text for name, evaluation in EVALUATIONS.items())


@pytest.mark.parametrize("name", EVALUATIONS)
def test_help_of_each_is_complete(capsys: Cli, name: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: lnsdk evaluate {name} " in text
    assert f"examples:\n  lnsdk evaluate {name} " in text
    assert "-o DIR, --output DIR" in text


@pytest.mark.parametrize("arguments", [[], ["coco"], ["-o", "out"]])
def test_which_evaluation_must_be_said(capsys: Cli, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *arguments])
    assert ended.value.code == 2
    assert "lnsdk evaluate: error: " in capsys.readouterr().err


def test_froc_by_hand(tmp_path: Path, capsys: Cli) -> None:
    """By falling score: hit, false positive, hit, false positive, hit; three lesions in three volumes."""
    document = froc(save(tmp_path), tmp_path)
    expected = [1 / 3, 1 / 3, 2 / 3, 1, 1, 1, 1]
    # 1/2 lies midway between 1/3 false positives, 2/3 found, and 2/3 false positives, where it is 2/3 as well
    np.testing.assert_allclose(document["sensitivity"], expected)
    assert document["false_positives"] == POINTS
    assert document["mean_sensitivity"] == pytest.approx(np.mean(expected))
    assert (document["volumes"], document["lesions"], document["overlap"]) == (3, 3, "iobb")
    lower, upper = np.transpose(document["interval_95"])
    assert (lower <= expected).all()
    assert (expected <= upper).all()
    assert (lower < upper).any()
    assert document["mean_interval_95"][0] < document["mean_sensitivity"] < document["mean_interval_95"][1]
    assert "by_type" not in document
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "3 volumes, 3 lesions, 3D IoBB of at least 0.3" in printed.out
    rows = [line.split() for line in printed.out.splitlines()]
    assert ["1/2", "0.667"] in [row[:2] for row in rows]
    assert ["mean", f"{np.mean(expected):.3f}"] in [row[:2] for row in rows]
    with Image.open(tmp_path / "out/froc.png") as picture:
        assert picture.width > 500


def test_froc_options(tmp_path: Path) -> None:
    """A detection of 5 voxels along each axis over a lesion of 4 has IoBB and IoU 64 / 125 = 0.512."""
    arguments = save(tmp_path, {"a": [[*box(0, 5), 0.9]]}, {"a": [box(0, 4)]})
    for overlap in ("iobb", "iou"):
        for threshold, found in (("0.512", 1.0), ("0.513", 0.0)):
            document = froc([*arguments, "--overlap", overlap, "--threshold", threshold], tmp_path)
            assert (document["mean_sensitivity"], document["threshold"]) == (found, float(threshold))
    # as continuous coordinates the sides are 4 and 3
    for threshold, found in (("0.421874", 1.0), ("0.421876", 0.0)):  # 27 / 64 = 0.421875
        document = froc([*arguments, "--boxes", "continuous", "--threshold", threshold], tmp_path)
        assert document["mean_sensitivity"] == found
    document = froc([*arguments, "--false-positives", "4,0.5", "--bootstraps", "0"], tmp_path)
    assert document["false_positives"] == [0.5, 4]
    assert (document["interval_95"], document["mean_interval_95"]) == ([[None, None]] * 2, [None, None])


def test_froc_with_a_seed(tmp_path: Path) -> None:
    arguments = [*save(tmp_path), "--bootstraps", "30"]
    first, same, other = (froc([*arguments, "--seed", seed], tmp_path)["mean_interval_95"] for seed in "112")
    assert first == same != other


def test_froc_by_type_and_size(tmp_path: Path, capsys: Cli) -> None:
    lesions = {
        "a": [
            {"box": box(0), "type": "[b]$cyst", "diameter_mm": 4},
            {"box": box(20), "type": "node", "diameter_mm": 35},
        ],
        "b": [box(0)],
        "c": [],
    }
    arguments = save(tmp_path, truth={"boxes": "inclusive", "volumes": lesions})
    document = froc(arguments, tmp_path)
    found = {name: curve["sensitivity"][0] for name, curve in document["by_type"].items()}
    assert found == {"[b]$cyst": 1, "node": 0, "unknown": 0}
    assert list(document["by_size"]) == ["under 6 mm", "30 mm and more", "unknown"]
    assert document["by_size"]["30 mm and more"]["lesions"] == 1
    printed = capsys.readouterr().out
    assert "[b]$cyst" in printed
    assert "30 mm and more" in printed


def test_froc_with_files_of_two_conventions(tmp_path: Path) -> None:
    """The truth's voxels 0 to 3 are 4 voxels long; said to be continuous, the same numbers are 3 long."""
    detected = {"boxes": "continuous", "volumes": {"a": [[-0.5, -0.5, -0.5, 3.5, 3.5, 3.5, 0.9]]}}
    arguments = [*save(tmp_path, detected, {"a": [box(0)]}), "--overlap", "iou", "--threshold", "1"]
    assert froc(arguments, tmp_path)["mean_sensitivity"] == 1


def test_volumes_without_detections_are_told(tmp_path: Path, capsys: Cli) -> None:
    detected = {"a": [[*box(0), 0.9]]}
    document = froc(save(tmp_path, detected), tmp_path)
    assert (document["volumes"], document["mean_sensitivity"]) == (3, pytest.approx(1 / 3))
    assert "note: 2 volumes ('b', 'c') of " in capsys.readouterr().err


def test_unlisted_volumes(tmp_path: Path, capsys: Cli) -> None:
    detected = {**PREDICTIONS, "d": [[*box(0), 1.0]], "e": [], "f": [], "g": []}
    arguments = save(tmp_path, detected)
    assert "holds 4 volumes ('d', 'e', 'f', ...) that" in refuse(["froc", *arguments], capsys)
    left_out = froc([*arguments, "--unlisted", "ignore"], tmp_path)
    assert "note: 4 volumes ('d', 'e', 'f', ...) left out" in capsys.readouterr().err
    assert left_out == froc(save(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("predictions", "truth", "options", "message"),
    [
        (TRUTH, PREDICTIONS, [], "are detections and truth swapped?"),
        (PREDICTIONS, {"a": [], "b": [], "c": []}, [], "holds no lesion"),
        (PREDICTIONS, {}, [], "holds no lesion"),
        ({"a": [[*box(0), float("nan")]]}, TRUTH, [], "expected 7 finite numbers"),
        ({"boxes": "continuous", "volumes": {}}, TRUTH, ["--boxes", "inclusive"], "says that its boxes are continuous"),
    ],
)
def test_froc_refuses(
    tmp_path: Path, capsys: Cli, predictions: object, truth: object, options: list[str], message: str
) -> None:
    assert message in refuse(["froc", *save(tmp_path, predictions, truth), *options], capsys)
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "options",
    [
        ["--threshold", "0"],
        ["--threshold", "1.1"],
        ["--threshold", "nan"],
        ["--overlap", "dice"],
        ["--boxes", "exclusive"],
        ["--false-positives", "1,x"],
        ["--false-positives", "-1"],
        ["--false-positives", "inf"],
        ["--bootstraps", "-1"],
    ],
)
def test_froc_refuses_options(tmp_path: Path, capsys: Cli, options: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "froc", *save(tmp_path), *options])
    assert ended.value.code == 2
    assert f"argument {options[0]}: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["froc", "luna16"])
def test_matplotlib_is_asked_for_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Cli, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    arguments = ["nowhere", "nowhere"] if name == "froc" else luna16_arguments(Path("nowhere"), Path("nowhere"))
    assert "pip install 'lnsdk[train]'" in refuse([name, *arguments, "-o", str(tmp_path / "out")], capsys)
    assert not (tmp_path / "out").exists()


def luna16_arguments(submission: Path, tables: Path) -> list[str]:
    return [
        str(submission),
        "--annotations",
        str(tables / "annotations.csv"),
        "--excluded",
        str(tables / "annotations_excluded.csv"),
        "--seriesuids",
        str(tables / "seriesuids.csv"),
    ]


def luna16_files(folder: Path, marks: list[str], series: str = "s\nt\n") -> list[str]:
    """A nodule in s, an excluded finding in t, and these marks."""
    finding, mark = (f"seriesuid,coordX,coordY,coordZ,{value}\n" for value in ("diameter_mm", "probability"))
    (folder / "annotations.csv").write_text(f"{finding}s,0,0,0,8\n")
    (folder / "annotations_excluded.csv").write_text(f"{finding}t,0,0,0,-1\n")
    (folder / "seriesuids.csv").write_text(series)
    (folder / "submission.csv").write_text(mark + "\n".join(marks))
    return ["luna16", *luna16_arguments(folder / "submission.csv", folder), "-o", str(folder / "out")]


def test_luna16_by_hand(tmp_path: Path, capsys: Cli) -> None:
    """Two scans: the false positive before the hit makes half a one per scan; the mark in t does not count."""
    arguments = luna16_files(tmp_path, ["s,50,0,0,0.9", "s,1,0,0,0.8", "t,0,0,4.9,0.95"])
    assert main(["evaluate", *arguments, "--bootstraps", "10"]) == 0
    document = json.loads((tmp_path / "out/froc.json").read_text())
    # up to 1/2 per scan nothing is found; there the curve rises at once, and counts with its upper end
    assert document["sensitivity"] == [0, 0, 1, 1, 1, 1, 1]
    assert document["mean_sensitivity"] == pytest.approx(5 / 7)
    assert (document["scans"], document["lesions"], document["counts"]["on_excluded"]) == (2, 1, 1)
    assert "2 scans, 1 nodules" in capsys.readouterr().out
    assert (tmp_path / "out/froc.png").exists()


def test_luna16_refuses(tmp_path: Path, capsys: Cli) -> None:
    arguments = luna16_files(tmp_path, ["z,0,0,0,0.9"])
    assert "candidates.series[0] is 'z', which is not in series" in refuse(arguments, capsys)
    assert main(["evaluate", *arguments, "--unlisted", "ignore"]) == 0
    assert json.loads((tmp_path / "out/froc.json").read_text())["counts"]["unlisted_candidates"] == 1
    capsys.readouterr()
    assert "probabilities[0] is nan" in refuse(luna16_files(tmp_path, ["s,0,0,0,nan"]), capsys)
    assert "must have no header" in refuse(luna16_files(tmp_path, [], "seriesuid\ns\n"), capsys)
    assert "must be a number, found 'x'" in refuse(luna16_files(tmp_path, ["s,x,0,0,1"]), capsys)


@pytest.mark.realdata
@pytest.mark.parametrize("overlap", ["iobb", "iou"])
def test_froc_is_the_official_evaluator(data_dir: Path, tmp_path: Path, overlap: str) -> None:
    folder = data_dir / "oracles/lens"
    expected = json.loads((folder / "expected.json").read_text())
    figures = expected["results"][overlap.upper()]
    arguments = [str(folder / "predictions.json"), str(folder / "ground_truth.json"), "--overlap", overlap]
    arguments += ["--threshold", str(figures["overlap_th"]), "--boxes", "inclusive", "-o", str(tmp_path / "out")]
    document = froc(arguments, tmp_path)
    assert (document["volumes"], document["lesions"]) == (expected["n_volumes"], expected["n_gt"])
    np.testing.assert_allclose(document["sensitivity"], figures["sensitivity"][:7], atol=1e-6, rtol=0)
    assert document["mean_sensitivity"] == pytest.approx(figures["mean_0.125_8"], abs=1e-6)
    everywhere = ",".join(map(str, figures["fp_per_volume"]))
    document = froc([*arguments, "--false-positives", everywhere, "--bootstraps", "0"], tmp_path)
    np.testing.assert_allclose(document["sensitivity"], figures["sensitivity"], atol=1e-6, rtol=0)


@pytest.mark.realdata
def test_luna16_is_the_official_script(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "oracles/luna16"
    arguments = luna16_arguments(folder / "submission.csv", folder / "tables")
    assert main(["evaluate", "luna16", *arguments, "-o", str(tmp_path / "out")]) == 0
    document = json.loads((tmp_path / "out/froc.json").read_text())
    points = json.loads((folder / "expected/operating_points.json").read_text())
    assert document["false_positives"] == points["fps_per_scan"]
    np.testing.assert_allclose(document["sensitivity"], points["sensitivity"], atol=1e-6, rtol=0)
    assert document["mean_sensitivity"] == pytest.approx(points["cpm"], abs=1e-6)
    counts = document["counts"]
    assert (counts["true_positives"], counts["false_positives"], counts["false_negatives"]) == (944, 4752, 242)
    assert (counts["on_excluded"], counts["doubles"], counts["candidates"]) == (2171, 341, 8208)
    # the script gives its bounds on a grid of 10,000 points: between two of them a step can lie
    band = np.loadtxt(folder / "expected/froc_submission_bootstrapping.csv", delimiter=",", skiprows=1)
    for point, ends in zip(document["false_positives"], document["interval_95"], strict=True):
        after = min(np.searchsorted(band[:, 0], point), len(band) - 1)
        around = band[max(after - 1, 0) : after + 1, 2:]
        assert (around.min(axis=0) - 1e-6 <= ends).all()
        assert (ends <= around.max(axis=0) + 1e-6).all()
