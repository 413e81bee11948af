"""The evaluation of the LUNA16 challenge: its rules, its figures and its bootstrap curves, from its CSV files.

Source: noduleCADEvaluationLUNA16.py, the challenge's evaluation script; Setio et al., Validation, comparison, and
combination of algorithms for automatic detection of pulmonary nodules in CT images: the LUNA16 challenge, 2017.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnsdk import threads
from lnsdk.errors import InputError
from lnsdk.metrics._resampling import (
    CONFIDENCE,
    Events,
    Floats,
    Integers,
    Weights,
    check_bootstraps,
    falling,
    ordered,
    tally,
)
from lnsdk.metrics.froc import FALSE_POSITIVES, Froc

Unlisted = Literal["refuse", "ignore"]

MARKS_PER_SCAN = 100
"""Marks that count in a scan; with more, those above the probability of the next one do (evaluation script)."""

UNKNOWN_DIAMETER_MM = 10.0
"""Diameter of a finding whose diameter is given as negative (evaluation script)."""

BAND_POINTS = 10_000
"""False positives per scan at which the bootstrap curves are given, even steps from 1/8 to 8 (evaluation script)."""

PAIRED_MARKS = 4096
"""Marks that are compared with the findings of their scans at a time, which bounds the memory."""

_SERIES, _X, _Y, _Z, _PROBABILITY, _DIAMETER = "seriesuid", "coordX", "coordY", "coordZ", "probability", "diameter_mm"


@dataclass(frozen=True, eq=False)
class Luna16Marks:
    """What a system marked.

    Attributes
    ----------
    series : sequence of str, length N
        The series of each mark.
    positions_mm : array_like, (N, 3)
        x, y, z in the frame of the findings, in mm.
    probabilities : array_like, (N,)
        Finite; higher is more certain.
    """

    series: Sequence[str]
    positions_mm: ArrayLike
    probabilities: ArrayLike


@dataclass(frozen=True, eq=False)
class Luna16Findings:
    """Nodules to find, or findings on which marks do not count.

    Attributes
    ----------
    series : sequence of str, length N
        The series of each finding.
    positions_mm : array_like, (N, 3)
        x, y, z of the centre in the frame of the marks, in mm.
    diameters_mm : array_like, (N,)
        Negative stands for 10 mm.
    """

    series: Sequence[str]
    positions_mm: ArrayLike
    diameters_mm: ArrayLike


@dataclass(frozen=True)
class Luna16Counts:
    """What became of every mark and every nodule.

    Attributes
    ----------
    candidates : int
        Marks that were evaluated: those in a listed series that are left by the limit of 100 per scan.
    nodules : int
        Annotated nodules of the listed series: `true_positives` and `false_negatives`.
    true_positives, false_negatives : int
        Nodules with and without a mark on them.
    false_positives : int
        Marks on no finding.
    on_excluded : int
        Marks on an excluded finding and on no nodule, which do not count.
    doubles : int
        Marks on nodules beyond the first on each.
    over_limit : int
        Marks left out by the limit of 100 per scan.
    unlisted_candidates, unlisted_annotations, unlisted_excluded : int
        Rows of series that are not in the list, left out.
    """

    candidates: int
    nodules: int
    true_positives: int
    false_negatives: int
    false_positives: int
    on_excluded: int
    doubles: int
    over_limit: int
    unlisted_candidates: int
    unlisted_annotations: int
    unlisted_excluded: int


@dataclass(frozen=True, eq=False)
class Luna16Froc(Froc):
    """A free-response ROC curve by the rules of LUNA16.

    A :class:`~lnsdk.metrics.Froc` whose volumes are scans and whose lesions are nodules. `mean_sensitivity` is the
    score of the challenge (CPM). The curve starts at threshold infinity with nothing found. Intervals are order
    statistics of the resamples.

    Attributes
    ----------
    counts : Luna16Counts
        What became of every mark and every nodule.
    curve_corners : ndarray of bool, (T,)
        The points of the curve that the evaluation script writes: all but those evenly between their neighbours.
    band_false_positives : ndarray, (10000,)
        False positives per scan from 1/8 to 8 in even steps.
    band_mean, band_lower, band_upper : ndarray, (10000,)
        Mean over the resamples and ends of the 95 % interval of the sensitivity there; NaN without bootstraps.
    """

    counts: Luna16Counts
    curve_corners: NDArray[np.bool_]
    band_false_positives: Floats
    band_mean: Floats
    band_lower: Floats
    band_upper: Floats


def luna16_froc(
    candidates: Luna16Marks,
    annotations: Luna16Findings,
    excluded: Luna16Findings,
    series: Sequence[str],
    *,
    unlisted: Unlisted = "refuse",
    bootstraps: int = 1000,
    seed: int = 0,
) -> Luna16Froc:
    """Sensitivity over false positives per scan, as the evaluation script of LUNA16 computes it.

    A mark is on a finding when it is strictly nearer to its centre than its radius. A nodule is found at the highest
    probability of the marks on it; a mark may find several nodules. A mark on an excluded finding and on no nodule
    does not count. Every other mark is a false positive. In a scan with more than 100 marks only those strictly above
    the probability of the 101st count. Between the points of the curve sensitivity is interpolated linearly; right of
    it it has its last value. The resamples are those of the script after ``numpy.random.seed(seed)``: so many scans,
    drawn with replacement.

    Where the script fails or gives NaN: a system without any hit has sensitivity 0, also in a resample; a resample
    without any nodule is left out.

    Parameters
    ----------
    candidates : Luna16Marks
        The marks of the system; none at all is allowed.
    annotations : Luna16Findings
        The nodules to find.
    excluded : Luna16Findings
        Findings on which marks do not count.
    series : sequence of str
        The scans to evaluate, each once; those without marks or nodules count as well.
    unlisted : {"refuse", "ignore"}
        What to do with rows of `candidates`, `annotations` and `excluded` whose series is not in `series`. The script
        leaves them out without a word; "ignore" does so too, and counts them in the result.
    bootstraps : int
        Resamples of the scans; 0 for none. Each takes 80 kB while the curves are computed.
    seed : int
        Of the resampling, 0 to 2^32 - 1.

    Returns
    -------
    Luna16Froc

    Raises
    ------
    ValueError
        When lengths, shapes or ranges do not fit, a value is not finite, a series is listed twice or not at all, or
        when there is no nodule in the listed series.

    References
    ----------
    noduleCADEvaluationLUNA16.py of the LUNA16 challenge.
    """
    check_bootstraps(bootstraps)
    _require_tables(candidates, annotations, excluded, series)
    scans = _numbered(series)
    marks = _points(candidates.series, candidates.positions_mm, candidates.probabilities, "candidates", scans, unlisted)
    nodules = _points(
        annotations.series, annotations.positions_mm, annotations.diameters_mm, "annotations", scans, unlisted
    )
    others = _points(excluded.series, excluded.positions_mm, excluded.diameters_mm, "excluded", scans, unlisted)
    if len(nodules.scans) == 0:
        raise ValueError("annotations must hold a nodule of a listed series: sensitivity is not defined without any")
    kept = _most_probable(marks, len(scans))
    return _evaluate(_match(marks, kept, nodules, others), len(scans), bootstraps, seed)


def _require_tables(candidates: object, annotations: object, excluded: object, series: object) -> None:
    for values, name, expected, reader in (
        (candidates, "candidates", Luna16Marks, "read_luna16_marks"),
        (annotations, "annotations", Luna16Findings, "read_luna16_findings"),
        (excluded, "excluded", Luna16Findings, "read_luna16_findings"),
    ):
        if not isinstance(values, expected):
            raise TypeError(
                f"{name} must be {expected.__name__}, as lnsdk.metrics.{reader} reads them from a file; got "
                f"{type(values).__name__}"
            )
    if isinstance(series, (str, Path)):
        raise TypeError(f"series must be a list of UIDs, as lnsdk.metrics.read_luna16_series reads it; got {series!r}")


def read_luna16_marks(path: str | Path) -> Luna16Marks:
    """Read a submission.

    Parameters
    ----------
    path : str or Path
        CSV file with the columns seriesuid, coordX, coordY, coordZ (mm) and probability in any order; others are
        not read.

    Returns
    -------
    Luna16Marks

    Raises
    ------
    InputError
        When the file is missing or empty, lacks a column, or a row has too few fields or a field is no number.
    """
    return Luna16Marks(*_table(Path(path), _PROBABILITY))


def read_luna16_findings(path: str | Path) -> Luna16Findings:
    """Read ``annotations.csv`` or ``annotations_excluded.csv``.

    Parameters
    ----------
    path : str or Path
        CSV file with the columns seriesuid, coordX, coordY, coordZ (mm) and diameter_mm in any order; others are not
        read.

    Returns
    -------
    Luna16Findings

    Raises
    ------
    InputError
        When the file is missing or empty, lacks a column, or a row has too few fields or a field is no number.
    """
    return Luna16Findings(*_table(Path(path), _DIAMETER))


def read_luna16_series(path: str | Path) -> list[str]:
    """Read ``seriesuids.csv``: the series in the first column, without a header; empty lines are passed over.

    Parameters
    ----------
    path : str or Path
        CSV file.

    Returns
    -------
    list of str
        In the order of the file.

    Raises
    ------
    InputError
        When the file is missing, empty, or starts with a header, which would count as one more scan.
    """
    file = Path(path)
    listed = [row[0] for row in _rows(file) if row]
    if not listed:
        raise InputError("bad-csv", f"{file} is empty; expected one series UID per line")
    if listed[0] == _SERIES:
        raise InputError(
            "bad-csv", f"{file} must have no header, found {_SERIES!r} in the first line; remove that line"
        )
    return listed


@dataclass(frozen=True, eq=False)
class _Points:
    """Marks or findings of the listed series, sorted by the number of their scan."""

    scans: Integers
    positions: Floats
    values: Floats
    unlisted: int


@dataclass(frozen=True, eq=False)
class _Matched:
    """Score of every nodule, minus infinity for the missed ones, and of every false positive."""

    nodule_scans: Integers
    nodule_scores: Floats
    false_scans: Integers
    false_scores: Floats
    counts: Luna16Counts


def _rows(file: Path) -> Iterator[list[str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            yield from csv.reader(stream)
    except OSError as error:
        raise InputError("missing-path", f"cannot read {file}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError("bad-csv", f"{file} is no CSV file in UTF-8: {error}") from error


def _table(file: Path, value: str) -> tuple[list[str], Floats, Floats]:
    """Series, positions and the named value of every row; empty lines hold none."""
    rows = _rows(file)
    header = next(rows, [])
    missing = [name for name in (_SERIES, _X, _Y, _Z, value) if name not in header]
    if missing:
        raise InputError("bad-csv", f"{file} lacks the column {', '.join(missing)}; its first line is {header}")
    column = [header.index(name) for name in (_SERIES, _X, _Y, _Z, value)]
    body = [row for row in rows if row]
    try:
        fields = [[row[index] for row in body] for index in column]
        numbers = [np.fromiter(map(float, texts), np.float64, len(texts)) for texts in fields[1:]]
    except (ValueError, IndexError):
        raise _bad_row(file, body, header, column) from None
    return fields[0], np.stack(numbers[:3], axis=1), numbers[3]


def _bad_row(file: Path, body: list[list[str]], header: list[str], column: list[int]) -> InputError:
    """The error of the first row that cannot be read."""
    number, wrong = next(
        (number, wrong) for number, row in enumerate(body) if (wrong := _wrong_field(row, column)) >= 0
    )
    found = body[number]
    if wrong >= len(found):
        return InputError("bad-csv", f"{file}, row {number + 1}: expected {len(header)} fields, found {len(found)}")
    return InputError("bad-csv", f"{file}, row {number + 1}: {header[wrong]} must be a number, found {found[wrong]!r}")


def _wrong_field(row: list[str], column: list[int]) -> int:
    """Number of the first field of a row that is missing, or no number but should be one; -1 when there is none."""
    if len(row) <= max(column):
        return len(row)
    return next((index for index in column[1:] if not _is_number(row[index])), -1)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbered(series: Sequence[str]) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for row, name in enumerate(series):
        if name in numbers:
            raise ValueError(f"series[{row}] is listed already as series[{numbers[name]}]: list every series once")
        numbers[name] = row
    if not numbers:
        raise ValueError("series must list at least one scan")
    return numbers


def _points(
    series: Sequence[str], positions: ArrayLike, values: ArrayLike, name: str, scans: dict[str, int], unlisted: Unlisted
) -> _Points:
    if unlisted not in ("refuse", "ignore"):
        raise ValueError(f"unlisted must be 'refuse' or 'ignore', got {unlisted!r}")
    value = "probabilities" if name == "candidates" else "diameters_mm"
    coordinates = _finite(positions, (len(series), 3), f"{name}.positions_mm")
    numbers = _finite(values, (len(series),), f"{name}.{value}")
    of_scan = np.fromiter((scans.get(uid, -1) for uid in series), np.int64, len(series))
    unknown = np.flatnonzero(of_scan < 0)
    if len(unknown) and unlisted == "refuse":
        raise ValueError(
            f"{name}.series[{unknown[0]}] is {series[unknown[0]]!r}, which is not in series ({len(unknown)} such "
            f"rows): correct it, or leave such rows out with unlisted='ignore'"
        )
    order = np.argsort(of_scan, kind="stable")[len(unknown) :]
    return _Points(of_scan[order], coordinates[order], numbers[order], len(unknown))


def _finite(values: ArrayLike, shape: tuple[int, ...], name: str) -> Floats:
    array = np.asarray(values, np.float64)
    if array.size == 0 and math.prod(shape) == 0:
        return array.reshape(shape)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, one row per series given, got {array.shape}")
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        index = ", ".join(map(str, wrong[0]))
        raise ValueError(f"{name}[{index}] is {array[tuple(wrong[0])]}: every value must be a finite number")
    return array


def _most_probable(marks: _Points, scans: int) -> _Points:
    """The marks that are left by the limit per scan: those strictly above the first one beyond it."""
    order = np.lexsort((-marks.values, marks.scans))
    edges = np.searchsorted(marks.scans, np.arange(scans + 1))
    crowded = np.flatnonzero(np.diff(edges) > MARKS_PER_SCAN)
    cutoff = np.full(scans, -np.inf)
    cutoff[crowded] = marks.values[order][edges[crowded] + MARKS_PER_SCAN]
    keep = marks.values > cutoff[marks.scans]
    return _Points(marks.scans[keep], marks.positions[keep], marks.values[keep], marks.unlisted)


def _match(marks: _Points, kept: _Points, nodules: _Points, others: _Points) -> _Matched:
    hitting, hit = _inside(kept, nodules)
    is_hit = np.zeros(len(kept.scans), bool)
    is_hit[hitting] = True
    on_other = np.zeros(len(kept.scans), bool)
    on_other[_inside(kept, others)[0]] = True
    is_false = ~is_hit & ~on_other
    scores = np.full(len(nodules.scans), -np.inf)
    np.maximum.at(scores, hit, kept.values[hitting])
    found = int(np.isfinite(scores).sum())
    counts = Luna16Counts(
        candidates=len(kept.scans),
        nodules=len(scores),
        true_positives=found,
        false_negatives=len(scores) - found,
        false_positives=int(is_false.sum()),
        on_excluded=int((on_other & ~is_hit).sum()),
        doubles=len(hit) - found,
        over_limit=len(marks.scans) - len(kept.scans),
        unlisted_candidates=marks.unlisted,
        unlisted_annotations=nodules.unlisted,
        unlisted_excluded=others.unlisted,
    )
    return _Matched(nodules.scans, scores, kept.scans[is_false], kept.values[is_false], counts)


def _inside(marks: _Points, findings: _Points) -> tuple[Integers, Integers]:
    """Every pair of a mark and a finding of the same scan that it is on."""
    diameters = np.where(findings.values < 0, UNKNOWN_DIAMETER_MM, findings.values)
    squared_radii = (diameters / 2) ** 2
    first = np.searchsorted(findings.scans, marks.scans, side="left")
    count = np.searchsorted(findings.scans, marks.scans, side="right") - first
    pairs = []
    for start in range(0, len(marks.scans), PAIRED_MARKS):
        part = slice(start, start + PAIRED_MARKS)
        mark = np.repeat(np.arange(start, start + len(count[part])), count[part])
        skipped = np.cumsum(count[part]) - count[part]
        finding = np.arange(len(mark)) + np.repeat(first[part] - skipped, count[part])
        x, y, z = ((marks.positions[mark] - findings.positions[finding]) ** 2).T
        near = x + y + z < squared_radii[finding]
        pairs.append((mark[near], finding[near]))
    if not pairs:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate([mark for mark, _ in pairs]), np.concatenate([finding for _, finding in pairs])


def _evaluate(matched: _Matched, scans: int, bootstraps: int, seed: int) -> Luna16Froc:
    found = np.isfinite(matched.nodule_scores)
    thresholds = falling(matched.nodule_scores[found], matched.false_scores)
    hits = ordered(matched.nodule_scores[found], matched.nodule_scans[found], thresholds)
    false = ordered(matched.false_scores, matched.false_scans, thresholds)
    curve_false = np.pad(false.until, (1, 0)) / scans
    curve_found = np.pad(hits.until, (1, 0)) / len(found)
    points = np.array(FALSE_POSITIVES)
    sensitivity = np.interp(points, _rate(np.pad(false.until, (1, 0)), scans), curve_found)
    weights = tally(np.random.RandomState(seed).randint(scans, size=(bootstraps, scans), dtype=np.int64))
    nodules = weights[:, matched.nodule_scans].sum(axis=1)
    band = np.linspace(FALSE_POSITIVES[0], FALSE_POSITIVES[-1], BAND_POINTS)
    telling = nodules > 0
    at_points, at_band = _samples(weights[telling], nodules[telling], hits, false, points, band)
    mean, lower, upper = _summary(at_band)
    return Luna16Froc(
        false_positives=points,
        sensitivity=sensitivity,
        interval=np.stack(_summary(at_points)[1:], axis=1),
        mean_sensitivity=float(sensitivity.mean()),
        mean_interval=np.concatenate(_summary(at_points.mean(axis=1, keepdims=True))[1:]),
        mean_draws=at_points.mean(axis=1),
        curve_thresholds=np.concatenate([[np.inf], thresholds]),
        curve_false_positives=curve_false,
        curve_sensitivity=curve_found,
        lesions=len(found),
        volumes=scans,
        counts=matched.counts,
        curve_corners=_corners(hits.until, false.until),
        band_false_positives=band,
        band_mean=mean,
        band_lower=lower,
        band_upper=upper,
    )


def _corners(hits: Integers, false: Integers) -> NDArray[np.bool_]:
    """The start of the curve, and its points but those evenly between their neighbours."""
    corners = np.ones(len(hits) + 1, bool)
    corners[2:-1] = (np.diff(hits, 2) != 0) | (np.diff(false, 2) != 0)
    return corners


def _samples(
    weights: Weights, nodules: Integers, hits: Events, false: Events, points: Floats, band: Floats
) -> tuple[Floats, NDArray[np.float32]]:
    """Sensitivity of every draw at the points, (B, P), and on the band, (B, G)."""
    scans = weights.shape[1]
    at_points = np.empty((len(weights), len(points)))
    at_band = np.empty((len(weights), len(band)), np.float32)
    hits_until, false_until = np.pad(hits.until, (1, 0)), np.pad(false.until, (1, 0))

    def sample(start: int, stop: int) -> None:
        for draw in range(start, stop):
            found = _running(weights[draw], hits.owners)[hits_until] / nodules[draw]
            falsely = _rate(_running(weights[draw], false.owners)[false_until], scans)
            at_points[draw] = np.interp(points, falsely, found)
            at_band[draw] = np.interp(band, falsely, found)

    threads.over_range(sample, len(weights))
    return at_points, at_band


def _rate(false: NDArray[np.integer], scans: int) -> Floats:
    """False positives per scan, rounded as in the script, which gets them from their share of all.

    Where a point lies exactly at a step of the curve, the rounding decides between its foot and its top.
    """
    total = max(false[-1], 1)
    return np.asarray(false / total * total / scans)


def _running(weights: NDArray[np.int32], owners: Integers) -> NDArray[np.int32]:
    """Total weight of the first 0, 1, ... events."""
    totals = np.zeros(len(owners) + 1, np.int32)
    np.cumsum(weights[owners], out=totals[1:])
    return totals


def _summary(samples: NDArray[np.floating]) -> tuple[Floats, Floats, Floats]:
    """Mean, lower and upper end over the first axis by the script's order statistics; NaN without samples."""
    if len(samples) == 0:
        nothing = np.full(samples.shape[1], np.nan)
        return nothing, nothing, nothing
    tail = (1 - CONFIDENCE) / 2
    by_point = np.ascontiguousarray(samples.T)

    def sort(start: int, stop: int) -> None:
        by_point[start:stop].sort(axis=1)

    threads.over_range(sort, len(by_point), 1000)
    lower, upper = (by_point[:, math.floor(share * len(samples))] for share in (tail, 1 - tail))
    return by_point.mean(axis=1, dtype=np.float64), lower.astype(np.float64), upper.astype(np.float64)
