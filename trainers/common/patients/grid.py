"""Series of simulated patients on the network's grid, whole or cut around the labelled key slices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from lnsdk.trainers.common.cases import GridCase, grid_truth, labels_of
from lnsdk.trainers.common.grid import GRID_SPACING, grid_frame, read_grid
from lnsdk.trainers.common.labels import Truth
from lnsdk.trainers.common.patients.make import SeriesCase, make_patient
from lnsdk.trainers.common.patients.plan import PatientPlan

Ints = npt.NDArray[np.int64]


def grid_cases(plan: PatientPlan) -> Iterator[GridCase]:
    """Make a patient's series on the network's grid.

    Parameters
    ----------
    plan : PatientPlan
        Whom to make.

    Yields
    ------
    GridCase
        One for every series, called PATIENT-SERIES; with `plan.reach_mm` one for every sub-volume, with a number behind
        the name. A series that shows none of the lesions labelled in the patient then gives none, as in DeepLesion.
    """
    for case in make_patient(plan):
        frame = grid_frame(case.volume)
        truth = grid_truth(case.lesions, case.identities, case.labelled, frame)
        chosen = key_rows(truth) if plan.routine else np.arange(len(truth.rows))
        chosen = chosen[truth.labelled[truth.owners[chosen]]]
        whole = GridCase(
            name=case.name,
            expert=plan.scope.name,
            source=read_grid(case.volume, frame),
            labels=labels_of(truth, chosen, frame.boxes(case.ignored)),
            truth=truth,
            patient=plan.id,
            study=f"{plan.id}-{case.study}",
            series=case.name,
        )
        if plan.reach_mm is None:
            yield whole
            continue
        keys = _marked_slices(case, truth)
        for number, span in enumerate(spans(keys, plan.reach_mm, len(whole.grid))):
            yield cut(whole, truth, chosen, span, f"{case.name}-{number}")


def key_rows(truth: Truth) -> Ints:
    """Row of every lesion on its key slice, where its cross-section is largest (RECIST; LENS V-A)."""
    sides = truth.rows[:, 3:] - truth.rows[:, 1:3]
    areas = sides[:, 0] * sides[:, 1]
    rows = [np.flatnonzero(truth.owners == lesion) for lesion in range(len(truth.types))]
    return np.array([own[np.argmax(areas[own])] for own in rows if len(own)], np.int64)


def _marked_slices(case: SeriesCase, truth: Truth) -> list[int]:
    """Key slices of the lesions that sub-volumes are cut around."""
    marked = [row for row in key_rows(truth) if truth.identities[truth.owners[row]] in case.marked]
    return sorted(int(truth.rows[row, 0]) for row in marked)


def spans(keys: list[int], reach_mm: float, depth: int) -> list[tuple[int, int]]:
    """Half-open slice ranges within a reach of the key slices; those that overlap or touch are one."""
    reach = round(reach_mm / GRID_SPACING[2])
    merged: list[tuple[int, int]] = []
    for key in sorted(keys):
        start, stop = max(key - reach, 0), min(key + reach + 1, depth)
        if merged and start <= merged[-1][1]:
            start = merged.pop()[0]
        merged.append((start, stop))
    return merged


def cut(whole: GridCase, truth: Truth, chosen: Ints, span: tuple[int, int], name: str) -> GridCase:
    """A sub-volume of a case.

    Parameters
    ----------
    whole : GridCase
        The series.
    truth : Truth
        Of the series.
    chosen : ndarray of int64
        Its rows that are labels.
    span : (int, int)
        First and past-the-last slice that is kept.
    name : str
        Of the sub-volume.
    """
    start, stop = span
    kept = np.flatnonzero((truth.rows[:, 0] >= start) & (truth.rows[:, 0] < stop))
    own = chosen[np.isin(chosen, kept)]
    lesions, owners = np.unique(truth.owners[kept], return_inverse=True)
    part = Truth.of(
        _cut_boxes(truth.boxes[lesions], span),
        [truth.types[lesion] for lesion in lesions],
        truth.diameters[lesions],
        [truth.identities[lesion] for lesion in lesions],
        np.isin(lesions, truth.owners[own]),
        truth.rows[kept] - np.array([start, 0, 0, 0, 0]),
        owners,
    )
    ignored = whole.labels.ignored
    inside = (ignored[:, 5] > start - 0.5) & (ignored[:, 2] < stop - 0.5)
    labels = labels_of(part, np.searchsorted(kept, own), _cut_boxes(ignored[inside], span))
    return GridCase(name, whole.expert, whole.grid[start:stop], labels, part, whole.patient, whole.study, whole.series)


def _cut_boxes(boxes: npt.NDArray[np.float32], span: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Boxes (N, 6) of a series in the slices of a sub-volume, ending where it ends."""
    start, stop = span
    moved = boxes.copy()
    moved[:, [2, 5]] = np.clip(moved[:, [2, 5]], start - 0.5, stop - 0.5) - start
    return moved
