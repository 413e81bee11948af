"""The parity gate: an exported graph must give what the torch module gives, on real inputs and every batch size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lnsdk.backends import BACKENDS, Graph, Session
from lnsdk.export.graph import ExportGraph
from lnsdk.results import Detections, Lesion

TOLERANCE = 1e-4
"""Largest difference of an output, relative to the largest magnitude in it (at least 1): float32 sums in another
order stay two orders below."""

BOX_TOLERANCE = 0.05
"""Voxels by which a lesion's box may differ between two engines of the same precision."""

SCORE_TOLERANCE = 0.001
"""By how much a lesion's score may differ; a lesion this close to the threshold may be missing."""

ALONE = 0.01
"""Share of the lesions below the operating point, but two at least, that may be found by one engine only: rounding
decides there which of two boxes with almost equal scores suppresses the other, and whether a box reaches the lowest
score at all. With the embedded model it was 3 of 32,278 on 21 CTs, all on one of them, with scores below 0.05."""


class ParityError(RuntimeError):
    """An exported graph or a whole detector differs from its reference."""


@dataclass(frozen=True)
class GraphParity:
    """How far a backend's output is from torch's.

    Attributes
    ----------
    graph, backend, output : str
        Which.
    batch : int
        Rows of the inputs.
    difference : float
        Largest absolute difference over the largest magnitude of the reference (at least 1).
    """

    graph: str
    backend: str
    output: str
    batch: int
    difference: float


@dataclass(frozen=True)
class LesionParity:
    """Lesions of two engines on one volume, matched one to one.

    Attributes
    ----------
    matched : int
        Pairs.
    box_difference, score_difference : float
        Largest over the pairs, in voxels and score.
    unmatched : tuple of Lesion
        Lesions without a partner, of either result; `check_lesions` allows those up to `SCORE_TOLERANCE` above its
        threshold and below.
    """

    matched: int
    box_difference: float
    score_difference: float
    unmatched: tuple[Lesion, ...]


def compare_graph(graph: ExportGraph, session: Session, backend: str, inputs: Sequence[Tensor]) -> list[GraphParity]:
    """Run one set of inputs through torch and through an engine.

    Raises
    ------
    ParityError
        When an output differs by more than `TOLERANCE` or is not finite.
    """
    with torch.no_grad():
        reference = graph.module(*inputs)
    arrays = {name: value.numpy() for name, value in zip(graph.signature.inputs, inputs, strict=True)}
    outputs = session.run(arrays)
    rows = []
    for name, expected in zip(graph.signature.outputs, reference, strict=True):
        difference = _relative_difference(expected.numpy(), outputs[name])
        if not difference <= TOLERANCE:
            raise ParityError(
                f"graph {graph.name!r} in {backend} differs from torch: output {name!r}, batch {len(inputs[0])}, "
                f"relative difference {difference:.2g}, allowed {TOLERANCE:.2g}"
            )
        rows.append(GraphParity(graph.name, backend, name, len(inputs[0]), difference))
    return rows


def check_graph(
    graph: ExportGraph, read: Graph, backends: Iterable[str], batches: Iterable[Sequence[Tensor]]
) -> list[GraphParity]:
    """Compare a graph in every backend on every set of inputs; see `compare_graph`."""
    sessions = {name: BACKENDS[name].open(read, "cpu", "fp32", None) for name in backends}
    return [
        row
        for inputs in batches
        for name, session in sessions.items()
        for row in compare_graph(graph, session, name, inputs)
    ]


def compare_lesions(reference: Detections, other: Detections) -> LesionParity:
    """Match the lesions of two results on one volume, nearest boxes first.

    Parameters
    ----------
    reference, other : Detections
        Results of two backends, with every lesion whatever its score, so that one on either side of a threshold
        finds its partner.

    Returns
    -------
    LesionParity
    """
    ours, theirs = list(reference.lesions), list(other.lesions)
    if not ours or not theirs:
        return LesionParity(0, 0.0, 0.0, (*ours, *theirs))
    gaps = _gaps(np.array([lesion.box for lesion in ours]), np.array([lesion.box for lesion in theirs]))
    close = np.argwhere(gaps <= BOX_TOLERANCE)
    partner: dict[int, int] = {}
    for i, j in close[np.argsort(gaps[tuple(close.T)], kind="stable")].tolist():
        if i not in partner and j not in partner.values():
            partner[i] = j
    left = [lesion for i, lesion in enumerate(ours) if i not in partner]
    right = [lesion for j, lesion in enumerate(theirs) if j not in partner.values()]
    boxes = max((float(gaps[pair]) for pair in partner.items()), default=0.0)
    scores = max((_score_gap(ours[i], theirs[j]) for i, j in partner.items()), default=0.0)
    return LesionParity(len(partner), boxes, scores, (*left, *right))


def _score_gap(a: Lesion, b: Lesion) -> float:
    """How far two engines' scores of a lesion are apart.

    Only so many of the best boxes are looked at by false-positive reduction. Where rounding puts a box among them in
    one engine and just behind them in the other, the detector's own scores are compared.
    """
    if (a.fpr_score is None) == (b.fpr_score is None):
        return abs(a.score - b.score)
    return abs((2 * a.score - (a.fpr_score or 0.0)) - (2 * b.score - (b.fpr_score or 0.0)))


def check_lesions(reference: Detections, other: Detections, threshold: float) -> LesionParity:
    """Compare two results and refuse what is outside the bounds.

    Parameters
    ----------
    reference, other : Detections
        As for `compare_lesions`.
    threshold : float
        Operating point: lesions above it must have a partner. Below it `ALONE` of them may lack one.

    Raises
    ------
    ParityError
        When scores differ by more than `SCORE_TOLERANCE`, when a lesion that scores more than `SCORE_TOLERANCE` above
        the threshold has no partner, when more than `ALONE` have none, or when a score is not finite.
    """
    if not np.isfinite([lesion.score for lesion in (*reference.lesions, *other.lesions)]).all():
        raise ParityError("a backend gives scores that are not finite")
    parity = compare_lesions(reference, other)
    if parity.score_difference > SCORE_TOLERANCE:
        raise ParityError(f"scores differ by {parity.score_difference:.2g}, allowed {SCORE_TOLERANCE}")
    alone = [lesion for lesion in parity.unmatched if lesion.score - threshold > SCORE_TOLERANCE]
    if alone:
        best = max(lesion.score for lesion in alone)
        raise ParityError(f"{len(alone)} lesions were found by one backend only, the best with score {best:.3f}")
    if len(parity.unmatched) > max(2.0, ALONE * parity.matched):
        raise ParityError(f"{len(parity.unmatched)} lesions were found by one backend only, {parity.matched} by both")
    return parity


def _gaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Largest difference over the six coordinates between every box of one set and every one of the other."""
    gaps = np.zeros((len(a), len(b)))
    for ours, theirs in zip(a.T, b.T, strict=True):
        np.maximum(gaps, np.abs(ours[:, None] - theirs), out=gaps)
    return gaps


def _relative_difference(expected: np.ndarray, found: np.ndarray) -> float:
    """NaN when either is not finite, so that no comparison with a bound can pass."""
    if expected.shape != found.shape:
        return float("nan")
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    return float(np.abs(expected - found).max(initial=0.0)) / scale
