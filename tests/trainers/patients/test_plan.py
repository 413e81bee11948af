"""Plans of simulated patients: sizes, roles and names."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lnsdk.errors import InputError
from lnsdk.trainers.common.backgrounds import Background, Role
from lnsdk.trainers.common.patients import plan as planning
from lnsdk.trainers.common.patients.plan import PatientSetPlan, PhantomPlan, plan_patients, relative_noise
from lnsdk.trainers.common.simulation import SCOPES

SET = PatientSetPlan(patients=20, single=4, validation=5, test=6, reach_mm=30.0)


def real(role: Role) -> Background:
    empty = np.zeros((0, 6), np.float32)
    return Background(f"ct-{role}", Path(), "someone", role, empty, (), empty)


def test_counts_are_those_of_the_set() -> None:
    patients = plan_patients(SET)
    counts = {(p.role, p.scope.name): 0 for p in patients}
    for p in patients:
        counts[p.role, p.scope.name] += 1
    single = {("train", scope.name): 4 for scope in SCOPES[1:]}
    assert counts == {("train", "universal"): 20, **single, ("validation", "all"): 5, ("test", "all"): 6}


def test_same_set_gives_the_same_patients() -> None:
    assert plan_patients(SET) == plan_patients(SET)
    other = plan_patients(PatientSetPlan(patients=20, single=4, validation=5, test=6, seed=1))
    assert not {p.seed for p in other} & {p.seed for p in plan_patients(SET)}


def test_a_larger_set_begins_with_the_smaller_one() -> None:
    """Patients that are there are kept when a set grows."""
    larger = {
        p.id: p for p in plan_patients(PatientSetPlan(patients=30, single=4, validation=5, test=6, reach_mm=30.0))
    }
    for p in plan_patients(SET):
        if p.scope.name == "universal":
            assert larger[p.id] == p


def test_roles_and_sets_share_no_phantom_seed_or_name() -> None:
    patients = [p for seed in (0, 1, 99) for p in plan_patients(PatientSetPlan(seed=seed))]
    seeds = [p.anatomy.seed for p in patients if isinstance(p.anatomy, PhantomPlan)]
    assert len(set(seeds)) == len({p.id for p in patients}) == len({p.seed for p in patients}) == len(patients)


def test_only_universal_and_validation_patients_come_again() -> None:
    patients = plan_patients(SET)
    for p in patients:
        if p.scope.name != "universal" and p.role != "validation":
            assert [len(study.series) for study in p.studies] == [1]
        assert (p.reach_mm == 30.0) == (p.scope.name == "universal")
        assert p.routine == (p.scope.name == "universal" or p.role == "validation")
    several = [p for p in patients if p.scope.name == "universal" or p.role == "validation"]
    assert {len(p.studies) for p in several} == {1, 2, 3}
    assert {len(study.series) for p in several for study in p.studies} == {1, 2}


def test_series_differ_as_reconstructions_do() -> None:
    pairs = [s.series for p in plan_patients(SET) for s in p.studies if len(s.series) == 2]
    assert pairs
    for a, b in pairs:
        assert a.thickness_mm != b.thickness_mm
        assert (a.kernel < 0.5) != (b.kernel < 0.5)
        assert (a.pixel_mm, a.shift_mm) == (b.pixel_mm, b.shift_mm)
        assert a.seed != b.seed


def test_noise_by_hand() -> None:
    assert relative_noise(3.0, 0.5) == pytest.approx(1.0)
    assert relative_noise(12.0, 0.5) == pytest.approx(0.5)
    assert relative_noise(3.0, 1.0) == pytest.approx(1.4)


def test_real_cts_keep_their_role() -> None:
    roles: list[Role] = ["train", "validation", "test"]
    cts = tuple(map(real, roles))
    patients = plan_patients(PatientSetPlan(0, 0, 0, 0, backgrounds=cts))
    assert [(p.role, p.scope.name) for p in patients] == [
        ("train", "universal"),
        ("train", "universal"),
        ("train", "lung"),
        ("train", "liver"),
        ("train", "lymph_node"),
        ("validation", "all"),
        ("test", "all"),
    ]
    assert all(p.anatomy == cts[roles.index(p.role)] and p.kind == "real" for p in patients)
    assert len({p.id for p in patients}) == len({p.seed for p in patients}) == 7


def test_plans_can_be_sent_to_other_processes() -> None:
    patients = plan_patients(SET)
    assert pickle.loads(pickle.dumps(patients)) == patients


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patients": -1}, "patients must be 0 or more, got -1"),
        ({"lesions": 2}, "lesions must be 3 or more, got 2"),
        ({"reach_mm": 0.0}, "reach_mm must be positive"),
        ({"reach_mm": float("nan")}, "reach_mm must be positive"),
    ],
)
def test_bad_sets_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PatientSetPlan(**change)


@pytest.mark.parametrize("change", [{"seed": 100}, {"seed": -1}, {"patients": 9_980}])
def test_sets_that_could_meet_another_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        PatientSetPlan(**change)


def test_scans_end_inside_the_patient() -> None:
    for p in plan_patients(SET):
        for study in p.studies:
            assert 0.0 <= study.scanned[0] <= planning.SCAN_MISSING
            assert 1.0 - planning.SCAN_MISSING <= study.scanned[1] <= 1.0
