"""Cases on the network's grid and the crops drawn from them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lnsdk.errors import InputError
from lnsdk.pipelines.grid import make_grid
from lnsdk.trainers.common import cases
from lnsdk.trainers.common.backgrounds import Background, Role
from lnsdk.trainers.common.cases import GridCase, fingerprint, outdated, prepare_cases, read_grid_cases, write_grid_case
from lnsdk.trainers.common.evaluation import EvaluationCase
from lnsdk.trainers.common.grid import GRID_SPACING
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.common.samples import Dataset
from lnsdk.trainers.common.simulation import (
    FULL_SCOPE,
    SCOPES,
    CasePlan,
    evaluation_case,
    make_case,
    plan_evaluation,
    plan_training,
    training_phantoms,
)
from lnsdk.trainers.networks.lens import FULL_WINDOW
from tests.trainers.lens.test_rois import runtime_settings


@pytest.fixture(scope="module")
def plan() -> CasePlan:
    return CasePlan("phantom-5", FULL_SCOPE, seed=3, lesions=6, phantom_seed=5)


@pytest.fixture(scope="module")
def grid_case(plan: CasePlan, tmp_path_factory: pytest.TempPathFactory) -> GridCase:
    folder = tmp_path_factory.mktemp("cases")
    write_grid_case(make_case(plan), folder)
    (case,) = read_grid_cases(folder, [plan.id])
    return case


def bright_case(shape: tuple[int, int, int] = (12, 300, 320)) -> GridCase:
    """A bright lesion of 12 x 8 px on slices 5 to 7."""
    grid = np.full(shape, 60, np.float16)
    grid[5:8, 100:108, 150:162] = 90
    boxes = np.array([[z, 149.5, 99.5, 161.5, 107.5] for z in (5, 6, 7)], np.float32)
    return GridCase("bright", "universal", grid, Labels.of(boxes, np.zeros(3), ("liver",)))


@pytest.mark.parametrize("seed", range(20))
def test_box_follows_the_augmented_lesion(seed: int) -> None:
    sample = Dataset("universal", [bright_case()]).draw(np.random.default_rng(seed), 224, positive=True)
    assert sample.slices.shape == (9, 224, 224)
    ((x1, y1, x2, y2),) = sample.boxes.tolist()
    rows, columns = np.nonzero(sample.slices[4].numpy() > 75)
    assert x1 == pytest.approx(columns.min() - 0.5, abs=1)
    assert x2 == pytest.approx(columns.max() + 0.5, abs=1)
    assert y1 == pytest.approx(rows.min() - 0.5, abs=1)
    assert y2 == pytest.approx(rows.max() + 0.5, abs=1)


def test_samples_without_a_lesion_are_centred_on_the_slices_that_are_open() -> None:
    """Slice z of the grid holds the value z; a case without an open slice is passed over."""
    grid = np.broadcast_to(np.arange(12, dtype=np.float16)[:, None, None] * 8, (12, 64, 64))
    labels = [Labels.of(slices=[2, 9]), Labels.of(slices=[])]
    cases = [GridCase(str(i), "universal", grid * (1 - i), of) for i, of in enumerate(labels)]
    rng, dataset = np.random.default_rng(0), Dataset("universal", cases)
    centers = {round(float(dataset.draw(rng, 16, positive=False).slices[4].max()) / 8) for _ in range(60)}
    assert centers == {2, 9}
    with pytest.raises(ValueError, match=r"has no slice to draw from"):
        Dataset("universal", cases[1:]).draw(rng, 16, positive=False)
    with pytest.raises(ValueError, match=r"has no labelled lesion"):
        dataset.draw(rng, 16, positive=True)


def test_rare_types_are_drawn_as_often_as_common_ones() -> None:
    """Nine liver lesions at the left and one muscle mass at the right: half of the crops lie around either."""
    boxes = np.array([[5, x, 10, x + 8, 18] for x in (*range(10, 100, 10), 900)], np.float32)
    types = ("liver",) * 9 + ("muscle_mass",)
    grid = np.broadcast_to(np.arange(1000, dtype=np.float16) / 4, (9, 32, 1000))
    case = GridCase("both", "universal", grid, Labels.of(boxes, np.arange(10), types))
    rng, dataset = np.random.default_rng(0), Dataset("universal", [case])
    right = sum(dataset.draw(rng, 32, positive=True, balance=True).slices.max() > 150 for _ in range(100))
    assert 35 < right < 65


def test_samples_follow_the_generator() -> None:
    dataset = Dataset("universal", [bright_case()])
    first, second = (dataset.draw(np.random.default_rng(4), 64, positive=False) for _ in range(2))
    assert (first.slices == second.slices).all()


def test_window_beyond_the_grid_is_air() -> None:
    sample = Dataset("universal", [bright_case((3, 40, 40))]).draw(np.random.default_rng(0), 64, positive=False)
    assert (sample.slices == 0).any()
    assert (sample.slices > 50).any()


def test_grid_boxes_lie_on_the_inserted_lesions(plan: CasePlan, grid_case: GridCase, tmp_path: Path) -> None:
    """Where a lesion was inserted, the grid differs from that of the same case without lesions."""
    empty = plan.without_lesions()
    write_grid_case(make_case(empty), tmp_path)
    (untouched,) = read_grid_cases(tmp_path, [empty.id])
    changed = np.abs(grid_case.grid.astype(np.float32) - untouched.grid)
    case = make_case(plan)
    assert len(case.lesions) >= 3
    assert set(grid_case.labels.lesion) == set(range(len(case.lesions)))
    assert (grid_case.labels.boxes[:, 3:] > grid_case.labels.boxes[:, 1:3]).all()
    depth, height, width = grid_case.grid.shape
    assert (grid_case.labels.boxes[:, [0, 1, 2]] >= -0.5).all()
    assert (grid_case.labels.boxes[:, [0, 3, 4]] <= [depth - 0.5, width - 0.5, height - 0.5]).all()
    for lesion in set(grid_case.labels.lesion.tolist()):
        rows = grid_case.labels.boxes[grid_case.labels.lesion == lesion]
        low, high = rows[:, 1:3].min(axis=0), rows[:, 3:].max(axis=0)
        corner = np.maximum(np.floor([*low, rows[0, 0]]).astype(int) - 4, 0)
        x, y, z = (slice(a, b) for a, b in zip(corner, np.ceil([*high, rows[-1, 0]]).astype(int) + 5, strict=True))
        near = changed[z, y, x]
        places = np.argwhere(near > near.max() / 5)[:, ::-1] + corner
        sizes = np.prod(rows[:, 3:] - rows[:, 1:3], axis=1)
        np.testing.assert_allclose(places[:, 2].mean(), np.average(rows[:, 0], weights=sizes), atol=0.5)
        np.testing.assert_allclose(places[:, :2].min(axis=0) - 0.5, low, atol=1.6)
        np.testing.assert_allclose(places[:, :2].max(axis=0) + 0.5, high, atol=1.6)


def test_grid_is_the_one_of_the_runtime(plan: CasePlan, grid_case: GridCase) -> None:
    volume = make_case(plan).volume
    settings = replace(runtime_settings(10, 10), spacing=GRID_SPACING, window=FULL_WINDOW)
    grid = make_grid(volume, settings, "body")
    assert grid is not None
    height, width = grid.rows[1] - grid.rows[0], grid.columns[1] - grid.columns[0]
    assert grid_case.grid.shape == (grid.count, height, width)
    expected = grid.slices(3, 5)[:, :height, :width].astype(np.float16)
    np.testing.assert_array_equal(np.asarray(grid_case.grid[3:5]), expected)


def test_cases_are_the_same_for_a_plan(plan: CasePlan) -> None:
    first, second = make_case(plan), make_case(plan)
    assert np.array_equal(first.volume.voxels, second.volume.voxels)
    assert first.labelled == second.labelled


def test_without_lesions_is_the_background(plan: CasePlan) -> None:
    assert make_case(plan.without_lesions()).lesions == ()


def test_evaluation_case_names_every_lesion(plan: CasePlan) -> None:
    case = evaluation_case(make_case(plan), 3)
    assert isinstance(case, EvaluationCase)
    assert len(case.boxes) == len(case.types) == len(case.diameters)
    assert case.kind == "phantom"


def test_training_plans_use_every_phantom_once() -> None:
    plans = plan_training((), 3, 8, 0)
    assert len(plans) == len({p.phantom_seed for p in plans}) == training_phantoms(3) == 15
    assert len({p.id for p in plans}) == len(plans)


def test_record_is_plain_json(tmp_path: Path, plan: CasePlan) -> None:
    write_grid_case(make_case(plan), tmp_path)
    record = json.loads((tmp_path / f"{plan.id}.json").read_text())
    assert set(record) == {"expert", "labels", "truth", "patient", "study", "series", "fingerprint"}


def test_cases_are_made_again_for_another_plan(tmp_path: Path, plan: CasePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{plan.id}.npy").write_bytes(b"")
    (tmp_path / f"{plan.id}.json").write_text(json.dumps({"fingerprint": fingerprint(plan)}))
    assert outdated([plan], tmp_path) == []
    changes: list[dict[str, Any]] = [{"seed": 4}, {"lesions": 5}, {"phantom_seed": 6}, {"scope": SCOPES[1]}]
    for change in changes:
        assert outdated([replace(plan, **change)], tmp_path) == [replace(plan, **change)]
    monkeypatch.setattr(cases, "code_digest", lambda: "edited")
    assert outdated([plan], tmp_path) == [plan]
    monkeypatch.undo()
    (tmp_path / f"{plan.id}.npy").unlink()
    assert outdated([plan], tmp_path) == [plan]


@pytest.mark.slow
def test_case_making_stops_at_the_first_error(tmp_path: Path, plan: CasePlan) -> None:
    empty = np.zeros((0, 6), np.float32)
    broken = replace(plan, id="broken", background=Background("x", tmp_path / "no", "p", "train", empty, (), empty))
    others = [replace(plan, id=f"case-{n}", lesions=1) for n in range(12)]
    with pytest.raises(InputError):
        prepare_cases([broken, *others], tmp_path / "cases")
    assert len(list((tmp_path / "cases").glob("*.json"))) < len(others)


def test_no_seed_or_phantom_is_shared_by_two_sets() -> None:
    roles: list[Role] = ["validation", "test"]
    sets = [plan_training((), 400, 8, seed) for seed in (0, 1, 99)]
    sets += [plan_evaluation((), role, 400, 1, 8, seed) for role in roles for seed in (0, 1, 2, 99)]
    for name in ("seed", "phantom_seed"):
        used = [{getattr(plan, name) for plan in plans} for plans in sets]
        assert len(set().union(*used)) == sum(map(len, sets)), name


def test_insertions_of_real_cts_have_their_own_seeds() -> None:
    empty = np.zeros((0, 6), np.float32)
    cts = [Background(str(n), Path(), "p", "test", empty, (), empty) for n in range(20)]
    plans = plan_training(cts, 20, 8, 0) + plan_evaluation(cts, "test", 20, 5, 8, 0)
    assert len({plan.seed for plan in plans}) == len(plans)


@pytest.mark.parametrize("seed", [-1, 100])
def test_seed_beyond_a_role_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match="seed must be from 0 to 99"):
        plan_training((), 1, 8, seed)
    with pytest.raises(InputError, match="seed must be from 0 to 99"):
        plan_evaluation((), "test", 1, 1, 8, seed)
