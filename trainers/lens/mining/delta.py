"""Choice of delta, the distance below which embeddings are of the same lesion, on validation patients (LENS Fig. 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.lens.mining.matching import Candidate, Embedding, MinedVolume, by_patient, nearest_annotations
from lnsdk.trainers.lens.mining.mine import propagated
from lnsdk.trainers.lens.mining.tracklets import THETA
from lnsdk.trainers.lens.mining.truth import NONE, identity_of_annotation, lesions_of_boxes, truth_of

PRECISION = 0.9
"""Least precision of matches; the paper found 90 % of 100 new lesions to be true (VI-D)."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Tracklets of validation volumes, each with the annotation of another volume that is nearest.

    Attributes
    ----------
    distances : ndarray of float64, (P,)
        L2 distance of the embeddings.
    same : ndarray of bool, (P,)
        Whether both are the same lesion of the patient.
    """

    distances: NDArray[np.float64]
    same: NDArray[np.bool_]


@dataclass(frozen=True)
class DeltaChoice:
    """A chosen threshold.

    Attributes
    ----------
    delta : float
        Distances below it match; 0 when no distance reaches the precision.
    precision, recall : float
        Share of the matched pairs that are the same lesion, and share of the same lesion's pairs that match; NaN
        without any.
    matched, same, pairs : int
        Matched pairs, pairs of the same lesion, and all pairs.
    least_precision : float
        What was asked for.
    """

    delta: float
    precision: float
    recall: float
    matched: int
    same: int
    pairs: int
    least_precision: float

    def record(self) -> dict[str, Any]:
        """The choice as a checkpoint holds it; `DeltaChoice(**record)` takes it back."""
        return asdict(self)


def collect_pairs(
    cases: Sequence[GridCase], found: Mapping[str, SliceBoxes], embedding: Embedding, theta: float = THETA
) -> Pairs:
    """Match validation patients as the mining does, and look up which matches are right.

    Parameters
    ----------
    cases : sequence of GridCase
        Simulated volumes of patients that no training saw, several studies or series of each, labelled as those that
        will be mined.
    found : mapping of str to SliceBoxes
        Name of a case to the boxes of all experts.
    embedding : Embedding
        Describes lesions.
    theta : float
        IoU above which boxes of neighbouring slices are one tracklet.

    Returns
    -------
    Pairs
        One for each tracklet that no annotation of its volume owns and whose patient has one in another volume.
    """
    distances, same = [], []
    for patient in by_patient([propagated(case, found[case.name], theta) for case in cases]):
        for candidate in nearest_annotations(patient, embedding):
            distances.append(candidate.distance)
            same.append(_is_same(patient, candidate))
    return Pairs(np.asarray(distances, float), np.asarray(same, bool))


def choose_delta(distances: ArrayLike, same: ArrayLike, least_precision: float = PRECISION) -> DeltaChoice:
    """The largest distance that keeps the precision.

    Parameters
    ----------
    distances : array_like, (P,)
        Of pairs.
    same : array_like of bool, (P,)
        Whether they are the same lesion.
    least_precision : float
        Share of matched pairs that must be the same lesion.

    Returns
    -------
    DeltaChoice
        Its delta is the next number above the largest distance d at which, of the pairs at most d apart, this share is
        the same lesion; so exactly these match, as pairs match below delta.

    Raises
    ------
    ValueError
        When the shapes differ, a distance is negative or not finite, or the precision is not within 0 to 1.
    """
    curve = precision_recall(distances, same)
    if not 0 < least_precision <= 1:
        raise ValueError(f"least_precision must be above 0 and at most 1, got {least_precision}")
    right = int(np.asarray(same, bool).sum())
    good = np.flatnonzero(curve.precision >= least_precision)
    pairs = int(curve.matched[-1]) if len(curve.matched) else 0
    if not len(good):
        return DeltaChoice(0.0, float("nan"), 0.0 if right else float("nan"), 0, right, pairs, least_precision)
    last = good[-1]
    return DeltaChoice(
        float(np.nextafter(curve.distances[last], np.inf)),
        float(curve.precision[last]),
        float(curve.recall[last]),
        int(curve.matched[last]),
        right,
        pairs,
        least_precision,
    )


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision and recall of matching up to each distance that occurs, ascending: all (T,)."""

    distances: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    matched: NDArray[np.int64]


def precision_recall(distances: ArrayLike, same: ArrayLike) -> Curve:
    """Precision and recall over the distance; pairs at the same distance come in together. See `choose_delta`."""
    far, right = np.asarray(distances, float), np.asarray(same, bool)
    if far.ndim != 1 or far.shape != right.shape:
        raise ValueError(f"distances and same must have one value per pair each, got {far.shape} and {right.shape}")
    if not (np.isfinite(far) & (far >= 0)).all():
        raise ValueError("distances must be finite and 0 or more")
    steps, inverse = np.unique(far, return_inverse=True)
    matched = np.cumsum(np.bincount(inverse, minlength=len(steps)))
    hits = np.cumsum(np.bincount(inverse[right], minlength=len(steps)))
    all_right = int(right.sum())
    recall = hits / all_right if all_right else np.full(len(steps), np.nan)
    return Curve(steps, hits / matched, recall, matched)


def draw_delta_curve(path: Path, pairs: Pairs, choice: DeltaChoice, title: str) -> None:
    """Draw precision and recall over delta, with the chosen point.

    Parameters
    ----------
    path : Path
        Picture to write.
    pairs : Pairs
        What the choice was made from.
    choice : DeltaChoice
        What was chosen.
    title : str
        Of the picture; says what the pairs are of.
    """
    curve = precision_recall(pairs.distances, pairs.same)
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    axis.step(curve.distances, curve.precision, where="post", label="precision")
    axis.step(curve.distances, curve.recall, where="post", label="recall")
    axis.axhline(choice.least_precision, color="0.7", linewidth=0.8, linestyle="--")
    axis.axvline(choice.delta, color="0.4", linewidth=0.8)
    text = f"δ = {choice.delta:.3f}: precision {choice.precision:.2f}, recall {choice.recall:.2f}"
    axis.plot([choice.delta] * 2, [choice.precision, choice.recall], "o", color="0.2", label=text)
    axis.set(title=title, xlabel="δ (L2 distance of embeddings)", ylabel=f"of {choice.pairs} pairs", ylim=(0, 1.03))
    axis.set_xlim(left=0)
    axis.legend(loc="lower right")
    figure.savefig(path, dpi=110)


def _is_same(patient: Sequence[MinedVolume], candidate: Candidate) -> bool:
    volume, source = patient[candidate.volume], patient[candidate.source].case
    truth = truth_of(volume.case)
    (lesion,) = lesions_of_boxes(volume.tracklets.boxes[[candidate.tracklet]], truth)
    annotated = identity_of_annotation(source.labels, candidate.lesion, truth_of(source))
    return bool(lesion != NONE) and truth.identities[lesion] == annotated
