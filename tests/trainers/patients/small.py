"""A simulated patient that is made in a second: coarse voxels, few slices."""

from __future__ import annotations

from dataclasses import replace

from lnsdk.trainers.common.patients.plan import PatientPlan, PhantomPlan, SeriesPlan, StudyPlan
from lnsdk.trainers.common.simulation import SCOPES, Scope

ANATOMY = PhantomPlan(seed=7, slices=36, spacing=(1.5, 1.5, 4.0), size=256, region="both")


def series(name: str, thickness: float, pixel: float, shift: tuple[float, float], kernel: float) -> SeriesPlan:
    return SeriesPlan(name, thickness, pixel, shift, kernel, 8.0, sum(name.encode()))


FIRST = StudyPlan(
    "1", (0.0, 1.0), (series("1-1", 4.0, 1.5, (0.4, -1.3), 0.5), series("1-2", 5.0, 1.5, (0.4, -1.3), 0.1))
)
SECOND = StudyPlan("2", (0.04, 0.97), (series("2-1", 5.0, 1.3, (-3.0, 2.2), 0.9),))


def patient(scope: Scope = SCOPES[0], reach_mm: float | None = None, seed: int = 3) -> PatientPlan:
    return PatientPlan("someone", "train", scope, seed, 9, (FIRST, SECOND), ANATOMY, reach_mm)


def single_study(plan: PatientPlan) -> PatientPlan:
    return replace(plan, studies=(replace(FIRST, series=FIRST.series[:1]),))
