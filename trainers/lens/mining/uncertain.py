"""Cross-dataset mining: boxes of the single-type experts that may be lesions nobody marked (LENS V-C)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.labels import UNKNOWN, Labels
from lnsdk.trainers.lens.mining.tracklets import THETA, add_lesions, apart, as_rows, group, pick

SIGMA = 0.5
"""Score that an uncertain box exceeds (LENS VI-B)."""

OVERLAP = 0.3
"""IoU above which a box overlaps a lesion that is annotated or mined. V-C names no number; this is theta_FP,
below which VI-B takes a proposal for another place than the lesion's."""


def suspicious(labels: Labels, found: SliceBoxes, sigma: float = SIGMA, overlap: float = OVERLAP) -> SliceBoxes:
    """Boxes that score high and overlap nothing known.

    Parameters
    ----------
    labels : Labels
        Annotations and mined boxes of a volume.
    found : SliceBoxes
        Boxes of the single-type experts alone, each with the score of the expert that gave it.
    sigma : float
        Score that a box must exceed.
    overlap : float
        Largest IoU with a box of `labels`.

    Returns
    -------
    SliceBoxes
    """
    confident = pick(found, found.scores > sigma)
    return pick(confident, apart(as_rows(confident), labels.boxes, overlap))


def add_uncertain(labels: Labels, boxes: SliceBoxes) -> Labels:
    """Add boxes of `suspicious` as uncertain, behind those that are there: training ignores them."""
    return replace(labels, uncertain=np.concatenate((labels.uncertain, as_rows(boxes))))


def add_as_lesions(labels: Labels, boxes: SliceBoxes, theta: float = THETA) -> Labels:
    """Add boxes as true lesions of unknown type instead, as the comparison "ignored as GT" of Table V does.

    Parameters
    ----------
    labels : Labels
        Of a volume.
    boxes : SliceBoxes
        From `suspicious`, or from another method that takes its boxes for lesions.
    theta : float
        IoU above which boxes of neighbouring slices are one lesion.

    Returns
    -------
    Labels
    """
    tracklets = group(boxes, theta)
    lesion = tracklets.members + len(labels.types)
    return add_lesions(labels, tracklets.rows, lesion, (UNKNOWN,) * len(tracklets))
