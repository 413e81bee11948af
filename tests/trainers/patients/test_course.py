"""Lesions over time and the marks of radiologists."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from lnsdk.phantom import LESION_TYPES, LesionSpec
from lnsdk.phantom.lesion_types import draw_diameter
from lnsdk.trainers.common.patients.course import CHANGE, ORGANS, Seen, choose_marks, follow, mark_chance
from lnsdk.trainers.common.patients.plan import PatientSetPlan, plan_patients


def specs(count: int, seed: int = 0) -> dict[str, LesionSpec]:
    rng = np.random.default_rng(seed)
    types = rng.choice(list(LESION_TYPES), count, p=[kind.frequency for kind in LESION_TYPES.values()])
    return {
        str(i): LesionSpec(str(t), (float(i), 0.0, 0.0), draw_diameter(LESION_TYPES[str(t)], rng), 0.0, 40.0, i)
        for i, t in enumerate(types)
    }


def test_lesions_keep_their_place_and_shape_and_change_in_size() -> None:
    lesions = specs(200)
    visits = follow(lesions, 3, np.random.default_rng(1))
    factors = []
    for before, after in pairwise(visits):
        for name in before.keys() & after.keys():
            a, b = before[name], after[name]
            assert (a.center, a.seed, a.type) == (b.center, b.seed, b.type)
            assert 0.85 <= b.contrast_hu / a.contrast_hu <= 1.15
            assert b.hu - a.hu == pytest.approx(b.contrast_hu - a.contrast_hu)
            low, high = LESION_TYPES[a.type].diameter_mm
            if low < b.diameter_mm < high:
                factors.append(b.diameter_mm / a.diameter_mm)
    assert CHANGE[0] <= min(factors) < 0.8
    assert 1.25 < max(factors) <= CHANGE[1]


def test_some_lesions_are_new_and_some_are_gone() -> None:
    visits = follow(specs(300), 3, np.random.default_rng(2))
    assert set().union(*visits) == set(specs(300))
    new = set(visits[2]) - set(visits[0])
    gone = set(visits[0]) - set(visits[2])
    assert 0.1 < len(new) / 300 < 0.3
    assert 0.05 < len(gone) / 300 < 0.2
    for name in set(visits[0]) & set(visits[2]):
        assert name in visits[1]  # nothing comes back


def test_one_study_shows_every_lesion_as_it_was_drawn() -> None:
    lesions = specs(20)
    assert follow(lesions, 1, np.random.default_rng(0)) == [lesions]


@pytest.mark.parametrize("seed", range(20))
def test_no_more_than_five_targets_and_two_of_an_organ(seed: int) -> None:
    seen = [Seen(name, spec.type, 40.0) for name, spec in specs(30, seed).items()]
    marks = choose_marks(seen, (), (), np.random.default_rng(seed))
    types = {lesion.identity: lesion.type for lesion in seen}
    assert len(marks) == len(set(marks)) <= 5
    assert max(Counter(ORGANS[types[name]] for name in marks).values()) <= 2


def test_both_kinds_of_lung_nodule_are_one_organ() -> None:
    seen = [Seen(str(i), kind, 30.0) for i, kind in enumerate(("lung_solid", "lung_part_solid") * 10)]
    assert len(choose_marks(seen, (), (), np.random.default_rng(0))) == 2


def test_the_largest_are_chosen_when_all_are_wanted() -> None:
    seen = [Seen(str(size), "liver", float(size)) for size in (50, 200, 100, 150)]
    marks = choose_marks(seen, (), (), np.random.default_rng(0))
    assert marks == ["200", "150"]


def test_large_and_known_marks_are_likelier() -> None:
    sizes = [mark_chance(mm, False, False) for mm in (4.0, 9.0, 15.0, 30.0)]
    assert sizes == sorted(sizes)
    assert sizes[1] == pytest.approx(0.5)
    assert mark_chance(9.0, marked=False, known=True) == pytest.approx(0.25)
    assert mark_chance(4.0, marked=True, known=True) > mark_chance(10.0, marked=False, known=False)


def test_nothing_seen_is_nothing_marked() -> None:
    assert choose_marks([], (), (), np.random.default_rng(0)) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_third_to_less_than_half_of_what_series_show_is_labelled(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labelled = shown = again = 0
    for plan in plan_patients(PatientSetPlan(patients=20, single=0, validation=0, test=0, seed=seed)):
        marked: set[str] = set()
        known: set[str] = set()
        course = follow(specs(plan.lesions, int(rng.integers(1000))), len(plan.studies), rng)
        for study, lesions in zip(plan.studies, course, strict=True):
            seen = [Seen(name, spec.type, spec.diameter_mm) for name, spec in lesions.items()]
            chosen = choose_marks(seen, marked, known, rng)
            labelled += len(chosen)  # in one series of the study
            shown += len(seen) * len(study.series)
            again += len(marked & set(chosen))
            marked.update(chosen)
            known.update(lesions)
    assert 0.30 <= labelled / shown <= 0.47
    assert again > 10
