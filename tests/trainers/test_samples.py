"""Cases on the network's grid and the crops drawn from them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lnsdk.errors import InputError
from lnsdk.pipelines.grid import make_grid
from lnsdk.trainers.common.backgrounds import Background, Role
from lnsdk.trainers.common.cases import GridCase, Origin, read_origin, read_set, store, write_set
from lnsdk.trainers.common.evaluation import EvaluationCase
from lnsdk.trainers.common.grid import GRID_SPACING, grid_frame, read_grid
from lnsdk.trainers.common.labels import Labels, Truth
from lnsdk.trainers.common.samples import Dataset
from lnsdk.trainers.common.simulation import (
    FULL_SCOPE,
    CasePlan,
    evaluation_case,
    make_case,
    plan_evaluation,
)
from lnsdk.trainers.networks.lens import FULL_WINDOW
from tests.trainers.lens.test_rois import runtime_settings


@pytest.fixture(scope="module")
def plan() -> CasePlan:
    return CasePlan("phantom-5", FULL_SCOPE, seed=3, lesions=6, phantom_seed=5)


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


def test_grid_is_the_one_of_the_runtime(plan: CasePlan) -> None:
    made = make_case(plan).volume
    volume = replace(
        made, affine=np.diag([*made.spacing, 1.0])
    )  # its first slice at a multiple of the slices' distance
    own = read_grid(volume, grid_frame(volume))
    settings = replace(runtime_settings(10, 10), spacing=GRID_SPACING, window=FULL_WINDOW)
    grid = make_grid(volume, settings, "body")
    assert grid is not None
    assert grid.offset == 0
    assert len(own) == grid.count
    (_, (top, bottom), (left, right)) = grid_frame(volume).ranges
    rows, columns = (
        slice(top - grid.rows[0], bottom - grid.rows[0]),
        slice(left - grid.columns[0], right - grid.columns[0]),
    )
    np.testing.assert_array_equal(own[3:5], grid.slices(3, 5)[:, rows, columns].astype(np.float16))


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


def test_case_is_read_as_it_was_stored(tmp_path: Path) -> None:
    truth = Truth.of([[1, 2, 3, 4, 5, 6]], ["liver"], [8.0], ["a-lesion-0"], [True], [[4, 1, 2, 4, 5]], [0])
    labels = Labels.of([[4, 1, 2, 4, 5]], [0], ["liver"], [[4, 7, 7, 9, 9]], [[0, 0, 0, 2, 2, 2]], [4])
    grid = np.arange(120, dtype=np.float16).reshape(5, 4, 6)
    store(GridCase("a-1", "universal", grid, labels, truth, "a", "a-1", "a-1-1", "made so"), tmp_path)
    assert set(json.loads((tmp_path / "a-1.json").read_text())["labels"]) == {
        "boxes", "lesion", "types", "uncertain", "ignored", "slices",
    }  # fmt: skip
    write_set(tmp_path, {"train": ["a-1"], "validation": [], "matching": [], "test": []}, Origin(True, ("chest",)))
    assert read_origin(tmp_path) == Origin(True, ("chest",))
    (read,) = read_set(tmp_path, "train")
    np.testing.assert_array_equal(read.grid, grid)
    assert read.truth is not None
    assert (read.labels.record(), read.truth.record()) == (labels.record(), truth.record())
    assert (read.patient, read.study, read.series, read.fingerprint) == ("a", "a-1", "a-1-1", "made so")
    with pytest.raises(InputError, match="must hold a set of cases"):
        read_set(tmp_path / "nowhere", "train")


def test_no_seed_or_phantom_is_shared_by_two_sets() -> None:
    roles: list[Role] = ["validation", "test"]
    sets = [plan_evaluation((), role, 400, 1, 8, seed) for role in roles for seed in (0, 1, 2, 99)]
    for name in ("seed", "phantom_seed"):
        used = [{getattr(plan, name) for plan in plans} for plans in sets]
        assert len(set().union(*used)) == sum(map(len, sets)), name


def test_insertions_of_real_cts_have_their_own_seeds() -> None:
    empty = np.zeros((0, 6), np.float32)
    cts = [Background(str(n), Path(), "p", "test", empty, (), empty) for n in range(20)]
    plans = plan_evaluation(cts, "test", 20, 5, 8, 0)
    assert len({plan.seed for plan in plans}) == len(plans)


@pytest.mark.parametrize("seed", [-1, 100])
def test_seed_beyond_a_role_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match="seed must be from 0 to 99"):
        plan_evaluation((), "test", 1, 1, 8, seed)
