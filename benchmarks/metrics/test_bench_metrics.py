"""The metrics against the loops that a user would write: each must give the same figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

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


def _write(file: Path, header: str, series: Sequence[str], positions: Any, values: Any) -> Path:
    rows = zip(series, np.asarray(positions).tolist(), np.asarray(values).tolist(), strict=True)
    lines = [",".join([uid, *map(repr, place), repr(value)]) for uid, place, value in rows]
    file.write_text("\n".join([f"seriesuid,coordX,coordY,coordZ,{header}", *lines]))
    return file


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


@pytest.mark.parametrize("library", ["lnsdk", "numpy loop"])
def test_luna16(benchmark: Any, library: str) -> None:
    benchmark.group = "luna16, 8,000 marks in 888 scans, 50 resamples"
    case = _luna16_case()
    if library == "lnsdk":
        result: Luna16Froc = benchmark(luna16_froc, *case, bootstraps=50)
        sensitivity, mean = result.sensitivity, result.band_mean
    else:
        sensitivity, mean = benchmark.pedantic(_loop_luna16, (*case, 50), rounds=1)
    expected = luna16_froc(*case, bootstraps=50)
    np.testing.assert_allclose(sensitivity, expected.sensitivity, atol=1e-12)
    np.testing.assert_allclose(mean, expected.band_mean, atol=1e-6)


def test_luna16_from_files(benchmark: Any, tmp_path: Path) -> None:
    benchmark.group = "luna16, from its files, 1,000 resamples"
    marks, nodules, excluded, series = _luna16_case()
    submission = _write(tmp_path / "s.csv", "probability", marks.series, marks.positions_mm, marks.probabilities)
    tables = [
        _write(tmp_path / f"{name}.csv", "diameter_mm", table.series, table.positions_mm, table.diameters_mm)
        for name, table in (("annotations", nodules), ("excluded", excluded))
    ]
    (tmp_path / "seriesuids.csv").write_text("\n".join(series))

    def evaluate() -> Luna16Froc:
        findings, others = (read_luna16_findings(table) for table in tables)
        listed = read_luna16_series(tmp_path / "seriesuids.csv")
        return luna16_froc(read_luna16_marks(submission), findings, others, listed)

    result = benchmark(evaluate)
    assert result.counts == luna16_froc(marks, nodules, excluded, series, bootstraps=0).counts
    assert np.isfinite(result.band_mean).all()


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


@pytest.mark.parametrize("library", ["lnsdk", "numpy sort", "one pass of max"])
def test_pixels(benchmark: Any, library: str) -> None:
    benchmark.group = "pixel froc, 32 maps of 1024 x 1024"
    maps, boxes = _maps(32, 1024)
    expected = pixel_froc(maps, boxes, bootstraps=0).score  # compiles the kernel
    if library == "lnsdk":
        score = benchmark(pixel_froc, maps, boxes, bootstraps=0).score
    elif library == "numpy sort":
        score = benchmark.pedantic(_sorted_pixels, (maps, boxes), rounds=1)
    else:  # what it takes to read every pixel once
        benchmark(lambda: max(image.max() for image in maps))
        return
    assert score == pytest.approx(expected, abs=1e-12)


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
@pytest.mark.parametrize("library", ["lnsdk", "numpy loop"])
def test_intervals(benchmark: Any, library: str, count: int) -> None:
    benchmark.group = f"froc, 200 volumes with {count} detections each, 1,000 resamples"
    predictions, truths = _detections(200, count)
    if library == "lnsdk":
        interval = benchmark(froc, predictions, truths).interval
    else:
        interval = benchmark.pedantic(_loop_intervals, (predictions, 1000), rounds=3)
    np.testing.assert_allclose(interval, _loop_intervals(predictions, 1000), atol=1e-12)
