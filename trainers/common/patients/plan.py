"""Plans of simulated patients: whose anatomy, when each is scanned and how; nothing here makes a voxel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, product
from typing import Literal, get_args

import numpy as np

from lnsdk.trainers.common.backgrounds import Background, Role
from lnsdk.trainers.common.simulation import FULL_SCOPE, SCOPES, Scope, check_phantoms, first_phantom

STREAM = 20
"""Sets the random numbers of these plans apart from those of other simulated sets."""

STUDIES = {1: 0.2, 2: 0.45, 3: 0.35}
"""How many patients have how many studies. DeepLesion has 10,594 of 4,427 patients (LENS VI-A): 2.4 each."""

SERIES = {1: 0.55, 2: 0.45}
"""How many studies have how many series (LENS V-B: each "typically contains multiple"); fewer here, for their cost."""

THICKNESSES_MM = (2.0, 2.5, 3.0, 5.0)
"""Slice thicknesses, from the network's slice distance up to what routine reading uses."""

PIXELS_MM = (0.65, 0.9)
"""Range of the distance between pixels."""

SHIFT_MM = 6.0
"""A field of view is moved by less than this along x and y."""

SCAN_MISSING = 0.12
"""Most of a patient's length, as a share, that a scan leaves out at either end."""

SIGMAS = (8.0, 20.0)
"""Range of a patient's noise, HU, in slices of 3 mm reconstructed with a middle kernel. Recorded ones: 10 to 15."""

REAL_SIGMAS = (3.0, 8.0)
"""The same for a real CT, which has noise of its own already."""

FIRST_LESIONS = 3
"""Least lesions planned for a patient."""

REGIONS = {"lung": ("chest", "both"), "liver": ("abdomen", "both")}
"""Parts of the body that the scans of a single-type set show; any where none is named."""


PHANTOM_SIZE, PHANTOM_PIXELS_MM = 480, (0.7, 0.9)
PHANTOM_SLICE_MM, PHANTOM_LENGTHS_MM = 2.0, (140.0, 220.0)
"""Rows and columns of a phantom's anatomy, and ranges of its pixels and its length; slices as the network's."""


@dataclass(frozen=True)
class SeriesPlan:
    """One reconstruction of a study.

    Attributes
    ----------
    name : str
        Unique within the patient.
    thickness_mm, pixel_mm : float
        Distance between (and thickness of) slices, and distance between pixels.
    shift_mm : (float, float)
        How far the centre of the field of view lies from that of the anatomy, x and y.
    kernel : float
        0 smooth .. 1 sharp.
    sigma : float
        Noise that is added, HU.
    seed : int
        Of the noise.
    """

    name: str
    thickness_mm: float
    pixel_mm: float
    shift_mm: tuple[float, float]
    kernel: float
    sigma: float
    seed: int


@dataclass(frozen=True)
class StudyPlan:
    """One time point.

    Attributes
    ----------
    name : str
        Unique within the patient.
    scanned : (float, float)
        First and last place that is scanned, as shares of the anatomy's length from its first slice.
    series : tuple of SeriesPlan
        Its reconstructions.
    """

    name: str
    scanned: tuple[float, float]
    series: tuple[SeriesPlan, ...]


@dataclass(frozen=True)
class PhantomPlan:
    """Anatomy of a phantom patient, as `lnsdk.phantom.chest_phantom` takes it; spacing x, y, z in mm.

    It is made once: the phantom of the same seed with other slices is another patient.
    """

    seed: int
    slices: int
    spacing: tuple[float, float, float]
    size: int
    region: str | None


@dataclass(frozen=True)
class PatientPlan:
    """Everything that makes a simulated patient.

    Attributes
    ----------
    id : str
        Name, unique within a set.
    role : {"train", "validation", "test"}
        What the patient may be used for.
    scope : Scope
        What is labelled.
    seed : int
        Of the lesions, their course and the labels.
    lesions : int
        Lesions at most.
    studies : tuple of StudyPlan
        Time points, the earliest first.
    anatomy : PhantomPlan or Background
        A phantom, or a real CT.
    reach_mm : float or None
        Sub-volumes end this far from the labelled key slices, as those of DeepLesion; None keeps whole scans.
    """

    id: str
    role: Role
    scope: Scope
    seed: int
    lesions: int
    studies: tuple[StudyPlan, ...]
    anatomy: PhantomPlan | Background
    reach_mm: float | None = None

    @property
    def kind(self) -> Literal["real", "phantom"]:
        """Where the anatomy comes from."""
        return "phantom" if isinstance(self.anatomy, PhantomPlan) else "real"

    @property
    def routine(self) -> bool:
        """Whether labels are what routine reading leaves (key slices of some lesions) and not whole lesions."""
        return self.scope.labelled < 1.0 or self.role == "validation"


@dataclass(frozen=True)
class PatientSetPlan:
    """A set of simulated patients.

    Attributes
    ----------
    patients : int
        Phantom patients of the universal training set, with several studies and series.
    single : int
        Phantom patients of each single-type training set, with one series each, as in their datasets.
    validation : int
        Phantom patients for validation, with several studies and series, labelled as those of the universal training
        set are.
    test : int
        Phantom patients for testing, with one series each and every lesion labelled.
    lesions : int
        Lesions of a patient at most.
    seed : int
        Of everything, 0 to 99.
    reach_mm : float or None
        How much of the universal training scans is kept around labelled key slices; None keeps whole scans.
    backgrounds : tuple of Background
        Real CTs; each becomes patients of its role: those for training one in every scope. Their studies are stand-ins:
        parts of the same scan, moved, resampled, with noise added and lesions that changed.

    Raises
    ------
    ValueError
        For a negative count, too few lesions or a reach that is not positive.
    InputError
        ``seed``, ``phantoms``: where the phantoms of two sets could meet.
    """

    patients: int = 40
    single: int = 10
    validation: int = 8
    test: int = 10
    lesions: int = 7
    seed: int = 0
    reach_mm: float | None = None
    backgrounds: tuple[Background, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be planned."""
        for name in ("patients", "single", "validation", "test"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.lesions < FIRST_LESIONS:
            raise ValueError(f"lesions must be {FIRST_LESIONS} or more, got {self.lesions}")
        if self.reach_mm is not None and not self.reach_mm > 0:
            raise ValueError(f"reach_mm must be positive, or None for whole scans, got {self.reach_mm}")
        for phantoms in (self.patients + self.single * (len(SCOPES) - 1), self.validation, self.test):
            check_phantoms(self.seed, phantoms)


def plan_patients(plan: PatientSetPlan) -> tuple[PatientPlan, ...]:
    """Plan every patient of a set; the same set plan gives the same patients."""
    return (*_training(plan), *_evaluation(plan, "validation"), *_evaluation(plan, "test"))


def _training(plan: PatientSetPlan) -> Iterator[PatientPlan]:
    """Patients of the four scopes; no phantom is used twice."""
    phantom = count(first_phantom("train", plan.seed))
    real = [background for background in plan.backgrounds if background.role == "train"]
    for scope in SCOPES:
        several = scope.labelled < 1.0
        for _ in range(plan.patients if several else plan.single):
            yield _patient(plan, "train", scope, next(phantom), several)
        for background, repeat in product(real, range(scope.size)):
            yield _patient(plan, "train", scope, repeat, several, background)


def _evaluation(plan: PatientSetPlan, role: Role) -> Iterator[PatientPlan]:
    """Patients with every type of lesion; those for validation come again, so that matching can be measured."""
    first, several = first_phantom(role, plan.seed), role == "validation"
    for phantom in range(first, first + (plan.validation if several else plan.test)):
        yield _patient(plan, role, FULL_SCOPE, phantom, several)
    for background in plan.backgrounds:
        if background.role == role:
            yield _patient(plan, role, FULL_SCOPE, 0, several, background)


def _patient(
    plan: PatientSetPlan, role: Role, scope: Scope, number: int, several: bool, background: Background | None = None
) -> PatientPlan:
    """Draw a patient; `number` is the phantom's seed, or which of a real CT's patients in its scope this is."""
    name = f"{role}-{scope.name}-{'phantom' if background is None else background.id}-{number}"
    key = (
        STREAM,
        get_args(Role).index(role),
        plan.seed,
        *name.encode(),
        1,
    )  # closed by a one: zeros at an end are lost
    rng = np.random.default_rng(key)
    lesions = int(rng.integers(FIRST_LESIONS, plan.lesions + 1))
    sigma = float(rng.uniform(*(SIGMAS if background is None else REAL_SIGMAS)))
    visits = _drawn(STUDIES, rng) if several else 1
    studies = tuple(_study(str(v + 1), sigma, _drawn(SERIES, rng) if several else 1, rng) for v in range(visits))
    reach = plan.reach_mm if several and role == "train" else None
    anatomy = _phantom(number, scope, rng) if background is None else background
    return PatientPlan(name, role, scope, int(rng.integers(2**62)), lesions, studies, anatomy, reach)


def _phantom(seed: int, scope: Scope, rng: np.random.Generator) -> PhantomPlan:
    """Draw how a phantom is made."""
    pixel, slices = float(rng.uniform(*PHANTOM_PIXELS_MM)), int(rng.uniform(*PHANTOM_LENGTHS_MM) / PHANTOM_SLICE_MM)
    regions = REGIONS.get(scope.name)
    region = None if regions is None else str(rng.choice(regions))
    return PhantomPlan(seed, slices, (pixel, pixel, PHANTOM_SLICE_MM), PHANTOM_SIZE, region)


def _study(name: str, sigma: float, series: int, rng: np.random.Generator) -> StudyPlan:
    """Draw a study; its series differ in slice thickness and kernel, and so in noise."""
    missing = rng.uniform(0.0, SCAN_MISSING, 2)
    pixel, shift = float(rng.uniform(*PIXELS_MM)), rng.uniform(-SHIFT_MM, SHIFT_MM, 2)
    thicknesses = rng.permutation(THICKNESSES_MM)[:series]
    kernels = rng.permutation(rng.uniform((0.0, 0.5), (0.5, 1.0)))[:series]
    made = tuple(
        SeriesPlan(
            f"{name}-{s + 1}",
            float(thickness),
            pixel,
            (float(shift[0]), float(shift[1])),
            float(kernel),
            sigma * relative_noise(thickness, kernel),
            int(rng.integers(2**62)),
        )
        for s, (thickness, kernel) in enumerate(zip(thicknesses, kernels, strict=True))
    )
    return StudyPlan(name, (float(missing[0]), float(1.0 - missing[1])), made)


def relative_noise(thickness_mm: float, kernel: float) -> float:
    """Noise against that of 3 mm and a middle kernel: photons go with the thickness, sharp kernels let more through."""
    return float(np.sqrt(3.0 / thickness_mm) * (0.6 + 0.8 * kernel))


def _drawn(shares: dict[int, float], rng: np.random.Generator) -> int:
    return int(rng.choice(list(shares), p=list(shares.values())))


def case_names(plan: PatientPlan) -> Sequence[str]:
    """Names of a patient's series, the earliest first."""
    return [f"{plan.id}-{series.name}" for study in plan.studies for series in study.series]
