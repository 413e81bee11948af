"""Lesions of a patient from study to study, and which of them a radiologist marks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lnsdk.phantom import LESION_TYPES, LesionSpec

CHANGE = (0.75, 1.35)
"""Range of the factor on a diameter from one study to the next. RECIST 1.1 calls 0.7 of a sum of diameters a response
and 1.2 a progression (Eisenhauer 2009, 4.3): both kinds of course occur."""

CONTRAST_CHANGE = (0.85, 1.15)
"""Range of the factor on a lesion's contrast from one study to the next, at most `CONTRAST_CHANGE_HU`."""

CONTRAST_CHANGE_HU = 15.0

NEW, GONE = 0.2, 0.12
"""Shares of lesions that appear after the first study, and that are gone before the last."""

TARGETS, TARGETS_OF_ORGAN = 5, 2
"""Most lesions measured in a study, in all and of one organ (RECIST 1.1; Eisenhauer 2009, 3.1.1)."""

ORGANS = {
    "lung_solid": "lung",
    "lung_part_solid": "lung",
    "liver": "liver",
    "lymph_node": "lymph node",
    "muscle_mass": "soft tissue",
    "marrow_mass": "bone",
}
"""What RECIST counts as one organ; all lymph nodes are one."""

HALF_MARKED_MM, SLOPE_MM = 9.0, 4.0
"""Diameter at which half of the lesions are marked at first sight, and how fast that changes with it. RECIST 1.1 calls
10 mm measurable; DeepLesion holds smaller ones too (its reference [9]: diameters from 0.2 mm, 15.6 mm on average)."""

AGAIN = 0.8
"""Chance that what was marked before is marked again."""

OVERLOOKED = 0.5
"""Factor on the chance to be marked of what was seen before and not marked then."""


@dataclass(frozen=True)
class Seen:
    """A lesion that a radiologist could mark."""

    identity: str
    type: str
    diameter_mm: float


def follow(lesions: Mapping[str, LesionSpec], studies: int, rng: np.random.Generator) -> list[dict[str, LesionSpec]]:
    """Draw the course of lesions: which are there in each study, how large and how dense.

    Parameters
    ----------
    lesions : mapping of str to LesionSpec
        By identity, as they are when they are first seen.
    studies : int
        Number of studies.
    rng : Generator
        Source of randomness.

    Returns
    -------
    list of dict
        For each study its lesions; place and shape stay.
    """
    visits: list[dict[str, LesionSpec]] = [{} for _ in range(studies)]
    for identity, spec in lesions.items():
        first, last = _stay(studies, rng)
        now = spec
        for visit in range(first, last + 1):
            visits[visit][identity] = now
            now = _changed(now, rng)
    return visits


def _stay(studies: int, rng: np.random.Generator) -> tuple[int, int]:
    """First and last study in which a lesion is there."""
    new, gone = rng.random(2) < (NEW, GONE)
    first = int(rng.integers(1, studies)) if new and studies > 1 else 0
    last = int(rng.integers(first, studies - 1)) if gone and first < studies - 1 else studies - 1
    return first, last


def _changed(spec: LesionSpec, rng: np.random.Generator) -> LesionSpec:
    """The lesion one study later."""
    low, high = LESION_TYPES[spec.type].diameter_mm
    diameter = spec.diameter_mm * float(np.exp(rng.uniform(*np.log(CHANGE))))
    change = (float(rng.uniform(*CONTRAST_CHANGE)) - 1.0) * spec.contrast_hu
    change = float(np.clip(change, -CONTRAST_CHANGE_HU, CONTRAST_CHANGE_HU))
    return replace(
        spec,
        diameter_mm=float(np.clip(diameter, low, high)),
        hu=spec.hu + change,
        contrast_hu=spec.contrast_hu + change,
    )


def choose_marks(
    seen: Sequence[Seen], marked: Collection[str], known: Collection[str], rng: np.random.Generator
) -> list[str]:
    """Choose the lesions that a radiologist marks in a study, as RECIST 1.1 says and routine leaves out.

    Parameters
    ----------
    seen : sequence of Seen
        What the study shows.
    marked, known : collection of str
        Identities that were marked in an earlier study, and that were there in one.
    rng : Generator
        Source of randomness.

    Returns
    -------
    list of str
        Identities, larger lesions first.
    """
    chosen: list[str] = []
    organs: Counter[str] = Counter()
    for lesion in sorted(seen, key=lambda one: -one.diameter_mm):
        wanted = rng.random() < mark_chance(lesion.diameter_mm, lesion.identity in marked, lesion.identity in known)
        organ = ORGANS[lesion.type]
        if wanted and len(chosen) < TARGETS and organs[organ] < TARGETS_OF_ORGAN:
            chosen.append(lesion.identity)
            organs[organ] += 1
    return chosen


def mark_chance(diameter_mm: float, marked: bool, known: bool) -> float:
    """Chance that a radiologist wants to mark a lesion; rises with its diameter."""
    if marked:
        return AGAIN
    first_sight = 1.0 / (1.0 + float(np.exp((HALF_MARKED_MM - diameter_mm) / SLOPE_MM)))
    return first_sight * (OVERLOOKED if known else 1.0)
