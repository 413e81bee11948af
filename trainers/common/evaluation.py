"""Runs a detector over simulated test cases, whose lesions are known, and counts what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lnsdk.errors import InputError
from lnsdk.metrics import HIT_OVERLAP, Froc, froc, froc_by_group, size_class
from lnsdk.metrics.froc import Overlap
from lnsdk.metrics.sizes import group_order
from lnsdk.ops import iobb
from lnsdk.results import Detections
from lnsdk.volume import Volume


class Found(NamedTuple):
    """What a detector found in one volume.

    Attributes
    ----------
    boxes : ndarray, (N, 6)
        x1, y1, z1, x2, y2, z2 in continuous voxel indices of the volume as given.
    scores : ndarray, (N,)
        Fused score of each box.
    expert_scores : mapping of str to ndarray, (N,)
        Each expert's score of each box. May be empty when there is no box.
    """

    boxes: NDArray[np.floating[Any]]
    scores: NDArray[np.floating[Any]]
    expert_scores: Mapping[str, NDArray[np.floating[Any]]]


Detect = Callable[[Volume], Found]
"""A detector as it is evaluated: with every box it finds, whatever its score."""


@dataclass(frozen=True, eq=False)
class EvaluationCase:
    """A volume whose lesions are all known.

    Attributes
    ----------
    id : str
        Name, unique within the test.
    volume : Volume
        The CT with the lesions in it.
    boxes : ndarray, (M, 6)
        The lesions, in continuous voxel indices of `volume`.
    types : tuple of str
        Their types.
    diameters : ndarray, (M,)
        Their diameters in mm.
    ignored : ndarray, (K, 6)
        Places where a detection that hits no lesion does not count.
    kind : {"real", "phantom"}
        Where the background comes from.
    seed : int
        Insertion seed of the set that the case belongs to.
    patient : str
        Whose CT the background is, or which phantom; cases of one patient are not independent. Empty when the case is
        the only one.
    """

    id: str
    volume: Volume
    boxes: NDArray[np.floating[Any]]
    types: tuple[str, ...]
    diameters: NDArray[np.floating[Any]]
    ignored: NDArray[np.floating[Any]]
    kind: Literal["real", "phantom"]
    seed: int
    patient: str = ""


@dataclass(frozen=True, eq=False)
class CaseResult:
    """A case without its voxels, and what was found in it; the attributes are those of `EvaluationCase`."""

    id: str
    boxes: NDArray[np.floating[Any]]
    types: tuple[str, ...]
    diameters: NDArray[np.floating[Any]]
    ignored: NDArray[np.floating[Any]]
    kind: Literal["real", "phantom"]
    seed: int
    found: Found
    patient: str = ""


@dataclass(frozen=True)
class Row:
    """One curve of an evaluation.

    Attributes
    ----------
    table : str
        What the lesions or volumes are told apart by.
    label : str
        Which of them these are.
    ranking : str
        Whose scores rank the boxes: "fused" or an expert's name.
    overlap : {"iobb", "iou"}
        What a hit is measured by.
    froc : Froc
        The curve.
    """

    table: str
    label: str
    ranking: str
    overlap: Overlap
    froc: Froc


@dataclass(frozen=True)
class Evaluation:
    """All curves of a test on simulated lesions.

    Attributes
    ----------
    rows : tuple of Row
        Table by table; the first is the fused detector over everything.
    experts : tuple of str
        Names of the experts.
    volumes : mapping of str to int
        Number of volumes with a real and with a phantom background.
    lesions : int
        Number of lesions.
    seeds : tuple of int
        Insertion seeds.
    bootstraps : int
        Resamples behind the intervals.
    patients : int
        Patients and phantoms behind the volumes: what is resampled.
    """

    rows: tuple[Row, ...]
    experts: tuple[str, ...]
    volumes: Mapping[str, int]
    lesions: int
    seeds: tuple[int, ...]
    bootstraps: int
    patients: int

    @property
    def overall(self) -> Froc:
        """Fused detector over all lesions, IoBB."""
        return self.rows[0].froc


class ControlCase(NamedTuple):
    """A background, the same after insertions at zero contrast, and these: boxes (M, 6) in voxels, and types."""

    untouched: Volume
    inserted: Volume
    boxes: NDArray[np.floating[Any]]
    types: tuple[str, ...]


class Control(NamedTuple):
    """Scores at places where lesions were inserted at zero contrast, of insertions that changed a voxel.

    Attributes
    ----------
    types : tuple of str
        Lesion type of each insertion.
    before, after : ndarray, (M,)
        Highest score of a box that hits the place without and with the insertion, 0 where there is none.
    """

    types: tuple[str, ...]

    before: NDArray[np.float64]
    after: NDArray[np.float64]


def from_detections(detections: Detections) -> Found:
    """Arrays of what `lnsdk.Detector` answered; run it with ``threshold=0``, or the curve ends early."""
    lesions = detections.lesions
    names = tuple(dict.fromkeys(name for lesion in lesions for name in lesion.expert_scores))
    return Found(
        boxes=np.array([lesion.box for lesion in lesions], np.float32).reshape(-1, 6),
        scores=np.array([lesion.score for lesion in lesions], np.float32),
        expert_scores={
            name: np.array([lesion.expert_scores[name] for lesion in lesions], np.float32) for name in names
        },
    )


def run(
    detect: Detect, cases: Iterable[EvaluationCase], progress: Callable[[CaseResult], None] | None = None
) -> tuple[CaseResult, ...]:
    """Run a detector over cases; each volume is let go before the next is asked for.

    Parameters
    ----------
    detect : callable
        Volume to `Found`.
    cases : iterable of EvaluationCase
        May be a generator, so that only one volume is in memory.
    progress : callable, optional
        Called with each result.

    Returns
    -------
    tuple of CaseResult
    """
    results = []
    for case in cases:
        known = case.boxes, case.types, case.diameters, case.ignored, case.kind, case.seed
        result = CaseResult(case.id, *known, detect(case.volume), case.patient)
        results.append(result)
        if progress is not None:
            progress(result)
    return tuple(results)


def summarize(results: Sequence[CaseResult], *, bootstraps: int = 1000, seed: int = 0) -> Evaluation:
    """Compute the curves of a test: fused and per expert, by lesion type, size, background and insertion seed.

    An expert's curve ranks the boxes of the fused detector by that expert's scores. Groups of lesions share the false
    positives of all detections; groups of volumes have their own.

    Parameters
    ----------
    results : sequence of CaseResult
        What `run` returned.
    bootstraps, seed : int
        Of the 95 % intervals over patients and phantoms.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        When there is no lesion in any case.
    """
    experts = tuple(dict.fromkeys(name for result in results for name in result.found.expert_scores))

    def curve(
        table: str, label: str, chosen: Sequence[CaseResult], ranking: str = "fused", overlap: Overlap = "iobb"
    ) -> Row:
        predictions, truths, ignored = _inputs(chosen, ranking)
        result = froc(
            predictions,
            truths,
            overlap=overlap,
            threshold=HIT_OVERLAP,
            ignore=ignored,
            bootstraps=bootstraps,
            seed=seed,
            clusters=_patients(chosen),
        )
        return Row(table, label, ranking, overlap, result)

    def grouped(table: str, groups: Sequence[Sequence[str]], ranking: str = "fused") -> list[Row]:
        predictions, truths, ignored = _inputs(results, ranking)
        curves = froc_by_group(
            predictions,
            truths,
            groups,
            threshold=HIT_OVERLAP,
            ignore=ignored,
            bootstraps=bootstraps,
            seed=seed,
            clusters=_patients(results),
        )
        return [Row(table, label, ranking, "iobb", curves[label]) for label in sorted(curves, key=group_order)]

    types = [result.types for result in results]
    sizes = [[size_class(diameter) for diameter in result.diameters] for result in results]
    rows = [
        curve("ranking", ranking, results, ranking, overlap)
        for overlap in ("iobb", "iou")
        for ranking in ("fused", *experts)
    ]
    rows += grouped("lesion type", types)
    rows += grouped("lesion size", sizes)
    rows += [curve("background", kind, chosen) for kind, chosen in _split(results, lambda result: result.kind)]
    rows += [curve("insertion seed", s, chosen) for s, chosen in _split(results, lambda result: str(result.seed))]
    for expert in experts:
        rows += grouped(f"lesion type, expert {expert}", types, expert)
    return Evaluation(
        rows=tuple(rows),
        experts=experts,
        volumes={kind: sum(result.kind == kind for result in results) for kind in ("real", "phantom")},
        lesions=sum(len(result.boxes) for result in results),
        seeds=tuple(sorted({result.seed for result in results})),
        bootstraps=bootstraps,
        patients=len(set(_patients(results))),
    )


def scores_at(found: Found, boxes: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Highest score of a detection that hits each box.

    Parameters
    ----------
    found : Found
        Of one volume.
    boxes : ndarray, (M, 6)
        Places in the same voxels.

    Returns
    -------
    ndarray, (M,)
        0 where nothing hits.
    """
    if len(found.boxes) == 0 or len(boxes) == 0:
        return np.zeros(len(boxes))
    hits = iobb(found.boxes, boxes) >= HIT_OVERLAP
    return np.asarray(np.where(hits, found.scores[:, None], 0.0).max(axis=0), np.float64)


def zero_contrast_control(detect: Detect, cases: Iterable[ControlCase]) -> Control:
    """Ask whether inserting lesions without contrast leaves a trace that a detector can see.

    Parameters
    ----------
    detect : callable
        Volume to `Found`.
    cases : iterable of ControlCase
        Insertions that changed no voxel are left out: they can leave no trace.

    Returns
    -------
    Control

    Raises
    ------
    ValueError
        When no insertion changed a voxel.
    """
    types: list[str] = []
    before, after = [np.zeros(0)], [np.zeros(0)]
    for case in cases:
        changed = [i for i, box in enumerate(case.boxes) if _differ(case.untouched, case.inserted, box)]
        types += [case.types[i] for i in changed]
        before.append(scores_at(detect(case.untouched), case.boxes[changed]))
        after.append(scores_at(detect(case.inserted), case.boxes[changed]))
    if not types:
        raise ValueError("cases must hold at least one insertion that changed a voxel, got none")
    return Control(tuple(types), np.concatenate(before), np.concatenate(after))


def _differ(a: Volume, b: Volume, box: NDArray[np.floating[Any]]) -> bool:
    """Whether two volumes differ in a voxel whose centre lies in a box."""
    low = np.maximum(np.ceil(box[:3]).astype(int), 0)
    high = np.floor(box[3:]).astype(int) + 1
    place = tuple(slice(start, stop) for start, stop in zip(low[::-1], high[::-1], strict=True))
    return bool((a.voxels[place] != b.voxels[place]).any())


class OperatingPoint(NamedTuple):
    """A score threshold, and what the fused detector does there on the set that it was chosen on.

    Attributes
    ----------
    threshold : float
        To be compared with ``score >= threshold``.
    false_positives, sensitivity : float
        Reached there: per volume, and share of the lesions.
    """

    threshold: float
    false_positives: float
    sensitivity: float


def operating_point(results: Sequence[CaseResult], false_positives: float = 1.0) -> OperatingPoint:
    """Lowest score threshold at which the fused detector gives at most so many false positives per volume.

    Parameters
    ----------
    results : sequence of CaseResult
        What `run` returned.
    false_positives : float
        Per volume.

    Returns
    -------
    OperatingPoint

    Raises
    ------
    InputError
        ``no-operating-point`` when there is no such threshold.
    """
    predictions, truths, ignored = _inputs(results, "fused")
    curve = froc(predictions, truths, threshold=HIT_OVERLAP, ignore=ignored, bootstraps=0)
    threshold = curve.threshold_at(false_positives)
    reached = np.flatnonzero(curve.curve_thresholds >= threshold)
    if not np.isfinite(threshold) or len(reached) == 0:
        raise InputError(
            "no-operating-point",
            f"no score threshold gives {false_positives:g} false positives per volume or less on {len(results)} "
            "volumes: the network finds nothing; train it longer",
        )
    last = int(reached[-1])
    return OperatingPoint(threshold, float(curve.curve_false_positives[last]), float(curve.curve_sensitivity[last]))


def _inputs(
    results: Sequence[CaseResult], ranking: str
) -> tuple[
    list[tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]],
    list[NDArray[np.floating[Any]]],
    list[NDArray[np.floating[Any]]],
]:
    predictions = [(result.found.boxes, _scores(result.found, ranking)) for result in results]
    return predictions, [result.boxes for result in results], [result.ignored for result in results]


def _patients(results: Sequence[CaseResult]) -> list[str]:
    """Patient or phantom of every case, its own name where it has none."""
    return [result.patient or result.id for result in results]


def _scores(found: Found, ranking: str) -> NDArray[np.floating[Any]]:
    if ranking == "fused" or len(found.boxes) == 0:
        return found.scores
    return found.expert_scores[ranking]


def _split(results: Sequence[CaseResult], key: Callable[[CaseResult], str]) -> list[tuple[str, list[CaseResult]]]:
    """Results by key, without the groups that hold no lesion."""
    groups: dict[str, list[CaseResult]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return [(name, group) for name, group in groups.items() if any(len(result.boxes) for result in group)]
