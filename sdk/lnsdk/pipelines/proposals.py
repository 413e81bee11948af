"""Between the graphs: centerness maps to proposals, head outputs to boxes, slices' boxes to 3D boxes (LENS IV-B, IV-C).

Boxes are x1, y1, x2, y2 in continuous grid pixels; pixel (j, i) of a feature map is centred at x = stride * i,
y = stride * j.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnsdk import ops
from lnsdk.pipelines.settings import Settings

Array = NDArray[np.float32]

MAX_DELTA = float(np.log(1000 / 16))
"""Largest logarithm of a box's growth: Faster R-CNN's guard against overflow."""


@dataclass(frozen=True)
class SliceBoxes:
    """Boxes of one or more slices.

    Attributes
    ----------
    boxes : ndarray of float32, shape (N, 4)
        x1, y1, x2, y2 in grid pixels.
    scores : ndarray of float32, shape (N,)
        Score of the expert that gave the box.
    expert_scores : ndarray of float32, shape (N, experts)
        Scores of all experts for the proposal that the box came from.
    slices : ndarray of int64, shape (N,)
        Grid slice of each box, ascending.
    """

    boxes: Array
    scores: Array
    expert_scores: Array
    slices: NDArray[np.int64]


@dataclass(frozen=True)
class Stacks:
    """3D boxes, best first.

    Attributes
    ----------
    boxes : ndarray of float32, shape (M, 6)
        x1, y1, z1, x2, y2, z2 in grid indices.
    scores : ndarray of float32, shape (M,)
        Best score of the member boxes; after false-positive reduction the combined score (LENS eq. 4).
    expert_scores : ndarray of float32, shape (M, experts)
        Best score of each expert over the member boxes.
    key_boxes : ndarray of float32, shape (M, 6)
        The best member: a box without thickness in its slice.
    fpr_scores : ndarray of float32, shape (M,), optional
        Scores of false-positive reduction, NaN for boxes that it did not look at; None without it.
    """

    boxes: Array
    scores: Array
    expert_scores: Array
    key_boxes: Array
    fpr_scores: Array | None = None

    def above(self, threshold: float) -> "Stacks":
        """Return the boxes that score at least `threshold`."""
        return self.rows(np.flatnonzero(self.scores >= np.float32(threshold)))

    def rows(self, chosen: NDArray[np.int64]) -> "Stacks":
        """Return some of the boxes."""
        return Stacks(
            self.boxes[chosen],
            self.scores[chosen],
            self.expert_scores[chosen],
            self.key_boxes[chosen],
            None if self.fpr_scores is None else self.fpr_scores[chosen],
        )


def decode_proposals(centerness: Array, distances: Array, settings: Settings) -> Array:
    """Turn one slice's maps into proposals, all experts' pooled.

    Parameters
    ----------
    centerness : ndarray of float32, shape (experts, h, w)
        Probabilities.
    distances : ndarray of float32, shape (experts, 4, h, w)
        From the pixel's centre to the box's left, top, right and bottom, in grid pixels.
    settings : Settings
        Thresholds and limits.

    Returns
    -------
    ndarray of float32, shape (N, 4)
        At most `post_nms` boxes, best first.
    """
    scores = centerness.ravel()
    best = _best(scores, settings.proposal_min_score, settings.pre_nms)
    expert, row, column = np.unravel_index(best, centerness.shape)
    sides = distances[expert, :, row, column]
    x, y = (column * settings.stride).astype(np.float32), (row * settings.stride).astype(np.float32)
    boxes = np.stack([x - sides[:, 0], y - sides[:, 1], x + sides[:, 2], y + sides[:, 3]], axis=1)
    height, width = (size * settings.stride for size in centerness.shape[1:])
    boxes = clip(boxes, height, width)
    solid = has_area(boxes)
    boxes, scores = boxes[solid], scores[best][solid]
    return np.asarray(boxes[ops.nms(boxes, scores, settings.proposal_iou, max_kept=settings.post_nms)])


def pad_rois(proposals: list[Array]) -> Array:
    """Stack the proposals of several slices, padded with empty boxes to the longest.

    Returns
    -------
    ndarray of float32, shape (N, R, 4)
    """
    rois = np.zeros((len(proposals), max(map(len, proposals)), 4), np.float32)
    for row, boxes in zip(rois, proposals, strict=True):
        row[: len(boxes)] = boxes
    return rois


def apply_deltas(rois: Array, deltas: Array, weights: tuple[float, float, float, float]) -> Array:
    """Move boxes by the head's offsets (Faster R-CNN's parametrisation).

    Parameters
    ----------
    rois : ndarray of float32, shape (R, 4)
        Proposals.
    deltas : ndarray of float32, shape (R, experts, 4)
        dx, dy, dw, dh of each expert.
    weights : tuple of float
        Divisors of the four.

    Returns
    -------
    ndarray of float32, shape (R, experts, 4)
    """
    size = (rois[:, 2:] - rois[:, :2])[:, None]
    center = (rois[:, 2:] + rois[:, :2])[:, None] / 2
    scaled = deltas / np.asarray(weights, np.float32)
    center = center + scaled[..., :2] * size
    half = np.exp(np.minimum(scaled[..., 2:], np.float32(MAX_DELTA))) * size / 2
    return np.concatenate([center - half, center + half], axis=-1)


def select_boxes(
    rois: Array, scores: Array, deltas: Array, experts: NDArray[np.int64], shape: tuple[int, int], settings: Settings
) -> tuple[Array, Array, Array]:
    """Turn one slice's head outputs into its final boxes: chosen experts' pooled, suppressed, the best kept.

    Parameters
    ----------
    rois : ndarray of float32, shape (R, 4)
        Proposals, without padding.
    scores : ndarray of float32, shape (R, experts)
        Probabilities.
    deltas : ndarray of float32, shape (R, experts, 4)
        Offsets.
    experts : ndarray of int64
        Indices of the experts that count.
    shape : tuple of int
        Height and width of the grid, to which boxes are clipped.
    settings : Settings
        Thresholds and limits.

    Returns
    -------
    boxes : ndarray of float32, shape (N, 4)
    scores : ndarray of float32, shape (N,)
    expert_scores : ndarray of float32, shape (N, len(experts))
    """
    chosen = scores[:, experts]
    boxes = clip(apply_deltas(rois, deltas[:, experts], settings.delta_weights), *shape)
    roi, expert = np.nonzero((chosen > settings.detection_min_score) & has_area(boxes))
    pool, pool_scores = boxes[roi, expert], chosen[roi, expert]
    kept = ops.nms(pool, pool_scores, settings.detection_iou, max_kept=settings.per_slice)
    return pool[kept], pool_scores[kept], chosen[roi[kept]]


def concatenate_slices(parts: Sequence[SliceBoxes], experts: int) -> SliceBoxes:
    """Join boxes of consecutive slices to one; without any part there are none, with a column for each expert."""
    none = SliceBoxes(
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros((0, experts), np.float32),
        np.zeros(0, np.int64),
    )
    parts = [none, *parts]
    return SliceBoxes(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.expert_scores for part in parts]),
        np.concatenate([part.slices for part in parts]),
    )


def stack_slices(found: SliceBoxes, iou_threshold: float) -> Stacks:
    """Join boxes of consecutive slices into 3D boxes (LENS IV-C).

    Parameters
    ----------
    found : SliceBoxes
        Boxes of all slices.
    iou_threshold : float
        IoU above which boxes of neighbouring slices belong together.
    """
    stacked = ops.stack_boxes(found.boxes, found.scores, found.slices, iou_threshold)
    count = len(stacked.boxes)
    expert_scores = np.zeros((count, found.expert_scores.shape[1]), np.float32)
    np.maximum.at(expert_scores, stacked.members, found.expert_scores)
    order = np.lexsort((found.slices, -found.scores, stacked.members))
    _, first = np.unique(stacked.members[order], return_index=True)
    best = order[first]
    z = found.slices[best, None].astype(np.float32)
    key_boxes = np.concatenate([found.boxes[best, :2], z, found.boxes[best, 2:], z], axis=1)
    return Stacks(stacked.boxes, stacked.scores, expert_scores, key_boxes)


def clip(boxes: Array, height: int, width: int) -> Array:
    """Clip boxes (..., 4) to a grid: its first pixel begins at -0.5."""
    low, high = np.float32(-0.5), np.array([width, height, width, height], np.float32) - np.float32(0.5)
    return np.clip(boxes, low, high)


def has_area(boxes: Array) -> NDArray[np.bool_]:
    """Tell which boxes (..., 4) have an area; those with NaN have none."""
    return np.asarray((boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1]))


def _best(scores: Array, minimum: float, count: int) -> NDArray[np.int64]:
    """Return the indices of the `count` highest scores above `minimum`, best first, ties by the lower index."""
    above = np.flatnonzero(scores > minimum)
    if len(above) > count:
        limit = np.partition(scores[above], len(above) - count)[len(above) - count]
        above = above[scores[above] >= limit]
    return above[np.argsort(-scores[above], kind="stable")][:count]
