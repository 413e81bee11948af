"""The metrics against the loops that a user would write: each must give the same figures."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import limits
from benchmarks.measuring import Case, Measure, Peer
from lnsdk.metrics import (
    FALSE_POSITIVE_RATIOS,
    FALSE_POSITIVES,
    Luna16Findings,
    Luna16Froc,
    Luna16Marks,
    froc,
    luna16_froc,
    pixel_froc,
    read_luna16_findings,
    read_luna16_marks,
    read_luna16_series,
)

Floats = NDArray[np.float64]

SCANS = 888


def _luna16_case() -> tuple[Luna16Marks, Luna16Findings, Luna16Findings, list[str]]:
    """As many scans, nodules, excluded findings and marks as in LUNA16 with a submission of its size."""
    random = np.random.default_rng(0)
    series = [f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{number:036d}" for number in range(SCANS)]

    def findings(count: int, diameters: Floats) -> tuple[NDArray[np.int64], Luna16Findings]:
        scans = random.integers(0, SCANS, count)
        places = random.uniform(-150, 150, (count, 3)).round(6)
        return scans, Luna16Findings([series[scan] for scan in scans], places, diameters)

    scans, nodules = findings(1186, random.uniform(3, 25, 1186).round(6))
    _, excluded = findings(35_192, np.full(35_192, -1.0))
    seen = random.random(1186) < 0.8
    marked = np.concatenate([scans[seen], random.integers(0, SCANS, 7200)])
    places = np.concatenate([np.asarray(nodules.positions_mm)[seen] + 0.5, random.uniform(-150, 150, (7200, 3))])
    scores = np.concatenate([random.beta(3, 2, seen.sum()), random.beta(1, 3, 7200)])
    return Luna16Marks([series[scan] for scan in marked], places.round(6), scores.round(6)), nodules, excluded, series


def _loop_luna16(
    marks: Luna16Marks, nodules: Luna16Findings, excluded: Luna16Findings, series: list[str], bootstraps: int
) -> tuple[Floats, Floats]:
    """Sensitivities, and the mean curve over the resamples: scan by scan, and draw by draw with NumPy."""
    scans = []
    columns = [
        (np.array(table.series), np.asarray(table.positions_mm), np.asarray(values))
        for table, values in (
            (marks, marks.probabilities),
            (nodules, nodules.diameters_mm),
            (excluded, excluded.diameters_mm),
        )
    ]
    for uid in series:
        (at, scores), (nodule_at, diameters), (excluded_at, excluded_diameters) = (
            (positions[names == uid], values[names == uid]) for names, positions, values in columns
        )
        on_nodule = _near(at, nodule_at, diameters)
        false = ~on_nodule.any(axis=1) & ~_near(at, excluded_at, excluded_diameters).any(axis=1)
        best = np.where(on_nodule, scores[:, None], -np.inf).max(axis=0, initial=-np.inf)
        is_nodule = np.repeat([True, False], [len(best), false.sum()])
        scans.append(np.stack([is_nodule, np.concatenate([best, scores[false]])]))
    band = np.linspace(FALSE_POSITIVES[0], FALSE_POSITIVES[-1], 10_000)
    draws = np.random.RandomState(0).randint(SCANS, size=(bootstraps, SCANS))
    samples = [_interpolated([scans[scan] for scan in draw], band) for draw in draws]
    return _interpolated(scans, np.array(FALSE_POSITIVES)), np.mean(samples, axis=0)


def _near(marks: Floats, findings: Floats, diameters: Floats) -> NDArray[np.bool_]:
    radii = np.where(diameters < 0, 10, diameters) / 2
    distances = ((marks[:, None] - findings[None]) ** 2).sum(axis=2)
    return np.asarray(distances < radii**2)


def _interpolated(scans: list[Floats], points: Floats) -> Floats:
    is_nodule, scores = np.concatenate(scans, axis=1)
    order = np.argsort(-scores, kind="stable")
    order = order[np.isfinite(scores[order])]
    last = np.append(np.diff(scores[order]) != 0, True)
    false = np.cumsum(1 - is_nodule[order])[last]
    found = np.cumsum(is_nodule[order])[last] / is_nodule.sum()
    rates = false / false[-1] * false[-1] / len(scans)
    return np.asarray(np.interp(points, np.append(0, rates), np.append(0, found)))


def test_luna16(measure: Measure) -> None:
    case = _luna16_case()
    marks = len(case[0].series)
    answers = measure(
        Case(
            name="luna16_froc",
            size=f"{marks} marks, 50 resamples",
            count=marks,
            unit="mark",
            ours=lambda: luna16_froc(*case, bootstraps=50),
            peers=[Peer("NumPy loop", lambda: _loop_luna16(*case, 50))],
        )
    )
    _assert_same_curves(answers["ours"], *answers["NumPy loop"])


def _assert_same_curves(ours: Luna16Froc, sensitivity: Floats, band_mean: Floats) -> None:
    np.testing.assert_allclose(sensitivity, ours.sensitivity, atol=1e-12)
    np.testing.assert_allclose(band_mean, ours.band_mean, atol=1e-6)


@pytest.mark.realdata
def test_luna16_from_files(measure: Measure, data_dir: Path) -> None:
    folder = data_dir / "oracles/luna16"

    def tables() -> tuple[Luna16Marks, Luna16Findings, Luna16Findings, list[str]]:
        return (
            read_luna16_marks(folder / "submission.csv"),
            read_luna16_findings(folder / "tables/annotations.csv"),
            read_luna16_findings(folder / "tables/annotations_excluded.csv"),
            read_luna16_series(folder / "tables/seriesuids.csv"),
        )

    read = tables()
    answers = measure(
        Case(
            name="luna16_froc, from files",
            size=f"{len(read[0].series)} marks, 1000 resamples",
            count=len(read[0].series),
            unit="mark",
            ours=lambda: luna16_froc(*tables()),
            peers=[Peer("NumPy loop, tables read", lambda: _loop_luna16(*read, 1000))],
            at_most_seconds=1.0,
        )
    )
    _assert_same_curves(answers["ours"], *answers["NumPy loop, tables read"])
    points = json.loads((folder / "expected/operating_points.json").read_text())
    np.testing.assert_allclose(answers["ours"].sensitivity, points["sensitivity"], atol=1e-6)


def _maps(images: int, size: int) -> tuple[list[NDArray[np.float32]], list[Floats]]:
    """Maps of a network with some sites: mostly near 0, above 0.5 at most of the sites."""
    random = np.random.default_rng(0)
    maps, boxes = [], []
    for _ in range(images):
        logits = random.standard_normal((size, size), np.float32) * 1.5 - 5
        centers = random.integers(20, size - 20, (random.integers(0, 6), 2))
        for x, y in centers:
            logits[y - 20 : y + 20, x - 20 : x + 20] += random.uniform(2, 7)
        maps.append((1 / (1 + np.exp(-logits))).astype(np.float32))
        boxes.append(np.concatenate([centers - 20.5, centers + 19.5], axis=1))
    return maps, boxes


def _sorted_pixels(maps: list[NDArray[np.float32]], boxes: list[Floats]) -> float:
    """FROC score by sorting every pixel outside the boxes."""
    sites, false = [], []
    for image, own in zip(maps, boxes, strict=True):
        outside = np.ones(image.shape, bool)
        for x1, y1, x2, y2 in own:
            outside[int(y1 + 0.5) : int(y2 + 0.5), int(x1 + 0.5) : int(x2 + 0.5)] = False
            sites.append(image[int((y1 + y2) / 2 + 0.5), int((x1 + x2) / 2 + 0.5)])
        false.append(image[outside])
    rising = np.sort(np.concatenate(false))
    above = len(rising) - np.searchsorted(rising, sites, side="left")
    ratios = above / (len(maps) * maps[0].size)
    return float(np.mean([(ratios <= point).mean() for point in FALSE_POSITIVE_RATIOS]))


def test_pixels(measure: Measure) -> None:
    images, side = 32, 1024
    maps, boxes = _maps(images, side)
    answers = measure(
        Case(
            name="pixel_froc",
            size=f"{images} maps of {side} x {side}",
            count=images * side * side,
            unit="pixel",
            ours=lambda: pixel_froc(maps, boxes, bootstraps=0).score,
            peers=[Peer("NumPy sort", lambda: _sorted_pixels(maps, boxes))],
            limit=limits.moved_at_copy_rate(sum(each.nbytes for each in maps), 0),
        )
    )
    assert answers["ours"] == pytest.approx(answers["NumPy sort"], abs=1e-12)


def _detections(volumes: int, count: int) -> tuple[list[tuple[Floats, Floats]], list[Floats]]:
    """Three lesions in every volume, all detected among many false positives."""
    random = np.random.default_rng(0)
    predictions, truths = [], []
    for _ in range(volumes):
        corners = np.arange(count)[:, None] * 10 + random.uniform(0, 3, (count, 3))
        predictions.append((np.concatenate([corners, corners + 5], axis=1), random.random(count)))
        truths.append(np.concatenate([corners[:3], corners[:3] + 5], axis=1))
    return predictions, truths


def _loop_intervals(predictions: list[tuple[Floats, Floats]], bootstraps: int) -> Floats:
    """Draw by draw: every volume's detections as often as it was drawn."""
    volumes, lesions = len(predictions), 3
    scores = np.concatenate([scores for _, scores in predictions])
    owners = np.repeat(np.arange(volumes), [len(scores) for _, scores in predictions])
    is_hit = np.concatenate([np.arange(len(scores)) < lesions for _, scores in predictions])
    order = np.argsort(-scores)
    owners, is_hit = owners[order], is_hit[order]
    random = np.random.default_rng(0)
    samples = []
    for _ in range(bootstraps):
        weights = np.bincount(random.integers(volumes, size=volumes), minlength=volumes)[owners]
        false = np.cumsum(weights * ~is_hit) / volumes
        found = np.cumsum(weights * is_hit) / (lesions * volumes)
        samples.append(np.interp(FALSE_POSITIVES, false, found, left=0))
    return np.asarray(np.percentile(samples, [2.5, 97.5], axis=0).T)


@pytest.mark.parametrize("count", [20, 500])
def test_intervals(measure: Measure, count: int) -> None:
    volumes, bootstraps = 200, 1000
    predictions, truths = _detections(volumes, count)
    answers = measure(
        Case(
            name="froc, 1000 resamples",
            size=f"{volumes} volumes of {count} marks",
            count=volumes * count,
            unit="mark",
            ours=lambda: froc(predictions, truths, bootstraps=bootstraps).interval,
            peers=[Peer("NumPy loop", lambda: _loop_intervals(predictions, bootstraps))],
        )
    )
    np.testing.assert_allclose(answers["ours"], answers["NumPy loop"], atol=1e-12)
