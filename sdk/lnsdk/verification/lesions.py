"""How far two engines' lesions may be apart, by precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnsdk import ops
from lnsdk.results import Detections, Lesion


class ParityError(RuntimeError):
    """An engine, a graph or a whole detector differs from its reference."""


@dataclass(frozen=True)
class Bounds:
    """How far an engine may be from the float32 reference.

    Attributes
    ----------
    box : float or None
        Voxels by which a lesion's box may differ; None asks that the boxes' IoU is `OVERLAP` or more.
    score : float or None
        By how much a matched lesion's score may differ; None leaves that to `sensitivity` and to the operating point.
    near : float
        A lesion that scores less than this above the operating point may be missing or below it.
    alone : float or None
        Share of the lesions below the operating point, but two at least, that may be found by one engine only: rounding
        decides there which of two boxes with almost equal scores suppresses the other, and whether a box reaches the
        lowest score at all. None sets no bound.
    sensitivity : float or None
        How much mean sensitivity may be lost on cases whose lesions are known; None sets no bound.
    """

    box: float | None
    score: float | None
    near: float
    alone: float | None = None
    sensitivity: float | None = None


BOUNDS = {
    "fp32": Bounds(box=0.05, score=0.001, near=0.001, alone=0.01),
    "bf16": Bounds(box=0.25, score=0.01, near=0.01),
    "fp16": Bounds(box=0.25, score=0.01, near=0.01),
    "int8": Bounds(box=None, score=None, near=0.01, sensitivity=0.01),
}
"""By precision. `alone` of float32: with the first embedded model it was 3 of 32,278 lesions on 21 CTs, all on one of
them, with scores below 0.05."""

FP32 = BOUNDS["fp32"]

OVERLAP = 0.5
"""IoU of the boxes of one lesion where no bound in voxels is set."""


@dataclass(frozen=True)
class LesionParity:
    """Lesions of two engines on one volume, matched one to one.

    Attributes
    ----------
    pairs : tuple of (Lesion, Lesion)
        The reference's and the other's.
    box_difference, score_difference : float
        Largest over the pairs, in voxels and score.
    unmatched : tuple of Lesion
        Lesions without a partner, of either result.
    """

    pairs: tuple[tuple[Lesion, Lesion], ...]
    box_difference: float
    score_difference: float
    unmatched: tuple[Lesion, ...]

    @property
    def matched(self) -> int:
        """Number of pairs."""
        return len(self.pairs)


def compare_lesions(reference: Detections, other: Detections, bounds: Bounds = FP32) -> LesionParity:
    """Match the lesions of two results on one volume, nearest boxes first.

    Parameters
    ----------
    reference, other : Detections
        Results of two engines, with every lesion whatever its score, so that one on either side of a threshold finds
        its partner.
    bounds : Bounds
        Which boxes may be of one lesion.

    Returns
    -------
    LesionParity
    """
    ours, theirs = list(reference.lesions), list(other.lesions)
    if not ours or not theirs:
        return LesionParity((), 0.0, 0.0, (*ours, *theirs))
    a, b = (np.array([lesion.box for lesion in lesions], np.float32) for lesions in (ours, theirs))
    gaps = _gaps(a, b)
    partner = _partners(gaps, gaps <= bounds.box) if bounds.box is not None else _overlapping(a, b)
    left = [lesion for i, lesion in enumerate(ours) if i not in partner]
    taken = set(partner.values())
    right = [lesion for j, lesion in enumerate(theirs) if j not in taken]
    boxes = max((float(gaps[pair]) for pair in partner.items()), default=0.0)
    pairs = tuple((ours[i], theirs[j]) for i, j in partner.items())
    scores = max((_score_gap(*pair) for pair in pairs), default=0.0)
    return LesionParity(pairs, boxes, scores, (*left, *right))


def check_lesions(reference: Detections, other: Detections, threshold: float, bounds: Bounds = FP32) -> LesionParity:
    """Compare two results and refuse what is outside the bounds.

    Parameters
    ----------
    reference, other : Detections
        As for `compare_lesions`.
    threshold : float
        Operating point: what scores above it must be found by both.
    bounds : Bounds
        Of the precision that `other` was computed in.

    Raises
    ------
    ParityError
        See `violations`.
    """
    parity = compare_lesions(reference, other, bounds)
    found = violations(parity, threshold, bounds)
    if found:
        raise ParityError(found[0])
    return parity


def violations(parity: LesionParity, threshold: float, bounds: Bounds) -> list[str]:
    """Say what of a comparison is outside the bounds.

    Parameters
    ----------
    parity : LesionParity
        Of a volume.
    threshold : float
        Operating point.
    bounds : Bounds
        Of the precision.

    Returns
    -------
    list of str
        A sentence when scores are not finite or differ by more than the bound, when a lesion that scores more than
        `near` above the threshold has no partner, or one that lies below it by more than `near`, and when more than
        `alone` have no partner.
    """
    lesions = (*parity.unmatched, *(lesion for pair in parity.pairs for lesion in pair))
    if not np.isfinite([lesion.score for lesion in lesions]).all():
        return ["an engine gives scores that are not finite"]
    found = []
    if bounds.score is not None and parity.score_difference > bounds.score:
        found.append(f"scores differ by {parity.score_difference:.2g}, allowed {bounds.score}")
    above = [lesion.score for lesion in parity.unmatched if lesion.score - threshold > bounds.near]
    if above:
        found.append(f"{len(above)} lesions were found by one engine only, the best with score {max(above):.3f}")
    crossed = sum(_crosses(a.score, b.score, threshold, bounds.near) for a, b in parity.pairs)
    if crossed:
        found.append(f"{crossed} lesions are above the operating point {threshold:.3f} for one engine only")
    if bounds.alone is not None and len(parity.unmatched) > max(2.0, bounds.alone * parity.matched):
        found.append(f"{len(parity.unmatched)} lesions were found by one engine only, {parity.matched} by both")
    return found


def _crosses(a: float, b: float, threshold: float, near: float) -> bool:
    """Whether two scores of a lesion lie on different sides of the threshold, and not just beside it."""
    return min(a, b) < threshold - near and max(a, b) > threshold + near


def _partners(distance: NDArray[np.floating], allowed: NDArray[np.bool_]) -> dict[int, int]:
    """Pair rows with columns, the smallest distances first; each has one partner at most."""
    pairs = np.argwhere(allowed)
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for i, j in pairs[np.argsort(distance[tuple(pairs.T)], kind="stable")].tolist():
        if i not in partner and j not in taken:
            partner[i] = j
            taken.add(j)
    return partner


def _overlapping(a: NDArray[np.float32], b: NDArray[np.float32]) -> dict[int, int]:
    overlaps = ops.iou(a, b)
    return _partners(-overlaps, overlaps >= OVERLAP)


def _score_gap(a: Lesion, b: Lesion) -> float:
    """How far two engines' scores of a lesion are apart.

    Only so many of the best boxes are looked at by false-positive reduction. Where rounding puts a box among them in
    one engine and just behind them in the other, the detector's own scores are compared.
    """
    if (a.fpr_score is None) == (b.fpr_score is None):
        return abs(a.score - b.score)
    return abs((2 * a.score - (a.fpr_score or 0.0)) - (2 * b.score - (b.fpr_score or 0.0)))


def _gaps(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Largest difference over the six coordinates between every box of one set and every one of the other."""
    gaps = np.zeros((len(a), len(b)))
    for ours, theirs in zip(a.T, b.T, strict=True):
        np.maximum(gaps, np.abs(ours[:, None] - theirs), out=gaps)
    return gaps
