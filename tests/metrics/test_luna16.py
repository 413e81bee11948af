"""The evaluation of LUNA16 against its rules by hand, a loop-only oracle, and the figures of the official script."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnsdk import InputError
from lnsdk.metrics import (
    FALSE_POSITIVES,
    Luna16Findings,
    Luna16Marks,
    luna16_froc,
    read_luna16_findings,
    read_luna16_marks,
    read_luna16_series,
)
from tests.metrics import loops
from tests.metrics.loops import Mark


def marks_of(rows: list[Mark]) -> Luna16Marks:
    return Luna16Marks([row[0] for row in rows], [row[1:4] for row in rows], [row[4] for row in rows])


def findings_of(rows: list[Mark]) -> Luna16Findings:
    return Luna16Findings([row[0] for row in rows], [row[1:4] for row in rows], [row[4] for row in rows])


NOTHING = findings_of([])


def test_a_point_at_a_step_is_rounded_as_in_the_script() -> None:
    """7 / 25 x 25 / 14 is a little above 1/2, so that at 1/2 the curve is still at the foot of its step."""
    scans = [f"scan{i}" for i in range(14)]
    marks: list[Mark] = [(scans[i % 14], 100.0 + i, 0, 0, 0.9 if i < 7 else 0.1) for i in range(25)]
    marks += [("scan0", 0, 0, 0, 0.5)]
    result = luna16_froc(marks_of(marks), findings_of([("scan0", 0, 0, 0, 8)]), NOTHING, scans, bootstraps=0)
    assert result.sensitivity.tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_every_rule_by_hand() -> None:
    nodules: list[Mark] = [("a", 0, 0, 0, 4), ("a", 100, 0, 0, -1), ("b", 0, 0, 0, 8), ("c", 5, 5, 5, 2)]
    excluded: list[Mark] = [("a", 200, 0, 0, 6), ("a", 100, 0, 0, 4)]
    marks: list[Mark] = [
        ("a", 2, 0, 0, 0.95),  # exactly at the radius: a false positive
        ("a", 1.9, 0, 0, 0.9),
        ("a", 0, 0, 0, 0.5),  # a double
        ("a", 104.9, 0, 0, 0.8),  # inside the 10 mm that a negative diameter stands for
        ("a", 105, 0, 0, 0.7),
        ("a", 100, 1, 0, 0.3),  # on an excluded finding as well, but on a nodule first
        ("a", 0, 0, 1.5, 0.2),
        ("a", 201, 0, 0, 0.99),  # on an excluded finding
        ("b", 4, 0, 0, 0.6),
    ]
    marks += [("c", 50.0 + i, 0.0, 0.0, 0.4) for i in range(98)]
    marks += [("c", 5, 5, 5, 0.45), *(("c", 0.0, 50.0, 0.0, 0.1) for _ in range(3))]  # 102 marks, the last three tied
    result = luna16_froc(marks_of(marks), findings_of(nodules), findings_of(excluded), ["a", "b", "c", "d"])
    assert dataclasses.asdict(result.counts) == {
        "candidates": 108,
        "nodules": 4,
        "true_positives": 3,
        "false_negatives": 1,
        "false_positives": 101,
        "on_excluded": 1,
        "doubles": 3,
        "over_limit": 3,
        "unlisted_candidates": 0,
        "unlisted_annotations": 0,
        "unlisted_excluded": 0,
    }
    assert (result.volumes, result.lesions) == (4, 4)
    np.testing.assert_array_equal(result.curve_thresholds, [np.inf, 0.95, 0.9, 0.8, 0.7, 0.6, 0.45, 0.4])
    np.testing.assert_array_equal(result.curve_false_positives, np.array([0, 1, 1, 1, 2, 3, 3, 101]) / 4)
    np.testing.assert_array_equal(result.curve_sensitivity, np.array([0, 0, 1, 2, 2, 2, 3, 3]) / 4)
    np.testing.assert_array_equal(result.sensitivity, [0, 0.5, 0.5, 0.75, 0.75, 0.75, 0.75])
    assert result.mean_sensitivity == result.sensitivity.mean()
    assert result.threshold_at(0.5) == 0.7


def test_a_mark_may_find_two_nodules() -> None:
    nodules: list[Mark] = [("a", 0, 0, 0, 6), ("a", 2, 0, 0, 6)]
    result = luna16_froc(marks_of([("a", 1, 0, 0, 0.5)]), findings_of(nodules), NOTHING, ["a"])
    assert (result.counts.true_positives, result.counts.doubles) == (2, 0)
    np.testing.assert_array_equal(result.sensitivity, np.ones(7))
    np.testing.assert_array_equal(result.band_lower, np.ones(10_000))


def test_points_on_a_straight_line_are_no_corners() -> None:
    marks: list[Mark] = [*(("a", 50.0, 0.0, 0.0, score) for score in (0.9, 0.8, 0.7, 0.6)), ("a", 0, 0, 0, 0.5)]
    result = luna16_froc(marks_of(marks), findings_of([("a", 0, 0, 0, 6)]), NOTHING, ["a"], bootstraps=0)
    np.testing.assert_array_equal(result.curve_thresholds[result.curve_corners], [np.inf, 0.9, 0.6, 0.5])
    np.testing.assert_array_equal(result.curve_false_positives, [0, 1, 2, 3, 4, 4])


def test_no_mark_at_all() -> None:
    result = luna16_froc(marks_of([]), findings_of([("a", 0, 0, 0, 6)]), NOTHING, ["a", "b"], bootstraps=20)
    np.testing.assert_array_equal(result.sensitivity, np.zeros(7))
    np.testing.assert_array_equal(result.band_upper, np.zeros(10_000))
    assert result.counts.false_negatives == 1


def test_without_bootstraps_there_is_no_band() -> None:
    result = luna16_froc(marks_of([]), findings_of([("a", 0, 0, 0, 6)]), NOTHING, ["a"], bootstraps=0)
    for values in (result.interval, result.mean_interval, result.band_mean, result.band_lower, result.band_upper):
        assert np.isnan(values).all()


def test_unlisted_rows_are_counted_when_they_are_ignored() -> None:
    rows: list[Mark] = [("z", 0, 0, 0, 1), ("a", 0, 0, 0, 1), ("y", 0, 0, 0, 1)]
    result = luna16_froc(marks_of(rows), findings_of(rows), findings_of(rows[2:]), ["a"], unlisted="ignore")
    counts = result.counts
    assert (counts.unlisted_candidates, counts.unlisted_annotations, counts.unlisted_excluded) == (2, 2, 1)
    assert (counts.candidates, counts.nodules, counts.true_positives) == (1, 1, 1)


places = st.tuples(
    st.sampled_from("abc"),
    st.integers(0, 6).map(float),
    st.integers(0, 2).map(float),
    st.just(0.0),
)
scored = st.builds(lambda place, score: (*place, score / 8), places, st.integers(0, 8))
sized = st.builds(lambda place, size: (*place, float(size)), places, st.integers(-1, 6))


@given(st.lists(scored, max_size=25), st.lists(sized, min_size=1, max_size=5), st.lists(sized, max_size=3))
def test_any_marks_are_the_oracle(marks: list[Mark], nodules: list[Mark], excluded: list[Mark]) -> None:
    series = ["a", "b", "c", "d"]
    result = luna16_froc(marks_of(marks), findings_of(nodules), findings_of(excluded), series, bootstraps=1, seed=3)
    counts, scans = loops.luna16(marks, nodules, excluded, series)
    assert {name: getattr(result.counts, name) for name in counts} == counts
    np.testing.assert_allclose(result.sensitivity, loops.luna16_sensitivity(scans, FALSE_POSITIVES), atol=1e-12)
    drawn = [scans[scan] for scan in np.random.RandomState(3).randint(4, size=4)]
    expected = loops.luna16_sensitivity(drawn, FALSE_POSITIVES)
    np.testing.assert_allclose(result.interval.T, [expected, expected], atol=1e-12)
    np.testing.assert_allclose(result.band_mean[[0, -1]], expected[[0, -1]], atol=1e-6)


GOOD: dict[str, Any] = {
    "candidates": marks_of([("a", 0, 0, 0, 0.5)]),
    "annotations": findings_of([("a", 0, 0, 0, 6)]),
    "excluded": NOTHING,
    "series": ["a"],
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"candidates": marks_of([("a", 0, 0, 0, 1), ("z", 0, 0, 0, 1)])}, r"candidates.series\[1\] is 'z', .*ignore"),
        ({"annotations": findings_of([("z", 0, 0, 0, 1)])}, r"annotations.series\[0\] is 'z'"),
        ({"excluded": findings_of([("z", 0, 0, 0, 1)])}, r"excluded.series\[0\] is 'z'"),
        ({"candidates": marks_of([("a", 0, 0, 0, np.nan)])}, r"candidates.probabilities\[0\] is nan"),
        ({"candidates": marks_of([("a", 0, np.inf, 0, 1)])}, r"candidates.positions_mm\[0, 1\] is inf"),
        ({"annotations": findings_of([("a", 0, 0, 0, np.nan)])}, r"annotations.diameters_mm\[0\] is nan"),
        ({"candidates": Luna16Marks(["a"], [[0, 0]], [1])}, r"candidates.positions_mm must have shape \(1, 3\)"),
        ({"candidates": Luna16Marks(["a"], [], [])}, r"candidates.positions_mm must have shape \(1, 3\)"),
        ({"candidates": Luna16Marks(["a"], [[0, 0, 0]], [1, 2])}, r"candidates.probabilities must have shape \(1,\)"),
        ({"annotations": NOTHING}, "annotations must hold a nodule"),
        ({"series": []}, "series must list at least one scan"),
        ({"series": ["a", "b", "a"]}, r"series\[2\] is listed already as series\[0\]"),
        ({"unlisted": "drop"}, "unlisted must be"),
        ({"bootstraps": -1}, "bootstraps must be"),
    ],
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        luna16_froc(**(GOOD | arguments))


def test_files_are_read(tmp_path: Path) -> None:
    submission = tmp_path / "submission.csv"
    submission.write_text("probability,seriesuid,coordZ,coordY,coordX,note\r\n.5,a,3,2,1,x\r\n\r\n1e-3,b,6,5,4,y\r\n")
    marks = read_luna16_marks(submission)
    assert marks.series == ["a", "b"]
    np.testing.assert_array_equal(marks.positions_mm, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(marks.probabilities, [0.5, 0.001])
    (tmp_path / "annotations.csv").write_text("\ufeffseriesuid,coordX,coordY,coordZ,diameter_mm\n", encoding="utf-8")
    findings = read_luna16_findings(str(tmp_path / "annotations.csv"))
    assert np.shape(findings.positions_mm) == (0, 3)
    (tmp_path / "seriesuids.csv").write_bytes(b"a\r\nb\r\n\r\n")
    assert read_luna16_series(tmp_path / "seriesuids.csv") == ["a", "b"]


HEADER = "seriesuid,coordX,coordY,coordZ,probability"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "lacks the column seriesuid"),
        (b"seriesuid,coordX,coordY,coordZ,score\n", "lacks the column probability"),
        (f"{HEADER}\na,1,2,3,0.5\nb,1,x,3,0.5\n".encode(), "row 2: coordY must be a number, found 'x'"),
        (f"{HEADER}\na,1,2,3\n".encode(), "row 1: expected 5 fields, found 4"),
        (b"\xff\xfe", "is no CSV file in UTF-8"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "submission.csv").write_bytes(text)
    with pytest.raises(InputError, match=message) as caught:
        read_luna16_marks(tmp_path / "submission.csv")
    assert caught.value.reason == "bad-csv"


@pytest.mark.parametrize(("text", "message"), [("", "is empty"), ("seriesuid\na\n", "must have no header")])
def test_bad_series_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "seriesuids.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_luna16_series(tmp_path / "seriesuids.csv")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*nowhere\.csv") as caught:
        read_luna16_marks(tmp_path / "nowhere.csv")
    assert caught.value.reason == "missing-path"


@pytest.mark.realdata
def test_agrees_with_the_official_script(data_dir: Path) -> None:
    folder = data_dir / "oracles" / "luna16"
    result = luna16_froc(
        read_luna16_marks(folder / "submission.csv"),
        read_luna16_findings(folder / "tables/annotations.csv"),
        read_luna16_findings(folder / "tables/annotations_excluded.csv"),
        read_luna16_series(folder / "tables/seriesuids.csv"),
    )
    expected = folder / "expected"
    counts = result.counts
    assert (counts.true_positives, counts.false_positives, counts.false_negatives) == (944, 4752, 242)
    assert (counts.candidates, counts.nodules, counts.on_excluded, counts.doubles) == (8208, 1186, 2171, 341)
    points = json.loads((expected / "operating_points.json").read_text())
    np.testing.assert_allclose(result.sensitivity, points["sensitivity"], atol=1e-6, rtol=0)
    assert result.mean_sensitivity == pytest.approx(points["cpm"], abs=1e-6)
    curve = np.stack([result.curve_false_positives, result.curve_sensitivity, result.curve_thresholds], axis=1)
    curve = curve[result.curve_corners]
    official = np.loadtxt(expected / "froc_submission.txt", delimiter=",")
    np.testing.assert_allclose(curve, official, atol=1e-6, rtol=0)
    band = np.stack([result.band_false_positives, result.band_mean, result.band_lower, result.band_upper], axis=1)
    official = np.loadtxt(expected / "froc_submission_bootstrapping.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(band, official, atol=1e-6, rtol=0)
