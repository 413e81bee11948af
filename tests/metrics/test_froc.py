"""FROC against curves computed by hand, and against the evaluator of the LENS test set."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lnsdk.metrics import FALSE_POSITIVES, froc, froc_by_group
from lnsdk.metrics.froc import Overlap

Box = list[float]

UNIT: Box = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]


def cube(x: float, size: float = 1.0) -> Box:
    """A cube with its lower corner at (x, 0, 0)."""
    return [x, 0.0, 0.0, x + size, size, size]


def pair(*detections: tuple[Box, float]) -> tuple[list[Box], list[float]]:
    """Boxes and scores from (box, score) tuples."""
    return [box for box, _ in detections], [score for _, score in detections]


def test_curve_by_hand() -> None:
    # two volumes, three lesions; by falling score: hit, false positive, hit, false positive, hit
    predictions = [
        pair((cube(0), 0.9), (cube(50), 0.8), (cube(10), 0.5)),
        pair((cube(0), 0.7), (cube(60), 0.6)),
    ]
    truths = [[cube(0), cube(10)], [cube(0)]]
    result = froc(predictions, truths, false_positives=(0, 0.25, 0.5, 0.75, 1, 8), bootstraps=0)
    np.testing.assert_array_equal(result.curve_thresholds, [0.9, 0.8, 0.7, 0.6, 0.5])
    np.testing.assert_array_equal(result.curve_false_positives, [0, 0.5, 0.5, 1, 1])
    np.testing.assert_allclose(result.curve_sensitivity, [1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])
    np.testing.assert_allclose(result.sensitivity, [1 / 3, 1 / 3, 2 / 3, 2 / 3, 1, 1])
    assert result.mean_sensitivity == pytest.approx(result.sensitivity.mean())
    assert (result.lesions, result.volumes) == (3, 2)
    assert np.isnan(result.interval).all()
    assert np.isnan(result.mean_interval).all()


def test_sensitivity_is_zero_left_of_the_curve() -> None:
    predictions = [pair((cube(50), 0.9), (cube(0), 0.8))]
    result = froc(predictions, [[UNIT]], false_positives=(0.5, 1), bootstraps=0)
    np.testing.assert_array_equal(result.sensitivity, [0, 1])


def test_one_detection_may_hit_several_lesions() -> None:
    both = [0.0, 0.0, 0.0, 2.0, 1.0, 1.0]
    result = froc([pair((both, 0.9))], [[cube(0), cube(1)]], bootstraps=0)
    np.testing.assert_array_equal(result.sensitivity, np.ones(7))


def test_second_hit_is_neither_true_nor_false() -> None:
    predictions = [pair((UNIT, 0.9), (UNIT, 0.8), (UNIT, 0.7))]
    result = froc(predictions, [[UNIT, cube(40)]], bootstraps=0)
    np.testing.assert_array_equal(result.curve_false_positives, [0])
    np.testing.assert_array_equal(result.sensitivity, np.full(7, 0.5))


@pytest.mark.parametrize(("overlap", "found"), [("iobb", 1.0), ("iou", 0.0)])
def test_iobb_divides_by_the_detected_box(overlap: Overlap, found: float) -> None:
    small, large = [pair((UNIT, 0.9))], [[cube(0, size=10.0)]]
    assert froc(small, large, overlap=overlap, bootstraps=0).mean_sensitivity == found


def test_overlap_at_the_threshold_is_a_hit() -> None:
    half = [0.5, 0.0, 0.0, 1.5, 1.0, 1.0]
    assert froc([pair((half, 0.9))], [[UNIT]], threshold=0.5, bootstraps=0).mean_sensitivity == 1
    assert froc([pair((half, 0.9))], [[UNIT]], threshold=0.51, bootstraps=0).mean_sensitivity == 0


def test_equal_scores_make_one_point_whatever_their_order() -> None:
    one = froc([pair((UNIT, 0.5), (cube(50), 0.5))], [[UNIT]], bootstraps=0)
    other = froc([pair((cube(50), 0.5), (UNIT, 0.5))], [[UNIT]], bootstraps=0)
    np.testing.assert_array_equal(one.curve_false_positives, [1])
    np.testing.assert_array_equal(one.curve_sensitivity, [1])
    np.testing.assert_array_equal(one.sensitivity, other.sensitivity)


def test_detections_to_ignore_are_not_false_positives() -> None:
    region = [100.0, 0.0, 0.0, 110.0, 10.0, 10.0]
    center_inside = [103.0, 3.0, 3.0, 120.0, 4.0, 4.0]
    touching = [109.5, 0.0, 0.0, 119.5, 1.0, 1.0]  # a twentieth of it is inside, its centre is not
    a_third_inside = [109.0, 0.0, 0.0, 111.9, 1.0, 1.0]
    predictions = [pair((center_inside, 0.9), (touching, 0.8), (a_third_inside, 0.7), (UNIT, 0.6))]
    result = froc(predictions, [[UNIT]], ignore=[[region]], bootstraps=0)
    np.testing.assert_array_equal(result.curve_thresholds, [0.8, 0.6])
    np.testing.assert_array_equal(result.curve_false_positives, [1, 1])


def test_a_hit_counts_even_beside_a_box_to_ignore() -> None:
    result = froc([pair((UNIT, 0.9))], [[UNIT]], ignore=[[cube(0.2)]], bootstraps=0)
    assert result.mean_sensitivity == 1


def test_no_detection_at_all() -> None:
    result = froc([([], []), ([], [])], [[UNIT], []], bootstraps=10)
    np.testing.assert_array_equal(result.sensitivity, np.zeros(7))
    np.testing.assert_array_equal(result.mean_interval, [0, 0])
    assert result.threshold_at(1) == np.inf


def test_boxes_in_a_plane() -> None:
    result = froc([([[0, 0, 2, 2]], [0.5])], [np.array([[0, 0, 2, 2]], np.float32)], ignore=[[]], bootstraps=0)
    assert result.mean_sensitivity == 1


def test_threshold_at_an_operating_point() -> None:
    predictions = [pair((cube(50), 0.9), (UNIT, 0.8), (cube(60), 0.7)), pair((cube(50), 0.6))]
    result = froc(predictions, [[UNIT], []], bootstraps=0)
    assert result.threshold_at(0.4) == np.inf
    assert result.threshold_at(0.5) == 0.8
    assert result.threshold_at(1) == 0.7
    assert result.threshold_at(8) == 0.6


def test_groups_share_thresholds_and_add_up() -> None:
    rng = np.random.default_rng(3)
    truths = [[cube(x) for x in rng.choice(40, 4, replace=False) * 2.0] for _ in range(12)]
    predictions = [
        pair(*((cube(x), s) for x, s in zip(rng.choice(60, 9) * 2.0, rng.random(9), strict=True))) for _ in range(12)
    ]
    groups = [["small", "large", "large", "small"]] * 12
    overall = froc(predictions, truths, bootstraps=0)
    parts = froc_by_group(predictions, truths, groups, bootstraps=5)
    assert list(parts) == ["small", "large"]
    assert sum(part.lesions for part in parts.values()) == overall.lesions
    weighted = sum(part.sensitivity * part.lesions for part in parts.values()) / overall.lesions
    np.testing.assert_allclose(weighted, overall.sensitivity)
    np.testing.assert_array_equal(parts["small"].curve_false_positives, overall.curve_false_positives)


def test_bootstrap_resamples_volumes() -> None:
    # ten volumes with one lesion each, five of them found: a resample finds Binomial(10, 0.5) of 10
    predictions = [pair((UNIT, 0.9)) if v < 5 else ([], []) for v in range(10)]
    result = froc(predictions, [[UNIT]] * 10, bootstraps=2000)
    assert result.mean_sensitivity == 0.5
    np.testing.assert_allclose(result.mean_interval, [0.2, 0.8])
    np.testing.assert_allclose(result.interval, [[0.2, 0.8]] * len(FALSE_POSITIVES))
    again = froc(predictions, [[UNIT]] * 10, bootstraps=2000)
    np.testing.assert_array_equal(result.interval, again.interval)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("detections", [0, 1, 30])
def test_a_resample_is_the_curve_of_the_volumes_drawn(detections: int, ties: bool) -> None:
    rng = np.random.default_rng(5)
    points = (0.0, 0.07, 0.5, 1.0, 2.3, 1e6)
    truths = [[cube(x * 4.0) for x in range(v % 3)] for v in range(20)]
    scores = rng.random((20, detections))
    predictions = [
        pair(*zip((cube(x * 4.0) for x in rng.integers(0, 40, detections)), row.round(1 if ties else 9), strict=True))
        for row in scores
    ]
    for seed in range(5):
        result = froc(predictions, truths, false_positives=points, bootstraps=1, seed=seed)
        drawn = np.random.default_rng(seed).integers(20, size=20)
        alone = froc([predictions[v] for v in drawn], [truths[v] for v in drawn], false_positives=points, bootstraps=0)
        np.testing.assert_allclose(result.interval.T, [alone.sensitivity, alone.sensitivity], atol=1e-12)
        np.testing.assert_allclose(result.mean_interval, alone.mean_sensitivity, atol=1e-12)


def test_resamples_do_not_depend_on_how_many_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = [pair((UNIT, 0.9), (cube(9), 0.8)), pair((cube(5), 0.85)), pair((UNIT, 0.7)), ([], [])]
    whole = froc(predictions, [[UNIT]] * 4, bootstraps=50)
    monkeypatch.setattr("lnsdk.metrics._resampling.CHUNK", 1)
    np.testing.assert_array_equal(froc(predictions, [[UNIT]] * 4, bootstraps=50).interval, whole.interval)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bootstraps": -1}, "bootstraps must be 0 or more"),
        ({"overlap": "dice"}, "overlap must be"),
        ({"threshold": 0}, "threshold must be"),
        ({"truths": []}, "truths must have one entry per volume"),
        ({"truths": [[]]}, "at least one lesion"),
        ({"truths": [[1, 2, 3]]}, r"truths\[0\] must be boxes of shape"),
        ({"ignore": []}, "ignore must have one entry per volume"),
        ({"predictions": [([UNIT], [])]}, "one score per box"),
        ({"predictions": [([UNIT], [np.nan])]}, "finite scores"),
        ({"false_positives": ()}, "false_positives must be"),
    ],
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {"predictions": [pair((UNIT, 0.9))], "truths": [[UNIT]]}
    with pytest.raises(ValueError, match=message):
        froc(**(usual | arguments))


@pytest.mark.parametrize(("groups", "message"), [([], "per volume"), ([["a", "b"]], r"groups\[0\]")])
def test_groups_refused(groups: list[list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        froc_by_group([pair((UNIT, 0.9))], [[UNIT]], groups)


@pytest.mark.realdata
@pytest.mark.parametrize("overlap", ["iobb", "iou"])
def test_agrees_with_the_official_evaluator(data_dir: Path, overlap: Overlap) -> None:
    folder = data_dir / "oracles" / "lens"
    truths, predictions, expected = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("ground_truth", "predictions", "expected")
    )
    widen = np.array([-0.5, -0.5, -0.5, 0.5, 0.5, 0.5])  # the files hold inclusive indices
    rows = [np.reshape(predictions[name], (-1, 7)) for name in truths]
    figures = expected["results"][overlap.upper()]
    result = froc(
        [(row[:, :6] + widen, row[:, 6]) for row in rows],
        [np.reshape(boxes, (-1, 6)) + widen for boxes in truths.values()],
        overlap=overlap,
        threshold=figures["overlap_th"],
        false_positives=figures["fp_per_volume"],
        bootstraps=0,
    )
    assert (result.volumes, result.lesions) == (expected["n_volumes"], expected["n_gt"])
    np.testing.assert_allclose(result.sensitivity, figures["sensitivity"], atol=1e-6, rtol=0)
    assert result.sensitivity[:7].mean() == pytest.approx(figures["mean_0.125_8"], abs=1e-6)


def test_clusters_are_drawn_together() -> None:
    predictions = [pair((UNIT, 0.9)), pair((cube(5), 0.8)), pair((UNIT, 0.7)), pair((cube(5), 0.6))]
    truths = [[UNIT]] * 4
    alone = froc(predictions, truths, bootstraps=50)
    named = froc(predictions, truths, bootstraps=50, clusters=["a", "b", "c", "d"])
    np.testing.assert_array_equal(alone.interval, named.interval)
    together = froc(predictions, truths, bootstraps=50, clusters=["a"] * 4)
    np.testing.assert_allclose(together.interval[:, 0], together.interval[:, 1])
    groups = froc_by_group(predictions, truths, [["x"]] * 4, bootstraps=50, clusters=["a"] * 4)
    np.testing.assert_allclose(groups["x"].mean_interval, together.mean_interval)
    with pytest.raises(ValueError, match="one entry per volume"):
        froc(predictions, truths, clusters=["a"])
