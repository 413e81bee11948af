"""Simulated training, validation and test cases: real or phantom CTs with inserted lesions whose boxes are known.

Four label scopes stand in for the four datasets of LENS (Table I): one universal set in which only a part of all
lesions is labelled, and three sets that label every lesion of a single type and none of the others. Everything a
case holds follows from its plan, so a case is named, made again and split by patient without being stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from lnsdk.errors import InputError
from lnsdk.io import read
from lnsdk.phantom import LESION_TYPES, LesionTruth, chest_phantom, draw_lesions, insert_lesions, organ_map
from lnsdk.trainers.common.backgrounds import Background, Role
from lnsdk.trainers.common.evaluation import EvaluationCase
from lnsdk.volume import Volume, to_lps_axes


@dataclass(frozen=True)
class Scope:
    """What one dataset labels.

    Attributes
    ----------
    name : str
        Name of the dataset and of its expert.
    types : tuple of str
        Lesion types that are labelled.
    labelled : float
        Share of the lesions of these types that carry a label; below 1 they are marked as routine reading does.
    size : int
        How many patients every real CT stands for.
    """

    name: str
    types: tuple[str, ...]
    labelled: float
    size: int = 1


SCOPES = (
    Scope("universal", tuple(LESION_TYPES), 0.75, size=2),
    Scope("lung", ("lung_solid", "lung_part_solid"), 1.0),
    Scope("liver", ("liver",), 1.0),
    Scope("lymph_node", ("lymph_node",), 1.0),
)
"""The four datasets (stand-ins for DeepLesion, LUNA, LiTS and NIH-LN of Table I). As in the table, the universal one is
the largest; it alone labels masses in muscle and marrow."""

FULL_SCOPE = Scope("all", tuple(LESION_TYPES), 1.0)
"""Validation and test cases: every inserted lesion is labelled."""

SCOPE_SHARE = 0.7
"""Share of a single-type case's lesions that are of its own type; the others lie there unlabelled."""

PHANTOM_SEEDS: dict[Role, int] = {"train": 0, "validation": 1_000_000, "test": 2_000_000}
"""First phantom seed of each role: no phantom is used in two of them."""

PHANTOM_ROOM = 10_000
"""Most phantoms of a set; a set's phantoms follow the first of its role and seed at this distance."""

SEEDS = 100
"""Seeds of sets lie below this: with `PHANTOM_ROOM` no role's phantoms reach the next one's."""


@dataclass(frozen=True)
class CasePlan:
    """Everything that makes a case.

    Attributes
    ----------
    id : str
        Name, unique within a set.
    scope : Scope
        What is labelled.
    seed : int
        Seed of the insertion.
    lesions : int
        Lesions to insert at most.
    background : Background or None
        Real CT, or None for a phantom.
    phantom_seed : int
        Seed of the phantom's anatomy.
    """

    id: str
    scope: Scope
    seed: int
    lesions: int
    background: Background | None = None
    phantom_seed: int = 0

    @property
    def kind(self) -> Literal["real", "phantom"]:
        """Where the background comes from."""
        return "phantom" if self.background is None else "real"

    def without_lesions(self) -> CasePlan:
        """The same background with nothing inserted."""
        return replace(self, lesions=0)


@dataclass(frozen=True)
class Case:
    """A CT with simulated lesions.

    Attributes
    ----------
    plan : CasePlan
        How it was made.
    volume : Volume
        The CT with the lesions in it, axes turned to left, posterior, superior.
    lesions : tuple of LesionTruth
        All inserted lesions, boxes in the volume's voxels.
    labelled : tuple of bool
        Whether a lesion carries a label in this case's scope.
    ignored : ndarray, (K, 6)
        Boxes of real findings that nobody labelled, x1, y1, z1, x2, y2, z2 in the volume's voxels.
    """

    plan: CasePlan
    volume: Volume
    lesions: tuple[LesionTruth, ...]
    labelled: tuple[bool, ...]
    ignored: np.ndarray


def plan_evaluation(
    backgrounds: Sequence[Background], role: Role, phantoms: int, repeats: int, lesions: int, seed: int
) -> list[CasePlan]:
    """Plans of a fully labelled set for a role other than training.

    Parameters
    ----------
    backgrounds : sequence of Background
        Real CTs with that role; each is used `repeats` times with other lesions.
    role : {"validation", "test"}
        Which phantoms to use.
    phantoms, repeats : int
        Phantom CTs, and uses of every real CT.
    lesions : int
        Lesions inserted in a case at most.
    seed : int
        Seed of all insertions and of the choice of phantoms, 0 to 99.

    Returns
    -------
    list of CasePlan
    """
    check_phantoms(seed, phantoms)
    plans = []
    for b, background in enumerate(backgrounds):
        for r in range(repeats):
            name = f"{background.id}-{seed}-{r}"
            plans.append(CasePlan(name, FULL_SCOPE, _seed(role, seed, b, r, 0), lesions, background))
    for p in range(phantoms):
        phantom = first_phantom(role, seed) + p
        insertion = _seed(role, seed, p, 0, 1)
        plans.append(CasePlan(f"phantom-{phantom}", FULL_SCOPE, insertion, lesions, phantom_seed=phantom))
    return plans


def make_case(plan: CasePlan, contrast_scale: float = 1.0) -> Case:
    """Read or generate the background of a plan and insert its lesions.

    Parameters
    ----------
    plan : CasePlan
        What to make.
    contrast_scale : float
        Factor on every lesion's contrast; 0 is the control that inserts nothing visible.

    Returns
    -------
    Case
    """
    rng = np.random.default_rng(plan.seed)
    volume, organs, ignored = _background(plan)
    types = drawn_types(plan.scope, plan.lesions, rng)
    specs = draw_lesions(volume, organs, plan.lesions, rng, types=types, keep_out=ignored)
    volume, truths = insert_lesions(volume, specs, rng, contrast_scale=contrast_scale)
    labelled = tuple(t.type in plan.scope.types and bool(rng.random() < plan.scope.labelled) for t in truths)
    return Case(plan, volume, truths, labelled, ignored)


def evaluation_case(case: Case, seed: int) -> EvaluationCase:
    """A case as the evaluation wants it; `seed` is that of the set it belongs to."""
    background = case.plan.background
    return EvaluationCase(
        id=case.plan.id,
        volume=case.volume,
        boxes=np.array([lesion.box for lesion in case.lesions], np.float32).reshape(-1, 6),
        types=tuple(lesion.type for lesion in case.lesions),
        diameters=np.array([lesion.diameter_mm for lesion in case.lesions], np.float32),
        ignored=case.ignored,
        kind=case.plan.kind,
        seed=seed,
        patient=f"phantom {case.plan.phantom_seed}" if background is None else background.patient,
    )


def check_seed(seed: int) -> None:
    """Refuse a seed for which the phantoms of two roles could meet.

    Raises
    ------
    InputError
        ``seed``.
    """
    if not 0 <= seed < SEEDS:
        raise InputError("seed", f"seed must be from 0 to {SEEDS - 1}, got {seed}")


def check_phantoms(seed: int, phantoms: int) -> None:
    """Refuse a set whose phantoms could be another set's.

    Raises
    ------
    InputError
        ``seed``, ``phantoms``.
    """
    check_seed(seed)
    if phantoms > PHANTOM_ROOM:
        raise InputError("phantoms", f"a set may use {PHANTOM_ROOM} phantom CTs at most, got {phantoms}")


def first_phantom(role: Role, seed: int) -> int:
    """Seed of the first phantom of a set; the others follow it."""
    return PHANTOM_SEEDS[role] + seed * PHANTOM_ROOM


def _seed(role: Role, *parts: int) -> int:
    """Seed of an insertion, 64 bits wide; no two roles or places share one.

    A seed sequence takes no notice of zeros at its end, so the parts are closed by a one, and their number is fixed.
    """
    state = np.random.SeedSequence((get_args(Role).index(role), *parts, 1)).generate_state(1, np.uint64)
    return int(state[0])


def _background(plan: CasePlan) -> tuple[Volume, np.ndarray, np.ndarray]:
    """Volume, organ map and boxes to ignore of a plan's background."""
    if plan.background is None:
        slices, spacing = _phantom_scan(plan.phantom_seed)
        phantom = chest_phantom(plan.phantom_seed, slices=slices, spacing=spacing)
        return phantom.volume, phantom.organs, np.zeros((0, 6), np.float32)
    return read_background(plan.background)


def read_background(background: Background) -> tuple[Volume, np.ndarray, np.ndarray]:
    """Volume of a real CT, axes turned to left, posterior, superior; its organ map; boxes (K, 6) to ignore in it."""
    volume, axes = to_lps_axes(read(background.path))
    organs = organ_map(volume, axes.boxes_from_source(background.liver))
    return volume, organs, axes.boxes_from_source(background.suspicious)


def _phantom_scan(seed: int) -> tuple[int, tuple[float, float, float]]:
    """Slices and spacing (x, y, z mm) of a phantom: field of view and slice thickness vary with its seed."""
    rng = np.random.default_rng((seed, 7))
    in_plane = float(rng.uniform(0.65, 0.9))
    thickness = float(rng.choice([1.25, 2.0, 2.5, 3.0, 5.0]))
    return int(rng.uniform(140.0, 220.0) / thickness), (in_plane, in_plane, thickness)


def drawn_types(scope: Scope, lesions: int, rng: np.random.Generator) -> tuple[str, ...] | None:
    """Types to draw from; single-type cases draw their own type more often than the others."""
    if scope.types == tuple(LESION_TYPES):
        return None
    others = tuple(t for t in LESION_TYPES if t not in scope.types)
    own = round(lesions * SCOPE_SHARE)
    picked = [*rng.choice(scope.types, own), *rng.choice(others, lesions - own)]
    return tuple(str(t) for t in picked)
