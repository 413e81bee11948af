"""Free-response ROC of probability maps: recall of sites against the share of falsely activated pixels.

Source: Wang et al., Knowledge distillation with adaptive asymmetric label sharpening for semi-supervised fracture
detection in chest X-rays (AALS), "Evaluation metrics".
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnsdk import threads
from lnsdk._jit import Kernel
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
from lnsdk.metrics.froc import checked_points
from lnsdk.ops import _arguments

FALSE_POSITIVE_RATIOS = tuple(percent / 100 for percent in range(1, 11))
"""Shares of falsely activated pixels at which recall is averaged: 1 % to 10 % (AALS, "Evaluation metrics")."""

_CELL_BITS = 12
"""Low bits of a float32 that the table of the counting kernel leaves out: its cells are 1/2048 of an octave."""

_BLOCK = 64
"""Pixels that the counting kernel passes over together when none of them reaches the lowest threshold."""

_BEYOND_ONE = int(np.float32(1).view(np.uint32)) + 1
"""Bits of the smallest float32 above 1. As integers, those of NaN and of negative numbers are larger."""


@dataclass(frozen=True, eq=False)
class PixelFroc:
    """Recall of sites over the share of falsely activated pixels.

    Attributes
    ----------
    false_positive_ratios : ndarray, (F,)
        Shares of falsely activated pixels per image at which the recall was asked for.
    recall : ndarray, (F,)
        Share of the sites recalled there, 0 to 1.
    interval : ndarray, (F, 2)
        Lower and upper end of its 95 % interval by bootstrapping images or their clusters; NaN without bootstraps.
    score : float
        Mean of `recall`: the FROC score.
    score_interval : ndarray, (2,)
        Its 95 % interval.
    curve_thresholds, curve_false_positive_ratios, curve_recall : ndarray, (T,)
        The curve at every threshold where recall changes, highest first: pixels of at least that probability are
        activated.
    sites, images : int
        How many there were.
    """

    false_positive_ratios: Floats
    recall: Floats
    interval: Floats
    score: float
    score_interval: Floats
    curve_thresholds: Floats
    curve_false_positive_ratios: Floats
    curve_recall: Floats
    sites: int
    images: int


def pixel_froc(
    maps: Sequence[ArrayLike],
    boxes: Sequence[ArrayLike],
    *,
    false_positive_ratios: Sequence[float] = FALSE_POSITIVE_RATIOS,
    bootstraps: int = 1000,
    seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
) -> PixelFroc:
    """Recall of sites over the average share of falsely activated pixels per image.

    At a threshold above 0 the pixels of at least that probability are activated. A site is recalled when the pixel at
    the centre of its box is. An activated pixel is a false positive when no part of it lies in any box of its image;
    their share is taken of all pixels of the image, and averaged over the images, those without a site among them.

    Nothing is interpolated: the recall at a ratio is the highest that any threshold reaches without exceeding the
    ratio. Recall changes only where the threshold passes the probability of a site, so the curve is exact with one
    threshold per distinct probability of a site, and no pixel is sorted. A resample weighs the images of the same
    curve anew.

    Parameters
    ----------
    maps : sequence of array_like, (y, x)
        One map of probabilities, 0 to 1, per image; computed from float32. Sizes may differ. Each is asked for twice:
        once for its sites, once to count.
    boxes : sequence of array_like, (N, 4)
        The sites of each image as x1, y1, x2, y2 in continuous pixel coordinates, the centre of the first pixel at 0:
        a box around pixels i to j runs from i - 0.5 to j + 0.5. The centre of a box between two pixels belongs to the
        later one.
    false_positive_ratios : sequence of float
        Shares of falsely activated pixels, 0 to 1, to give the recall at.
    bootstraps : int
        Resamples of the images for the 95 % intervals; 0 for none.
    seed : int
        Of the resampling.
    clusters : sequence of hashable, optional
        What each image shows, such as its patient: images of one cluster are drawn together. By default each image is
        its own.

    Returns
    -------
    PixelFroc

    Raises
    ------
    TypeError
        When a map holds no real numbers.
    ValueError
        When lengths, shapes or ranges do not fit, a probability is NaN or not within 0 to 1 (the message names its
        index), a box is empty or has its centre outside its image, or when there is no site at all.

    References
    ----------
    AALS, "Evaluation metrics": FROC score, an average of recalls at ten false positive ratios from 1 % to 10 %.
    """
    if len(boxes) != len(maps):
        raise ValueError(f"boxes must have one entry per map ({len(maps)}), got {len(boxes)}")
    points = checked_points(false_positive_ratios, "false_positive_ratios")
    if points.max() > 1:
        raise ValueError(f"false_positive_ratios must be shares of at most 1, 0.01 for 1 %, got {points.max()}")
    weights = draws(len(maps), clusters, bootstraps, seed, "map")
    scores, owners = _site_scores(maps, boxes)
    activated = scores > 0
    thresholds = falling(scores[activated])
    sites = ordered(scores[activated], owners[activated], thresholds)
    false = _false_pixels(maps, boxes, thresholds)
    ratios = false.ratios(np.ones((1, len(maps))))[0]
    found = np.pad(sites.until, (1, 0)) / len(scores)
    recall = found[np.searchsorted(ratios, points, side="right")]
    samples = _samples(weights, false, sites, owners, points)
    return PixelFroc(
        false_positive_ratios=points,
        recall=recall,
        interval=interval(samples).T,
        score=float(recall.mean()),
        score_interval=interval(samples.mean(axis=1)),
        curve_thresholds=thresholds,
        curve_false_positive_ratios=ratios,
        curve_recall=found[1:],
        sites=len(scores),
        images=len(maps),
    )


@dataclass(frozen=True, eq=False)
class _FalsePixels:
    """False positives of each image at each threshold, in pixels of the largest image.

    With images of one size these are whole numbers, so that sums are exact and a ratio is rounded once.
    """

    counts: Floats
    largest: int

    def ratios(self, weights: Floats) -> Floats:
        """Average share of false positives in each draw at each threshold, (B, T)."""
        return np.asarray(weights @ self.counts / (weights.sum(axis=1, keepdims=True) * self.largest))


def _site_scores(maps: Sequence[ArrayLike], boxes: Sequence[ArrayLike]) -> tuple[Floats, Integers]:
    """Probability at the centre of every site, and its image."""
    scores = []
    for number, (values, sites) in enumerate(zip(maps, boxes, strict=True)):
        image = _map(values, number)
        centers = _centers(_boxes(sites, number), image.shape, number)
        at_centers = image[centers[:, 1], centers[:, 0]]
        if not ((at_centers >= 0) & (at_centers <= 1)).all():
            _refuse_wrong(image, number)
        scores.append(at_centers.astype(np.float64))
    if sum(map(len, scores)) == 0:
        raise ValueError("boxes must hold at least one site: recall is not defined without any")
    return np.concatenate(scores), np.repeat(np.arange(len(scores)), [len(part) for part in scores])


def _map(values: ArrayLike, number: int) -> NDArray[np.float32]:
    image = _arguments.float32s(values, f"maps[{number}]")
    if image.ndim != 2 or image.size == 0:
        raise ValueError(f"maps[{number}] must have shape (y, x) with at least one pixel, got {image.shape}")
    return image


def _boxes(values: ArrayLike, number: int) -> Floats:
    boxes = np.asarray(values, np.float64)
    if boxes.size == 0:
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes[{number}] must have shape (N, 4), got {boxes.shape}")
    wrong = np.flatnonzero(~(np.isfinite(boxes).all(axis=1) & (boxes[:, :2] < boxes[:, 2:]).all(axis=1)))
    if len(wrong):
        raise ValueError(
            f"boxes[{number}][{wrong[0]}] must be finite x1, y1, x2, y2 with x1 < x2 and y1 < y2, got "
            f"{boxes[wrong[0]].tolist()}: a box around pixels i to j runs from i - 0.5 to j + 0.5"
        )
    return boxes


def _centers(boxes: Floats, shape: tuple[int, ...], number: int) -> Integers:
    """The pixel x, y at the centre of each box."""
    centers = np.floor((boxes[:, :2] + boxes[:, 2:]) / 2 + 0.5).astype(np.int64)
    wrong = np.flatnonzero(((centers < 0) | (centers >= [shape[1], shape[0]])).any(axis=1))
    if len(wrong):
        raise ValueError(
            f"boxes[{number}][{wrong[0]}] {boxes[wrong[0]].tolist()} has its centre outside maps[{number}], which has "
            f"{shape[1]} x {shape[0]} pixels (x, y): give boxes in pixels of the map"
        )
    return centers


def _refuse_wrong(image: NDArray[np.float32], number: int) -> None:
    """``ValueError`` for the first pixel that is no probability, if there is any: minus zero is one."""
    wrong = np.argwhere(~((image >= 0) & (image <= 1)))
    if len(wrong):
        y, x = wrong[0]
        raise ValueError(f"maps[{number}][{y}, {x}] must be a probability within 0 to 1, got {image[y, x]}")


def _false_pixels(maps: Sequence[ArrayLike], boxes: Sequence[ArrayLike], thresholds: Floats) -> _FalsePixels:
    rising = np.append(thresholds[::-1].astype(np.float32).view(np.uint32), np.uint32(_BEYOND_ONE))
    cells = np.arange((_BEYOND_ONE >> _CELL_BITS) + 2) << _CELL_BITS
    first = np.searchsorted(rising, cells).astype(np.int32)
    counts = np.empty((len(maps), len(thresholds)))
    sizes = np.empty(len(maps), np.int64)
    COUNT.compile()

    def count(start: int, stop: int) -> None:
        for number in range(start, stop):
            image = _map(maps[number], number)
            at_least = _histogram(image.ravel(), rising, first)
            if at_least[-1]:
                _refuse_wrong(image, number)
            inside = _histogram(_covered(image, _boxes(boxes[number], number)), rising, first)
            counts[number] = (at_least - inside)[-2:0:-1].cumsum()
            sizes[number] = image.size

    threads.over_range(count, len(maps))
    largest = int(sizes.max())
    return _FalsePixels(counts * (largest / sizes)[:, None], largest)


def _histogram(values: NDArray[np.float32], rising: NDArray[np.uint32], first: NDArray[np.int32]) -> NDArray[np.int64]:
    counts = np.zeros(len(rising) + 1, np.int64)
    COUNT(values.view(np.uint32), rising, first, counts)
    return counts


def _covered(image: NDArray[np.float32], boxes: Floats) -> NDArray[np.float32]:
    """The pixels of which a part lies in some box."""
    if len(boxes) == 0:
        return np.empty(0, np.float32)
    starts = np.maximum(np.floor(boxes[:, 1::-1] + 0.5), 0).astype(np.int64)
    stops = np.minimum(np.ceil(boxes[:, :1:-1] + 0.5), image.shape).astype(np.int64)
    low, high = starts.min(axis=0), stops.max(axis=0)
    covered = np.zeros(high - low, bool)
    for (top, left), (bottom, right) in zip(starts - low, stops - low, strict=True):
        covered[top:bottom, left:right] = True
    return image[low[0] : high[0], low[1] : high[1]][covered]


def _samples(weights: Weights, false: _FalsePixels, sites: Events, owners: Integers, points: Floats) -> Floats:
    """Recall at the points in every draw that holds a site: the others say nothing about it."""
    before, blocks = sites.before, Blocks(sites.owners, weights.shape[1])
    samples = [np.empty((0, len(points)))]
    for part in chunks(weights, max(false.counts.shape[1], len(points) * blocks.size)):
        number = part[:, owners].sum(axis=1)
        part, number = part[number > 0], number[number > 0]
        reached = [np.searchsorted(ratios, points, side="right") for ratios in false.ratios(part)]
        found = RunningTotals(part, blocks).at(before[np.reshape(reached, (len(part), len(points))).astype(int)])
        samples.append(found / number[:, None])
    return np.concatenate(samples)


def _count(
    bits: NDArray[np.uint32], rising: NDArray[np.uint32], first: NDArray[np.int32], counts: NDArray[np.int64]
) -> None:
    """Add to ``counts[n]`` the pixels that reach n of the rising thresholds, for n above 0, the last one being 1.

    Pixels and thresholds come as the bits of float32, whose order as integers is that of the numbers. ``first`` holds
    for every cell of bits the number of thresholds before it.
    """
    lowest, beyond = rising[0], rising[-1]
    for start in range(0, len(bits), _BLOCK):
        block = bits[start : start + _BLOCK]
        reached = np.uint32(0)
        for i in range(len(block)):
            reached |= np.uint32(block[i] >= lowest)
        if reached == 0:
            continue
        for i in range(len(block)):
            value = min(block[i], beyond)
            cell = value >> _CELL_BITS
            low = np.int64(first[cell])
            low += rising[low] <= value  # a cell seldom holds more than one threshold: no jump to predict
            if low < len(rising) and rising[low] <= value:
                high = np.int64(first[cell + 1])
                while low < high:
                    middle = (low + high) // 2
                    if rising[middle] <= value:
                        low = middle + 1
                    else:
                        high = middle
            counts[low] += 1


COUNT = Kernel(
    _count, "void(Array(uint32, 1, 'C', True), Array(uint32, 1, 'C', True), Array(int32, 1, 'C', True), int64[::1])"
)
