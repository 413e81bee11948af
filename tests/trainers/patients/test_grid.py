"""Made patients: the same body and lesions in every series, labels on the lesions, sub-volumes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lnsdk.trainers.common.cases import GridCase, labels_of
from lnsdk.trainers.common.grid import grid_frame, read_grid
from lnsdk.trainers.common.labels import Truth
from lnsdk.trainers.common.patients.grid import cut, grid_cases, key_rows, spans
from lnsdk.trainers.common.patients.make import SeriesCase, make_patient
from lnsdk.trainers.common.patients.plan import PatientPlan
from lnsdk.trainers.common.simulation import FULL_SCOPE, SCOPES
from lnsdk.volume import Volume
from tests.trainers.patients.small import ANATOMY, patient, single_study


@pytest.fixture(scope="module")
def plan() -> PatientPlan:
    return patient()


@pytest.fixture(scope="module")
def made(plan: PatientPlan) -> list[SeriesCase]:
    return list(make_patient(plan))


@pytest.fixture(scope="module")
def cases(plan: PatientPlan) -> list[GridCase]:
    return list(grid_cases(plan))


def known(case: GridCase) -> Truth:
    assert case.truth is not None
    return case.truth


def sampled(volume: Volume, world: np.ndarray) -> np.ndarray:
    """HU at the voxels nearest to world places (N, 3)."""
    inverse = np.linalg.inv(volume.affine)
    x, y, z = np.round(world @ inverse[:3, :3].T + inverse[:3, 3]).astype(int).T
    return np.asarray(volume.voxels[z, y, x], np.float64)


def likeness(a: Volume, b: Volume) -> float:
    """Correlation of HU at the same world places, within the body's middle."""
    rng = np.random.default_rng(0)
    middle = (a.affine @ [*(np.array(a.shape[::-1]) / 2), 1.0])[:3]
    world = middle + rng.uniform((-110, -60, -40), (110, 60, 40), (4000, 3))
    return float(np.corrcoef(sampled(a, world), sampled(b, world))[0, 1])


def test_every_series_shows_the_same_body(plan: PatientPlan, made: list[SeriesCase]) -> None:
    other = next(make_patient(replace(single_study(plan), anatomy=replace(ANATOMY, seed=11))))
    for case in made[1:]:
        assert case.volume.shape != made[0].volume.shape
        assert likeness(made[0].volume, case.volume) > 0.9
        assert likeness(case.volume, other.volume) < 0.7


def test_the_same_lesion_lies_at_the_same_world_place(made: list[SeriesCase]) -> None:
    places: dict[str, list[np.ndarray]] = {}
    for case in made:
        for identity, lesion in zip(case.identities, case.lesions, strict=True):
            center = (lesion.box[:3] + lesion.box[3:]) / 2
            if 1 <= center[2] <= case.volume.shape[0] - 2:
                places.setdefault(identity, []).append((case.volume.affine @ [*center, 1.0])[:3])
    seen = [np.array(own) for own in places.values() if len(own) > 1]
    assert len(seen) >= 3
    for own in seen:
        assert np.linalg.norm(own - own[0], axis=1).max() < 4.0
    first = [own[0] for own in seen]
    for i, a in enumerate(first):
        assert all(np.linalg.norm(a - b) > 8.0 for b in first[i + 1 :])


def test_patients_are_the_same_for_a_plan(plan: PatientPlan, made: list[SeriesCase]) -> None:
    for first, second in zip(made, make_patient(plan), strict=True):
        assert np.array_equal(first.volume.voxels, second.volume.voxels)
        assert first.labelled == second.labelled
        assert first.identities == second.identities


def test_lesions_change_between_studies_and_not_between_series(made: list[SeriesCase]) -> None:
    sizes = [{name: lesion.diameter_mm for name, lesion in zip(c.identities, c.lesions, strict=True)} for c in made]
    assert sizes[0].keys() & sizes[1].keys()
    assert all(sizes[0][name] == sizes[1][name] for name in sizes[0].keys() & sizes[1].keys())
    again = sizes[0].keys() & sizes[2].keys()
    assert again
    assert all(sizes[0][name] != sizes[2][name] for name in again)


def test_routine_labels_are_one_slice_of_one_series(made: list[SeriesCase], cases: list[GridCase]) -> None:
    assert [any(case.labelled) for case in made[:2]].count(True) <= 1
    assert sum(map(len, (case.labels.boxes for case in cases))) >= 2
    for case in cases:
        truth = known(case)
        marked = np.flatnonzero(truth.labelled)
        assert len(case.labels.boxes) == len(marked) == len(case.labels.types)
        for row, lesion in zip(case.labels.boxes, case.labels.lesion, strict=True):
            owner = int(marked[lesion])
            own = truth.rows[truth.owners == owner]
            areas = np.prod(own[:, 3:] - own[:, 1:3], axis=1)
            assert (own == row).all(axis=1).any()
            assert np.prod(row[3:] - row[1:3]) == areas.max()
            assert case.labels.types[lesion] == truth.types[owner]


def test_rows_lie_on_the_inserted_lesions(plan: PatientPlan, cases: list[GridCase]) -> None:
    """Where a lesion was inserted, the grid differs from that of the same patient with invisible lesions."""
    for case, with_lesions, without in zip(cases, make_patient(plan), make_patient(plan, 0.0), strict=True):
        truth = known(case)
        assert with_lesions.identities == without.identities == truth.identities
        frame = grid_frame(with_lesions.volume)
        changed = np.abs(case.grid.astype(np.float64) - read_grid(without.volume, frame))
        depth = len(case.grid)
        checked = 0
        for owner, lesion in enumerate(with_lesions.lesions):
            own = truth.rows[truth.owners == owner]
            if abs(lesion.contrast_hu) < 25 or own[0, 0] < 4 or own[-1, 0] > depth - 5:
                continue
            low = np.floor([own[0, 0], *own[:, [2, 1]].min(axis=0)]).astype(int) - 3
            high = np.ceil([own[-1, 0], *own[:, [4, 3]].max(axis=0)]).astype(int) + 4
            near = changed[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
            places = np.argwhere(near > near.max() / 2) + low
            sizes = np.prod(own[:, 3:] - own[:, 1:3], axis=1)
            centers = np.stack([own[:, 0], own[:, [2, 4]].mean(axis=1), own[:, [1, 3]].mean(axis=1)], axis=1)
            middle = np.average(centers, axis=0, weights=sizes)
            np.testing.assert_allclose(places.mean(axis=0), middle, atol=2.0)
            checked += 1
        assert checked >= 2


@pytest.mark.parametrize("scope", SCOPES[1:], ids=lambda scope: scope.name)
def test_single_types_are_labelled_wholly_and_no_others(scope: object) -> None:
    chosen = next(one for one in SCOPES if one is scope)
    (case,) = grid_cases(single_study(patient(chosen)))
    truth = known(case)
    expected = [kind in chosen.types for kind in truth.types]
    assert any(expected)
    assert not all(expected)
    assert truth.labelled.tolist() == expected
    own = truth.rows[np.array(expected)[truth.owners]]
    np.testing.assert_array_equal(case.labels.boxes, own)
    assert set(case.labels.types) <= set(chosen.types)
    assert len(np.unique(case.labels.lesion)) == sum(expected) < len(own)


def test_fully_labelled_patients_label_every_series() -> None:
    made = list(grid_cases(patient(FULL_SCOPE)))
    assert len(made) == 3
    for case in made:
        assert known(case).labelled.all()
        np.testing.assert_array_equal(case.labels.boxes, known(case).rows)


def test_spans_by_hand() -> None:
    assert spans([20, 5, 60], 16.0, 64) == [(0, 29), (52, 64)]  # 8 slices of 2 mm; 5 + 9 > 20 - 8
    assert spans([], 16.0, 64) == []


def test_cut_moves_and_clips_what_it_keeps() -> None:
    rows = np.array([[4, 1, 1, 5, 5], [5, 0, 0, 6, 6], [9, 2, 2, 4, 4]], np.float32)
    truth = Truth.of(
        [[0, 0, 3.5, 6, 6, 5.5], [2, 2, 8.5, 4, 4, 9.5]],
        ["liver", "lung_solid"],
        [6, 3],
        ["a", "b"],
        [1, 1],
        rows,
        [0, 0, 1],
    )
    chosen = key_rows(truth)
    assert chosen.tolist() == [1, 2]
    ignored = np.array([[0, 0, 0, 9, 9, 7], [0, 0, 9, 9, 9, 11]], np.float32)
    whole = GridCase("w", "universal", np.arange(12.0)[:, None, None], labels_of(truth, chosen, ignored), truth, "p")
    part = cut(whole, truth, chosen, (5, 8), "w-0")
    assert part.grid.ravel().tolist() == [5, 6, 7]
    assert part.labels.boxes.tolist() == [[0, 0, 0, 6, 6]]
    assert part.labels.types == ("liver",)
    assert part.labels.ignored.tolist() == [[0, 0, -0.5, 9, 9, 2]]
    assert known(part).identities == ("a",)
    assert known(part).boxes.tolist() == [[0, 0, -0.5, 6, 6, 0.5]]
    assert known(part).rows.tolist() == [[0, 0, 0, 6, 6]]
    unmarked = known(cut(whole, truth, chosen, (3, 5), "w-1"))
    assert (unmarked.identities, unmarked.labelled.tolist()) == (("a",), [False])


def test_sub_volumes_hold_every_label(cases: list[GridCase]) -> None:
    parts = list(grid_cases(patient(reach_mm=12.0)))
    assert {part.series for part in parts} <= {case.series for case in cases}
    for case in cases:
        own = [part for part in parts if part.series == case.series]
        assert sum(len(part.labels.boxes) for part in own) == len(case.labels.boxes)
        for part in own:
            assert len(part.grid) < len(case.grid)
            start = next(z for z in range(len(case.grid)) if np.array_equal(case.grid[z], part.grid[0]))
            moved = part.labels.boxes + np.array([start, 0, 0, 0, 0], np.float32)
            assert all((case.labels.boxes == row).all(axis=1).any() for row in moved)
            assert set(known(part).identities) <= set(known(case).identities)
