"""Making a simulated patient: the anatomy once, its lesions in every study, and every series scanned from that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lnsdk.phantom import LesionSpec, LesionTruth, chest_phantom, draw_lesions, insert_lesions
from lnsdk.trainers.common.patients.course import Seen, choose_marks, follow
from lnsdk.trainers.common.patients.plan import PatientPlan, PhantomPlan, StudyPlan
from lnsdk.trainers.common.patients.scan import Frame, lesion_in_series, noisy, place, scan
from lnsdk.trainers.common.simulation import drawn_types, read_background
from lnsdk.volume import Volume

U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class SeriesCase:
    """One series of a simulated patient.

    Attributes
    ----------
    name, study, series : str
        Of the case, and of what it shows.
    volume : Volume
        The CT with the lesions in it.
    lesions : tuple of LesionTruth
        All that the series shows, in its voxels.
    identities : tuple of str
        Their names: the same lesion of the patient has the same one in every series.
    labelled : tuple of bool
        Whether they carry a label here.
    marked : frozenset of str
        Lesions around which a sub-volume of this series is cut: those labelled here, else in the study, else in the
        patient.
    ignored : ndarray, (K, 6)
        Boxes of real findings that nobody labelled, x1, y1, z1, x2, y2, z2 in the volume's voxels.
    """

    name: str
    study: str
    series: str
    volume: Volume
    lesions: tuple[LesionTruth, ...]
    identities: tuple[str, ...]
    labelled: tuple[bool, ...]
    marked: frozenset[str]
    ignored: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Visit:
    """A study before it is scanned: the anatomy with its lesions, and which of them are marked in which series."""

    plan: StudyPlan
    anatomy: Volume
    lesions: Mapping[str, LesionTruth]
    marks: Sequence[frozenset[str]]


def make_patient(plan: PatientPlan, contrast_scale: float = 1.0) -> Iterator[SeriesCase]:
    """Make the series of a patient, the earliest first.

    Parameters
    ----------
    plan : PatientPlan
        Whom to make.
    contrast_scale : float
        Factor on every lesion's contrast; 0 is the control that inserts nothing visible.

    Yields
    ------
    SeriesCase
        A series is scanned when it is asked for.
    """
    rng = np.random.default_rng(plan.seed)
    anatomy, organs, ignored = _anatomy(plan)
    lesions = _first_lesions(plan, anatomy, organs, ignored, rng)
    visits = _visits(plan, anatomy, follow(lesions, len(plan.studies), rng), rng, contrast_scale)
    ever = frozenset().union(*(marks for visit in visits for marks in visit.marks))
    for visit in visits:
        together = frozenset().union(*visit.marks)
        for series, marks in zip(visit.plan.series, visit.marks, strict=True):
            frame = place(anatomy, visit.plan, series)
            seen = _seen(visit.lesions, frame)
            yield SeriesCase(
                name=f"{plan.id}-{series.name}",
                study=visit.plan.name,
                series=series.name,
                volume=scan(visit.anatomy, frame, series),
                lesions=tuple(seen.values()),
                identities=tuple(seen),
                labelled=tuple(identity in marks for identity in seen),
                marked=marks or together or ever,
                ignored=frame.boxes(ignored),
            )


def _anatomy(plan: PatientPlan) -> tuple[Volume, U8, npt.NDArray[np.float32]]:
    """The patient without lesions, the organ map, and boxes (K, 6) to leave alone."""
    anatomy = plan.anatomy
    if not isinstance(anatomy, PhantomPlan):
        return read_background(anatomy)
    phantom = chest_phantom(anatomy.seed, anatomy.slices, anatomy.spacing, anatomy.size, anatomy.region, noise=False)
    return phantom.volume, phantom.organs, np.zeros((0, 6), np.float32)


def _first_lesions(
    plan: PatientPlan, anatomy: Volume, organs: U8, ignored: npt.NDArray[np.float32], rng: np.random.Generator
) -> dict[str, LesionSpec]:
    """Lesions by identity, such that a reader can see them even in the patient's noisiest series."""
    sigma = max(series.sigma for study in plan.studies for series in study.series)
    seen = noisy(anatomy, sigma, int(rng.integers(2**62)))
    types = drawn_types(plan.scope, plan.lesions, rng)
    specs = draw_lesions(seen, organs, plan.lesions, rng, types=types, keep_out=ignored)
    return {f"{plan.id}-lesion-{i}": spec for i, spec in enumerate(specs)}


def _visits(
    plan: PatientPlan,
    anatomy: Volume,
    course: Sequence[Mapping[str, LesionSpec]],
    rng: np.random.Generator,
    contrast_scale: float,
) -> list[Visit]:
    """Insert the lesions of every study and choose the marks."""
    visits: list[Visit] = []
    marked: set[str] = set()
    known: set[str] = set()
    for study, specs in zip(plan.studies, course, strict=True):
        volume, truths = insert_lesions(anatomy, list(specs.values()), rng, contrast_scale)
        names = {spec: identity for identity, spec in specs.items()}
        lesions = {names[truth.spec]: truth for truth in truths}
        marks = _marks(plan, study, anatomy, lesions, marked, known, rng)
        visits.append(Visit(study, volume, lesions, marks))
        marked.update(*marks)
        known.update(lesions)
    return visits


def _marks(
    plan: PatientPlan,
    study: StudyPlan,
    anatomy: Volume,
    lesions: Mapping[str, LesionTruth],
    marked: set[str],
    known: set[str],
    rng: np.random.Generator,
) -> list[frozenset[str]]:
    """Identities labelled in each series of a study: what a reader marks in one of them, or all of the scope."""
    frames = [place(anatomy, study, series) for series in study.series]
    if not plan.routine:
        labelled = frozenset(name for name, lesion in lesions.items() if lesion.type in plan.scope.types)
        return [labelled & _seen(lesions, frame).keys() for frame in frames]
    read = int(rng.integers(len(frames)))
    whole = {name: lesion for name, lesion in _seen(lesions, frames[read]).items() if _is_whole(lesion, frames[read])}
    seen = [Seen(name, lesion.type, lesion.diameter_mm) for name, lesion in whole.items()]
    chosen = frozenset(choose_marks(seen, marked, known, rng))
    return [chosen if s == read else frozenset() for s in range(len(frames))]


def _seen(lesions: Mapping[str, LesionTruth], frame: Frame) -> dict[str, LesionTruth]:
    """Lesions that a series shows, in its voxels."""
    moved = {identity: lesion_in_series(lesion, frame) for identity, lesion in lesions.items()}
    return {identity: lesion for identity, lesion in moved.items() if lesion is not None}


def _is_whole(lesion: LesionTruth, frame: Frame) -> bool:
    """Whether the scan's ends leave a lesion its largest cross-section: nobody measures what is cut."""
    return 0.0 <= lesion.spec.center[2] <= frame.shape[0] - 1
