"""Tracklets: boxes of consecutive slices that are one lesion, and the annotation that each belongs to (LENS V-A)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lnsdk import ops
from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.grid import GRID_SPACING
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.lens.rois import IGNORED_OVERLAP

Rows = NDArray[np.float32]
"""Boxes of slices, (N, 5): z (a whole number), x1, y1, x2, y2 in continuous grid pixels."""

THETA = 0.5
"""IoU above which boxes of neighbouring slices, or a box and an annotation, are the same lesion (LENS VI-B)."""

REACH = 0.75
"""Boxes of a lesion lie no further from one that is known to be its own than this share of that box's longer side."""

ALIKE = 0.3
"""IoU that they have with it, at least, seen along z."""

NOBODY = -1
"""Owner of a tracklet that belongs to no annotation."""


@dataclass(frozen=True, eq=False)
class Tracklets:
    """The boxes of one volume, grouped over its slices.

    Attributes
    ----------
    rows : ndarray of float32, (N, 5)
        All boxes: z, x1, y1, x2, y2; those of a tracklet lie on consecutive slices, one on each.
    scores : ndarray of float32, (N,)
        Their scores.
    members : ndarray of int64, (N,)
        Which tracklet each belongs to, 0 to T - 1.
    boxes : ndarray of float32, (T, 6)
        x1, y1, z1, x2, y2, z2 of the tracklets: score-weighted means in plane (LENS IV-C).
    """

    rows: Rows
    scores: NDArray[np.float32]
    members: NDArray[np.int64]
    boxes: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.boxes)

    def center_rows(self) -> NDArray[np.int64]:
        """Index into `rows` of the box on each tracklet's centre slice, the lower of two, (T,)."""
        order = np.lexsort((self.rows[:, 0], self.members))
        counts = np.bincount(self.members, minlength=len(self))
        first = np.cumsum(counts) - counts
        return np.asarray(order[first + (counts - 1) // 2], np.int64)


def group(found: SliceBoxes, theta: float = THETA) -> Tracklets:
    """Group the boxes of a volume into tracklets; a box without a partner is one by itself.

    Parameters
    ----------
    found : SliceBoxes
        Boxes of all slices of a volume.
    theta : float
        IoU that boxes of neighbouring slices must exceed.

    Returns
    -------
    Tracklets
    """
    stacked = ops.stack_boxes(found.boxes, found.scores, found.slices, theta)
    return Tracklets(as_rows(found), found.scores, stacked.members, stacked.boxes)


def as_rows(found: SliceBoxes) -> Rows:
    """Boxes with their slices: z, x1, y1, x2, y2."""
    return np.concatenate((found.slices[:, None].astype(np.float32), found.boxes), axis=1)


def pick(found: SliceBoxes, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> SliceBoxes:
    """Some of the boxes, in the given order."""
    return SliceBoxes(found.boxes[chosen], found.scores[chosen], found.expert_scores[chosen], found.slices[chosen])


def outside(found: SliceBoxes, ignored: NDArray[np.float32]) -> SliceBoxes:
    """Boxes that do not lie in a place where nothing is known (`Labels.ignored`): nothing is mined there."""
    if not len(ignored):
        return found
    shares = ops.iobb(found.boxes, ignored[:, [0, 1, 3, 4]])
    z = found.slices[:, None]
    there = (shares >= IGNORED_OVERLAP) & (ignored[:, 2] <= z) & (z <= ignored[:, 5])
    return pick(found, np.flatnonzero(~there.any(axis=1)))


def row_iou(a: Rows, b: Rows) -> NDArray[np.float32]:
    """IoU of boxes on the same slice, 0 on different ones: (N, M)."""
    overlaps = np.asarray(ops.iou(a[:, 1:], b[:, 1:]), np.float32)
    return np.where(a[:, :1] == b[:, 0], overlaps, np.float32(0))


def apart(rows: Rows, others: Rows, overlap: float) -> NDArray[np.bool_]:
    """Tell which rows overlap none of the others by an IoU above `overlap`: (N,)."""
    return np.asarray(np.all(row_iou(rows, others) <= overlap, axis=1))


def owners(tracklets: Tracklets, labels: Labels, theta: float = THETA) -> NDArray[np.int64]:
    """The key-slice test (V-A): the annotated lesion that each tracklet belongs to.

    Parameters
    ----------
    tracklets : Tracklets
        Of a volume.
    labels : Labels
        Its annotations, before anything is mined.
    theta : float
        IoU that any box of the tracklet must exceed with an annotation on its slice.

    Returns
    -------
    ndarray of int64, (T,)
        Index into `labels.types`; `NOBODY` for a tracklet that passes no test. Of several annotations the one with the
        best IoU counts, ties the first in `labels`.
    """
    best = np.zeros((len(tracklets), len(labels.boxes)), np.float32)
    np.maximum.at(best, tracklets.members, row_iou(tracklets.rows, labels.boxes))
    if not best.size:
        return np.full(len(tracklets), NOBODY, np.int64)
    row = best.argmax(axis=1)
    return np.where(best.max(axis=1) > theta, labels.lesion[row], NOBODY).astype(np.int64)


def compact(rows: Rows, known: Rows) -> NDArray[np.bool_]:
    """Tell which boxes of a tracklet may show the same lesion as a box that is known to.

    Parameters
    ----------
    rows : ndarray of float32, (N, 5)
        Boxes of the tracklet.
    known : ndarray of float32, (M, 5)
        Boxes of the lesion.

    Returns
    -------
    ndarray of bool, (N,)
        Whether any of the known boxes is within `REACH` and overlaps by `ALIKE`.

    Notes
    -----
    Not in the paper. A tracklet that begins at a lesion may run on along a vessel, a bone or the gut; a few of them,
    with up to 41 wrong boxes each, taught the next training to find vertebrae and the aorta. Of 258 volumes of 88
    simulated patients, 92 % of the mined boxes showed a lesion (IoU of 0.3) instead of 80 %, and 2 % of the right ones
    were lost.
    """
    gap = np.abs(rows[:, :1] - known[:, 0]) * GRID_SPACING[2]
    sides = np.maximum(known[:, 3] - known[:, 1], known[:, 4] - known[:, 2]) * GRID_SPACING[0]
    overlaps = np.asarray(ops.iou(rows[:, 1:], known[:, 1:]), np.float32)
    near = (gap <= REACH * sides) & (overlaps >= ALIKE)
    return np.asarray(near.any(axis=1))


def add_lesions(labels: Labels, rows: Rows, lesion: NDArray[np.int64], types: tuple[str, ...] = ()) -> Labels:
    """Labels with more rows behind theirs, and with more lesions behind theirs.

    Parameters
    ----------
    labels : Labels
        What is there.
    rows : ndarray of float32, (N, 5)
        Boxes to add.
    lesion : ndarray of int64, (N,)
        Their lesions: an index into `labels.types` or, behind these, into `types`.
    types : tuple of str
        Types of the lesions that are new.

    Returns
    -------
    Labels
    """
    return replace(
        labels,
        boxes=np.concatenate((labels.boxes, rows.astype(np.float32))),
        lesion=np.concatenate((labels.lesion, lesion.astype(np.int64))),
        types=(*labels.types, *types),
    )
