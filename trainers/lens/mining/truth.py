"""Which true lesion of a simulated volume a mined box is; for measuring and for choosing delta, never for mining."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnsdk import ops
from lnsdk.metrics import HIT_OVERLAP
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.labels import Labels, Truth
from lnsdk.trainers.lens.mining.matching import key_rows
from lnsdk.trainers.lens.mining.tracklets import THETA, Rows, row_iou

NONE = -1
"""Of a box that is no lesion."""


def truth_of(case: GridCase) -> Truth:
    """The truth of a simulated case.

    Raises
    ------
    ValueError
        When the case has none.
    """
    if case.truth is None:
        raise ValueError(f"cases must be simulated ones, whose lesions are all known; {case.name} has no truth")
    return case.truth


def lesions_of_rows(rows: Rows, truth: Truth) -> NDArray[np.int64]:
    """The true lesion with the best IoU with each row, above `THETA` on its slice, or `NONE`: (N,)."""
    return _best(row_iou(rows, truth.rows), THETA, truth.owners)


def lesions_of_boxes(boxes: NDArray[np.float32], truth: Truth) -> NDArray[np.int64]:
    """The true lesion with the best 3D IoBB with each box (N, 6), above 0.3 as in VI-C, or `NONE`: (N,)."""
    return _best(np.asarray(ops.iobb(boxes, truth.boxes)), HIT_OVERLAP, np.arange(len(truth.boxes)))


def identity_of_annotation(labels: Labels, lesion: int, truth: Truth) -> str | None:
    """Name of the lesion that was annotated, by its key slice; None for an annotation of something else."""
    keys = key_rows(labels)
    row = labels.boxes[keys[labels.lesion[keys] == lesion]]
    found = lesions_of_rows(row, truth)
    return truth.identities[found[0]] if len(found) and found[0] != NONE else None


def _best(overlaps: NDArray[np.floating], least: float, owner: NDArray[np.int64]) -> NDArray[np.int64]:
    if not overlaps.size:
        return np.full(len(overlaps), NONE, np.int64)
    return np.where(overlaps.max(axis=1) > least, owner[overlaps.argmax(axis=1)], NONE).astype(np.int64)
