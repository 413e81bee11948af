"""Data distillation: what a detector finds in transforms of a volume becomes truth (LENS VI-D, reference [33])."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from lnsdk import ops
from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.lens.mining.tracklets import THETA, apart, as_rows, outside, pick
from lnsdk.trainers.lens.mining.uncertain import add_as_lesions

Grid = NDArray[np.float16 | np.float32]
Detector = Callable[[NDArray[np.float32]], SliceBoxes]
"""Finds boxes on all slices of a grid (z, y, x) of any height and width; values 0..255."""

TRANSFORMS = 3
"""Transforms of each volume (VI-D)."""

SCALES = (0.5, 1.5)
"""Range of random scaling (VI-D)."""

SHIFT = 8
"""Largest random translation in pixels (VI-D)."""

SCORE = 0.5
"""Least fused score of a box that becomes truth; the paper names none, and this is its sigma (VI-B)."""


@dataclass(frozen=True)
class Transform:
    """A change of a volume, in this order: flips, scaling in plane, translation in plane.

    Attributes
    ----------
    flips : tuple of bool
        Along z, y, x.
    scale : float
        Factor on rows and columns.
    shift : tuple of int
        Pixels along y, x after scaling; what comes in is air.
    """

    flips: tuple[bool, bool, bool] = (False, False, False)
    scale: float = 1.0
    shift: tuple[int, int] = (0, 0)


def draw_transforms(rng: np.random.Generator, count: int = TRANSFORMS) -> tuple[Transform, ...]:
    """Random transforms as in VI-D."""
    drawn = []
    for _ in range(count):
        z, y, x = (bool(flip) for flip in rng.random(3) < 0.5)
        dy, dx = (int(shift) for shift in rng.integers(-SHIFT, SHIFT + 1, 2))
        drawn.append(Transform((z, y, x), float(rng.uniform(*SCALES)), (dy, dx)))
    return tuple(drawn)


def transform_grid(grid: Grid, transform: Transform) -> NDArray[np.float32]:
    """Apply a transform to a grid (z, y, x)."""
    axes = tuple(axis for axis, flip in enumerate(transform.flips) if flip)
    flipped = np.flip(grid, axes).astype(np.float32)
    size = _scaled_size(grid.shape, transform.scale)
    scaled = interpolate(torch.from_numpy(flipped)[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    return _translate(scaled.numpy(), transform.shift)


def restore_boxes(found: SliceBoxes, shape: tuple[int, int, int], transform: Transform) -> SliceBoxes:
    """Take boxes that were found in a transformed grid back to the grid.

    Parameters
    ----------
    found : SliceBoxes
        In the pixels of `transform_grid`'s result.
    shape : tuple of int
        Of the grid before: z, y, x.
    transform : Transform
        What was applied.

    Returns
    -------
    SliceBoxes
        Slices ascending.
    """
    depth, height, width = shape
    scaled = _scaled_size(shape, transform.scale)
    dy, dx = transform.shift
    factor = np.array([width / scaled[1], height / scaled[0]] * 2, np.float32)
    boxes = (found.boxes - np.array([dx, dy, dx, dy], np.float32) + 0.5) * factor - 0.5
    slices = found.slices
    if transform.flips[2]:
        boxes[:, [0, 2]] = width - 1 - boxes[:, [2, 0]]
    if transform.flips[1]:
        boxes[:, [1, 3]] = height - 1 - boxes[:, [3, 1]]
    if transform.flips[0]:
        slices = depth - 1 - slices
    restored = SliceBoxes(boxes.astype(np.float32), found.scores, found.expert_scores, slices)
    return pick(restored, np.argsort(slices, kind="stable"))


def fuse(predictions: Sequence[SliceBoxes], iou: float = THETA) -> SliceBoxes:
    """Fuse the boxes of several predictions by weighted averaging (VI-D).

    Parameters
    ----------
    predictions : sequence of SliceBoxes
        Of the same grid.
    iou : float
        IoU above which boxes of a slice are the same.

    Returns
    -------
    SliceBoxes
        The best box of a slice takes in the best-scored box of every other prediction that overlaps it, then the best
        of the rest does, and so on. The boxes' mean is weighted by their scores; the scores' mean counts a prediction
        without the box as 0, so that what only one transform shows ranks low.
    """
    pooled = SliceBoxes(
        *(np.concatenate([getattr(p, name) for p in predictions]) for name in SliceBoxes.__dataclass_fields__)
    )
    origin = np.repeat(np.arange(len(predictions)), [len(p.scores) for p in predictions])
    groups: list[NDArray[np.int64]] = []
    for z in np.unique(pooled.slices):
        there = np.flatnonzero(pooled.slices == z)
        ranked = there[np.argsort(-pooled.scores[there], kind="stable")]
        groups += [ranked[group] for group in _same_boxes(pooled.boxes[ranked], origin[ranked], iou)]
    return _mean_boxes(pooled, groups, len(predictions))


def distil(
    grid: Grid,
    labels: Labels,
    detector: Detector,
    transforms: Sequence[Transform],
    score: float = SCORE,
    theta: float = THETA,
) -> Labels:
    """Add the boxes that a detector finds over several transforms to the labels of a volume.

    Parameters
    ----------
    grid : ndarray, (z, y, x)
        Values 0..255.
    labels : Labels
        Its annotations.
    detector : callable
        From a grid to its boxes.
    transforms : sequence of Transform
        What the detector sees, such as `draw_transforms` gives.
    score : float
        Fused score that a box must exceed.
    theta : float
        A box with a larger IoU with an annotation is that annotation, and not added; boxes of neighbouring slices with
        a larger IoU are one lesion.

    Returns
    -------
    Labels
        With the mined rows as lesions of unknown type behind the annotations; samples may be centred on any slice.
    """
    depth, height, width = grid.shape
    seen = [restore_boxes(detector(transform_grid(grid, t)), (depth, height, width), t) for t in transforms]
    fused = outside(fuse(seen, theta), labels.ignored)
    confident = pick(fused, fused.scores > score)
    new = pick(confident, apart(as_rows(confident), labels.boxes, theta))
    return replace(add_as_lesions(labels, new, theta), slices=None)


def _scaled_size(shape: Sequence[int], scale: float) -> tuple[int, int]:
    """Rows and columns after scaling."""
    return max(1, round(shape[1] * scale)), max(1, round(shape[2] * scale))


def _translate(grid: NDArray[np.float32], shift: tuple[int, int]) -> NDArray[np.float32]:
    """Move rows and columns; zeros come in."""
    moved = np.zeros_like(grid)
    (to_y, from_y), (to_x, from_x) = (_overlap(step, size) for step, size in zip(shift, grid.shape[1:], strict=True))
    moved[:, to_y, to_x] = grid[:, from_y, from_x]
    return moved


def _overlap(step: int, size: int) -> tuple[slice, slice]:
    """Where an axis goes to and comes from when it moves by `step`."""
    return slice(max(step, 0), size + min(step, 0)), slice(max(-step, 0), size + min(-step, 0))


def _same_boxes(boxes: NDArray[np.float32], origin: NDArray[np.int64], iou: float) -> list[NDArray[np.int64]]:
    """Group boxes of one slice, best first: the first free box with the first of each other prediction over it."""
    overlaps = np.asarray(ops.iou(boxes, boxes))
    free = np.ones(len(boxes), bool)
    groups = []
    for seed in range(len(boxes)):
        if free[seed]:
            others = np.flatnonzero(free & (overlaps[seed] > iou) & (origin != origin[seed]))
            _, first = np.unique(origin[others], return_index=True)
            group = np.concatenate(([seed], others[first]))
            free[group] = False
            groups.append(group)
    return groups


def _mean_boxes(pooled: SliceBoxes, groups: Sequence[NDArray[np.int64]], predictions: int) -> SliceBoxes:
    """One box for each group."""
    rows = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    members = np.concatenate([np.zeros(0, np.int64), *groups])
    weights = np.maximum(pooled.scores[members], np.finfo(np.float32).tiny).astype(float)
    totals = np.bincount(rows, weights, len(groups))

    def total(values: NDArray[np.float32]) -> NDArray[np.float64]:
        summed = np.zeros((len(groups), values.shape[1]))
        np.add.at(summed, rows, values)
        return summed

    boxes = total(pooled.boxes[members] * weights[:, None]) / totals[:, None]
    scores = np.bincount(rows, pooled.scores[members], len(groups)) / predictions
    experts = total(pooled.expert_scores[members]) / predictions
    first = np.array([group[0] for group in groups], np.int64)
    return SliceBoxes(
        boxes.astype(np.float32), scores.astype(np.float32), experts.astype(np.float32), pooled.slices[first]
    )
