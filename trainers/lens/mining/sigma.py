"""Choice of sigma, the score above which a specialist's box is an uncertain lesion, on validation patients (Fig. 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.lens.mining.delta import choose_delta
from lnsdk.trainers.lens.mining.tracklets import as_rows
from lnsdk.trainers.lens.mining.truth import NONE, lesions_of_rows, truth_of

PRECISION = 0.5
"""Least share of uncertain boxes that are lesions: an uncertain box "can either be an unlabeled lesion or a false
positive" (V-C), and where nearly all are false positives, ignoring them takes away what teaches to reject them."""


@dataclass(frozen=True)
class SigmaChoice:
    """A chosen score.

    Attributes
    ----------
    sigma : float
        Boxes that score higher are uncertain lesions; 1, which none does, when no score reaches the precision.
    precision, recall : float
        Share of those boxes that are lesions, and share of the boxes that are lesions that score higher; NaN without
        any.
    chosen, lesions, boxes : int
        Boxes above sigma, boxes that are lesions, and all boxes.
    least_precision : float
        What was asked for.
    """

    sigma: float
    precision: float
    recall: float
    chosen: int
    lesions: int
    boxes: int
    least_precision: float


def choose_sigma(
    cases: Sequence[GridCase], specialists: Mapping[str, SliceBoxes], least_precision: float = PRECISION
) -> SigmaChoice:
    """The lowest score above which enough of the specialists' boxes are lesions.

    Parameters
    ----------
    cases : sequence of GridCase
        Simulated volumes of patients that no training saw.
    specialists : mapping of str to SliceBoxes
        Name of a case to the boxes of the single-type experts.
    least_precision : float
        Share of the boxes above sigma that must be lesions, of any type.
    """
    scores, right = [np.zeros(0)], [np.zeros(0, bool)]
    for case in cases:
        found = specialists[case.name]
        scores.append(found.scores.astype(np.float64))
        right.append(lesions_of_rows(as_rows(found), truth_of(case)) != NONE)
    choice = choose_delta(1.0 - np.concatenate(scores), np.concatenate(right), least_precision)
    return SigmaChoice(
        1.0 - choice.delta,
        choice.precision,
        choice.recall,
        choice.matched,
        choice.same,
        choice.pairs,
        choice.least_precision,
    )
