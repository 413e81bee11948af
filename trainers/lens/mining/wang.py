"""Propagation to the slices beside an annotation, after Wang et al. (reference [36] of LENS; Table IV compares it)."""

from __future__ import annotations

import numpy as np

from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.lens.mining.tracklets import THETA, add_lesions, apart, as_rows, row_iou

REACH = (-1, 1)
"""Steps to the slices that are looked at: "the adjacent slices of the original annotations" (LENS VI-D)."""


def propagate_to_neighbours(labels: Labels, found: SliceBoxes, theta: float = THETA) -> Labels:
    """Add the boxes that continue an annotation on the slice before and after it.

    Parameters
    ----------
    labels : Labels
        Annotations of a volume.
    found : SliceBoxes
        Boxes of all its slices.
    theta : float
        IoU with the annotation, seen through the slices, that a box must exceed; a box with a larger IoU with an
        annotation on its own slice is that annotation, and not added.

    Returns
    -------
    Labels
        With the mined rows behind the annotations. A box continues one annotation at most, and a lesion has one row on
        a slice at most: higher IoU first, then higher score.
    """
    rows = as_rows(found)
    free = apart(rows, labels.boxes, theta)
    taken = set(zip(labels.lesion.tolist(), labels.boxes[:, 0].tolist(), strict=True))
    used: set[int] = set()
    for box, annotation in _continuations(labels, found, theta):
        place = (int(labels.lesion[annotation]), float(rows[box, 0]))
        if free[box] and box not in used and place not in taken:
            used.add(box)
            taken.add(place)
            labels = add_lesions(labels, rows[[box]], labels.lesion[[annotation]])
    return labels


def _continuations(labels: Labels, found: SliceBoxes, theta: float) -> list[tuple[int, int]]:
    """Pairs of a box and an annotation on a neighbouring slice that it overlaps, best first."""
    pairs = []
    for step in REACH:
        shifted = labels.boxes + np.array([step, 0, 0, 0, 0], np.float32)
        overlaps = row_iou(as_rows(found), shifted)
        pairs += [(float(overlaps[b, a]), int(b), int(a)) for b, a in np.argwhere(overlaps > theta)]
    pairs.sort(key=lambda pair: (-pair[0], -found.scores[pair[1]], pair[1], pair[2]))
    return [(box, annotation) for _, box, annotation in pairs]
