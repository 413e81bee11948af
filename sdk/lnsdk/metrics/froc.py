"""Free-response ROC of box detection: sensitivity against false positives per volume, as in LENS, section VI-C."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnsdk.metrics._resampling import (
    Blocks,
    Events,
    Floats,
    Integers,
    RunningTotals,
    Weights,
    chunks,
    draws,
    falling,
    interval,
    ordered,
)
from lnsdk.ops import iobb, iou

Overlap = Literal["iobb", "iou"]
Group = TypeVar("Group", bound=Hashable)

FALSE_POSITIVES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per volume at which sensitivity is averaged (LENS, section VI-C; LUNA16)."""

HIT_OVERLAP = 0.3
"""3D overlap of a hit: IoBB of a detected with a known box (LENS, section VI-C)."""

IGNORED_OVERLAP = 0.3
"""A detection with this share of itself inside a box to ignore is not counted: the hit threshold of LENS, VI-C."""

_OVERLAPS = {"iobb": iobb, "iou": iou}


@dataclass(frozen=True, eq=False)
class Froc:
    """A free-response ROC curve.

    Attributes
    ----------
    false_positives : ndarray, (F,)
        False positives per volume at which the sensitivity was asked for.
    sensitivity : ndarray, (F,)
        Share of the lesions found there, 0 to 1.
    interval : ndarray, (F, 2)
        Lower and upper end of its 95 % interval by bootstrapping volumes or their clusters; NaN without bootstraps.
    mean_sensitivity : float
        Mean of `sensitivity`.
    mean_interval : ndarray, (2,)
        Its 95 % interval.
    mean_draws : ndarray, (B,)
        `mean_sensitivity` in every bootstrap draw that holds a lesion. With the same lesions, clusters, number of draws
        and seed, draw k of two curves holds the same volumes, so their difference is a paired one.
    curve_thresholds, curve_false_positives, curve_sensitivity : ndarray, (T,)
        The curve: at each score threshold, highest first, the false positives per volume and the sensitivity of the
        detections that score at least that much.
    lesions, volumes : int
        How many there were.
    """

    false_positives: Floats
    sensitivity: Floats
    interval: Floats
    mean_sensitivity: float
    mean_interval: Floats
    mean_draws: Floats
    curve_thresholds: Floats
    curve_false_positives: Floats
    curve_sensitivity: Floats
    lesions: int
    volumes: int

    def threshold_at(self, false_positives: float) -> float:
        """Lowest score threshold of the curve that gives at most so many false positives per volume.

        Parameters
        ----------
        false_positives : float
            Per volume.

        Returns
        -------
        float
            To be compared with ``score >= threshold``. Infinite when even the best detection gives more.
        """
        allowed = self.curve_false_positives <= false_positives
        return float(self.curve_thresholds[allowed].min(initial=np.inf))


def froc(
    predictions: Sequence[tuple[ArrayLike, ArrayLike]],
    truths: Sequence[ArrayLike],
    *,
    overlap: Overlap = "iobb",
    threshold: float = 0.3,
    ignore: Sequence[ArrayLike] | None = None,
    false_positives: Sequence[float] = FALSE_POSITIVES,
    bootstraps: int = 1000,
    seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
) -> Froc:
    """Sensitivity over false positives per volume.

    A detection hits every lesion of its volume that it overlaps by `threshold` or more; a lesion is found at the
    highest score of its hits. A further hit on a lesion already hit is neither true nor false positive. A detection
    that hits nothing is a false positive, unless it lies in a box to ignore (its centre does, or 0.3 of its size).
    Between the points of the curve sensitivity is interpolated linearly; it is 0 left of the curve and its last value
    right of it.

    Parameters
    ----------
    predictions : sequence of (boxes, scores)
        One pair per volume: boxes (N, 6) or (N, 4) as x1, y1, (z1), x2, y2, (z2) in continuous coordinates, in the unit
        and frame of `truths`; scores (N,), higher is more certain.
    truths : sequence of array_like, (M, 6) or (M, 4)
        The lesions of each volume, in the order of `predictions`.
    overlap : {"iobb", "iou"}
        Intersection over the detected box (LENS), or over the union.
    threshold : float
        Overlap of a hit, above 0 and at most 1.
    ignore : sequence of array_like, (K, 6) or (K, 4), optional
        Boxes of each volume in which a detection that hits nothing does not count.
    false_positives : sequence of float
        False positives per volume to give the sensitivity at.
    bootstraps : int
        Resamples of the volumes for the 95 % intervals; 0 for none.
    seed : int
        Of the resampling.
    clusters : sequence of hashable, optional
        What each volume shows, such as its patient: volumes of one cluster are drawn together, since they are not
        independent. By default each volume is its own.

    Returns
    -------
    Froc

    Raises
    ------
    ValueError
        When lengths, shapes or ranges do not fit, or when there is no lesion at all.

    References
    ----------
    Yan et al., LENS, section VI-C: IoBB >= 0.3 in 3D, mean sensitivity at 1/8 to 8 false positives per volume.
    """
    counts = _count(predictions, truths, ignore, overlap, threshold)
    weights = draws(counts.volumes, clusters, bootstraps, seed, "volume")
    everything = np.ones(len(counts.lesion_volumes), bool)
    return _Curves(counts, checked_points(false_positives, "false_positives"), weights).of(everything)


def froc_by_group(
    predictions: Sequence[tuple[ArrayLike, ArrayLike]],
    truths: Sequence[ArrayLike],
    groups: Sequence[Sequence[Group]],
    *,
    overlap: Overlap = "iobb",
    threshold: float = 0.3,
    ignore: Sequence[ArrayLike] | None = None,
    false_positives: Sequence[float] = FALSE_POSITIVES,
    bootstraps: int = 1000,
    seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
) -> dict[Group, Froc]:
    """Sensitivity for each group of lesions at the same score thresholds as `froc` over all of them.

    False positives have no group, so those of all detections are counted: the groups' sensitivities, weighted by
    their lesions, add up to the overall one.

    Parameters
    ----------
    predictions, truths, overlap, threshold, ignore, false_positives, bootstraps, seed, clusters
        As for `froc`.
    groups : sequence of sequences
        The group of every lesion of every volume, such as its type or size class.

    Returns
    -------
    dict of group to Froc
        In the order in which the groups first occur.

    Raises
    ------
    ValueError
        As for `froc`, and when `groups` does not have one entry per lesion.
    """
    counts = _count(predictions, truths, ignore, overlap, threshold)
    labels = _labels(groups, counts)
    weights = draws(counts.volumes, clusters, bootstraps, seed, "volume")
    curves = _Curves(counts, checked_points(false_positives, "false_positives"), weights)
    return {group: curves.of(np.array([label == group for label in labels])) for group in dict.fromkeys(labels)}


@dataclass(frozen=True)
class _Counts:
    """What every detection and lesion amounts to; scores of missed lesions are minus infinity."""

    volumes: int
    lesion_volumes: Integers
    lesion_scores: Floats
    false_volumes: Integers
    false_scores: Floats


def _count(
    predictions: Sequence[tuple[ArrayLike, ArrayLike]],
    truths: Sequence[ArrayLike],
    ignore: Sequence[ArrayLike] | None,
    overlap: Overlap,
    threshold: float,
) -> _Counts:
    if overlap not in _OVERLAPS:
        raise ValueError(f"overlap must be 'iobb' or 'iou', got {overlap!r}")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
    if len(truths) != len(predictions):
        raise ValueError(
            f"truths must have one entry per volume of predictions ({len(predictions)}), got {len(truths)}"
        )
    if ignore is not None and len(ignore) != len(predictions):
        raise ValueError(
            f"ignore must have one entry per volume of predictions ({len(predictions)}), got {len(ignore)}"
        )
    lesion_scores, false_scores = [], []
    for v, (prediction, truth) in enumerate(zip(predictions, truths, strict=True)):
        boxes, scores = _detections(prediction, v)
        lesions = _boxes(truth, f"truths[{v}]")
        if len(boxes) and len(lesions) and boxes.shape[1] != lesions.shape[1]:
            raise ValueError(
                f"truths[{v}] must have as many columns as the boxes of predictions[{v}], {boxes.shape[1]}, got "
                f"{lesions.shape[1]}"
            )
        shares = _OVERLAPS[overlap](*_same_width(boxes, lesions)) >= threshold
        found = np.where(shares, scores[:, None], -np.inf).max(axis=0, initial=-np.inf)
        false = ~shares.any(axis=1)
        if ignore is not None:
            false &= ~_ignored(boxes, _boxes(ignore[v], f"ignore[{v}]"))
        lesion_scores.append(found)
        false_scores.append(scores[false])
    counts = _Counts(
        volumes=len(predictions),
        lesion_volumes=_owners(lesion_scores),
        lesion_scores=np.concatenate([np.empty(0), *lesion_scores]),
        false_volumes=_owners(false_scores),
        false_scores=np.concatenate([np.empty(0), *false_scores]),
    )
    if len(counts.lesion_scores) == 0:
        raise ValueError("truths must hold at least one lesion: sensitivity is not defined without any")
    return counts


def _owners(parts: Sequence[Floats]) -> Integers:
    return np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def _detections(prediction: tuple[ArrayLike, ArrayLike], volume: int) -> tuple[Floats, Floats]:
    boxes = _boxes(prediction[0], f"predictions[{volume}][0]")
    scores = np.asarray(prediction[1], np.float64)
    if scores.shape != (len(boxes),):
        raise ValueError(
            f"predictions[{volume}][1] must have one score per box: expected shape ({len(boxes)},), got {scores.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"predictions[{volume}][1] must be finite scores, got {scores[~np.isfinite(scores)][0]}")
    return boxes, scores


def _boxes(values: ArrayLike, name: str) -> Floats:
    boxes = np.asarray(values, np.float64)
    if boxes.size == 0:
        return boxes.reshape(0, 6)
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 6):
        raise ValueError(f"{name} must be boxes of shape (N, 4) or (N, 6), got {boxes.shape}")
    axes = boxes.shape[1] // 2
    wrong = np.flatnonzero(~(np.isfinite(boxes).all(axis=1) & (boxes[:, :axes] <= boxes[:, axes:]).all(axis=1)))
    if len(wrong):
        raise ValueError(
            f"{name}[{wrong[0]}] must be finite and end after it begins, as x1, y1, (z1), x2, y2, (z2); got "
            f"{boxes[wrong[0]].tolist()}"
        )
    return boxes


def _same_width(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """The two as they are, an empty one widened or narrowed to the other."""
    if len(a) == 0:
        a = a.reshape(0, b.shape[1])
    if len(b) == 0:
        b = b.reshape(0, a.shape[1])
    return a, b


def _ignored(boxes: Floats, regions: Floats) -> NDArray[np.bool_]:
    boxes, regions = _same_width(boxes, regions)
    axes = boxes.shape[1] // 2
    centers = (boxes[:, None, :axes] + boxes[:, None, axes:]) / 2
    inside = ((centers >= regions[:, :axes]) & (centers <= regions[:, axes:])).all(axis=2)
    covered = iobb(boxes, regions) >= IGNORED_OVERLAP
    return np.asarray((inside | covered).any(axis=1))


def _labels(groups: Sequence[Sequence[Group]], counts: _Counts) -> list[Group]:
    if len(groups) != counts.volumes:
        raise ValueError(f"groups must have one entry per volume ({counts.volumes}), got {len(groups)}")
    lesions = np.bincount(counts.lesion_volumes, minlength=counts.volumes)
    for v, (labels, expected) in enumerate(zip(groups, lesions, strict=True)):
        if len(labels) != expected:
            raise ValueError(
                f"groups[{v}] must have one entry per lesion of the volume ({expected}), got {len(labels)}"
            )
        for number, label in enumerate(labels):
            if label != label:  # NaN, such as an empty cell of a table: no two of them are the same group
                raise ValueError(f"groups[{v}][{number}] is NaN; give the lesion a group of its own name")
    return [label for labels in groups for label in labels]


def checked_points(false_positives: Sequence[float], name: str) -> Floats:
    """The false positives to give the sensitivity at, as an array."""
    points = np.asarray(false_positives, np.float64)
    if points.ndim != 1 or len(points) == 0 or not (np.isfinite(points) & (points >= 0)).all():
        raise ValueError(f"{name} must be numbers of at least 0, got {false_positives}")
    return points


class _Curves:
    """Curves of chosen lesions, on the thresholds of all of them, so that curves of groups add up."""

    def __init__(self, counts: _Counts, points: Floats, weights: Weights) -> None:
        self._counts = counts
        self._points = points
        self._weights = weights
        self._is_found = np.isfinite(counts.lesion_scores)
        self._thresholds = falling(counts.lesion_scores[self._is_found], counts.false_scores)
        self._false = ordered(counts.false_scores, counts.false_volumes, self._thresholds)
        blocks = Blocks(self._false.owners, counts.volumes)
        parts = chunks(weights, len(points) * blocks.size)
        crossings = [_cross(RunningTotals(part, blocks), part.sum(axis=1), self._false, points) for part in parts]
        self._crossings = [np.concatenate(chunk) for chunk in zip(*crossings, strict=True)]

    def of(self, chosen: NDArray[np.bool_]) -> Froc:
        """The curve of these lesions."""
        counts = self._counts
        is_hit = chosen & self._is_found
        hits = ordered(counts.lesion_scores[is_hit], counts.lesion_volumes[is_hit], self._thresholds)
        curve_false = self._false.until / counts.volumes
        curve_found = hits.until / chosen.sum()
        sensitivity = interpolate(self._points, curve_false, curve_found)
        samples = self._samples(hits, counts.lesion_volumes[chosen])
        return Froc(
            false_positives=self._points,
            sensitivity=sensitivity,
            interval=interval(samples).T,
            mean_sensitivity=float(sensitivity.mean()),
            mean_interval=interval(samples.mean(axis=1)),
            mean_draws=samples.mean(axis=1),
            curve_thresholds=self._thresholds,
            curve_false_positives=curve_false,
            curve_sensitivity=curve_found,
            lesions=int(chosen.sum()),
            volumes=counts.volumes,
        )

    def _samples(self, hits: Events, lesion_volumes: Integers) -> Floats:
        """Sensitivity at the points in every draw that holds a lesion: the others say nothing about it."""
        blocks = Blocks(hits.owners, self._counts.volumes)
        samples, start = [np.empty((0, len(self._points)))], 0
        for weights in chunks(self._weights, len(self._points) * blocks.size):
            lesions = weights[:, lesion_volumes].sum(axis=1)
            after, share = (crossing[start : start + len(weights)] for crossing in self._crossings)
            totals = RunningTotals(weights, blocks)
            before, beyond = totals.at(hits.before[after]), totals.at(hits.before[after + 1])
            found = before + share * (beyond - before)
            samples.append(found[lesions > 0] / lesions[lesions > 0, None])
            start += len(weights)
        return np.concatenate(samples)


def _cross(totals: RunningTotals, volumes: Floats, false: Events, points: Floats) -> tuple[Integers, Floats]:
    """Where the curve of each draw passes the points, (B, P) each.

    First the number of the first threshold with more false positives than the point, then how far between the
    threshold before it and that one the point lies: 0 left and right of the curve.
    """
    volumes = volumes[:, None]
    event = totals.first_above(_most(points, volumes))
    after = np.searchsorted(false.until, event, side="right")
    before, beyond = totals.at(false.before[after]) / volumes, totals.at(false.before[after + 1]) / volumes
    inside = (after > 0) & (after < len(false.until))
    share = np.divide(points - before, beyond - before, out=np.zeros(before.shape), where=inside)
    return after, share


def _most(points: Floats, volumes: Floats) -> Floats:
    """The largest whole number of false positives whose quotient by the volumes is not above the point."""
    most = np.floor(points * volumes) + 1
    for _ in range(2):  # the product may be rounded to either side of a whole number
        most -= most / volumes > points
    return most


def interpolate(points: Floats, false: Floats, found: Floats) -> Floats:
    """Sensitivity of a curve at the points: linear between its own, 0 left of it, its last value right of it."""
    if len(false) == 0:
        return np.zeros(len(points))
    result: Floats = np.interp(points, false, found, left=0.0)
    return result
