"""False-positive reduction: patches, pooling weights and combined scores, against values worked out by hand."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lnsdk import Detector, Volume
from lnsdk.bundle import read_bundle
from lnsdk.pipelines.detector import NO_BODY
from lnsdk.pipelines.false_positives import (
    Frame,
    axis_weights,
    combine,
    cut_patch,
    frame_around,
    graph_inputs,
    pooling_weights,
    reduce_false_positives,
)
from lnsdk.pipelines.grid import Grid, make_grid
from lnsdk.pipelines.proposals import Stacks
from lnsdk.pipelines.settings import FalsePositiveSettings, read_settings
from lnsdk.pipelines.timing import STAGES
from tests.toy_bundle import FPR, phantom, write_toy_bundle

Array = NDArray[np.float32]

SETTINGS = FalsePositiveSettings(patch=(4, 8, 8), bins=(2, 1, 1), strides=(4,), boxes=50, threshold=0.5)


def f32(values: object) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def weights(low: float, high: float, bins: int, size: int, stride: int) -> list[list[float]]:
    rows: list[list[float]] = axis_weights(f32([low]), f32([high]), bins, size, stride)[0].tolist()
    return rows


@pytest.mark.parametrize(
    ("low", "high", "bins", "stride", "expected"),
    [
        pytest.param(-0.5, 3.5, 2, 1, [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]], id="all of the patch in two bins"),
        pytest.param(0.5, 2.5, 1, 1, [[0, 0.5, 0.5, 0]], id="two voxels, exactly their mean"),
        pytest.param(0.5, 1.5, 1, 1, [[0, 1, 0, 0]], id="one voxel"),
        pytest.param(0.5, 1.5, 3, 1, [[1 / 3, 2 / 3, 0, 0], [0, 1, 0, 0], [0, 2 / 3, 1 / 3, 0]], id="parts of a voxel"),
        pytest.param(0.25, 1.75, 1, 1, [[1 / 6, 2 / 3, 1 / 6, 0]], id="parts of three voxels"),
        pytest.param(1.25, 1.25, 1, 1, [[0, 0.75, 0.25, 0]], id="a point is interpolated"),
        pytest.param(-10, 1.5, 1, 1, [[0.5, 0.5, 0, 0]], id="clipped below"),
        pytest.param(2.5, 99, 1, 1, [[0, 0, 0, 1]], id="clipped above"),
        pytest.param(10, 12, 2, 1, [[0, 0, 0, 1], [0, 0, 0, 1]], id="beyond the patch"),
        # samples 0, 4, 8, 12 stand for -0.5..2, 2..6, 6..10, 10..15.5
        pytest.param(-0.5, 15.5, 1, 4, [[2.5 / 16, 0.25, 0.25, 5.5 / 16]], id="all of the patch, stride 4"),
        pytest.param(2, 10, 2, 4, [[0, 1, 0, 0], [0, 0, 1, 0]], id="on the borders of samples, stride 4"),
        pytest.param(4, 6, 1, 4, [[0, 0.75, 0.25, 0]], id="smaller than a sample, stride 4"),
    ],
)
def test_weights_of_an_axis(low: float, high: float, bins: int, stride: int, expected: list[list[float]]) -> None:
    np.testing.assert_allclose(weights(low, high, bins, 4, stride), expected, atol=1e-7)


def test_rows_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(-20, 80, 500)
    rows = axis_weights(low, low + rng.uniform(0, 40, 500), 3, 16, 4)
    assert rows.dtype == np.float32
    assert rows.min() >= 0
    np.testing.assert_allclose(rows.sum(axis=2), 1, atol=1e-6)


def test_inputs_fit_the_signature() -> None:
    settings = FalsePositiveSettings((16, 64, 96), (2, 3, 4), (4, 8, 16), 50, 0.5)
    inputs = pooling_weights(np.zeros((5, 6), np.float32), settings)
    shapes = {name: (None, *values.shape[1:]) for name, values in inputs.items()}
    assert {"patch": (None, 16, 64, 96)} | shapes == settings.signature.inputs
    assert shapes == {
        "z": (None, 2, 16), "y1": (None, 3, 16), "x1": (None, 4, 24), "y2": (None, 3, 8), "x2": (None, 4, 12),
        "y3": (None, 3, 4), "x3": (None, 4, 6),
    }  # fmt: skip


def ramp(shape: tuple[int, int, int]) -> Array:
    z, y, x = np.indices(shape)
    return f32(100 * z + 10 * y + x)


def cut(grid: Array, frame: Frame, patch: tuple[int, int, int]) -> Array:
    depth, height, width = grid.shape
    return cut_patch(lambda ranges: grid[tuple(slice(*r) for r in ranges)], (depth, height, width), frame, patch)


def test_a_patch_is_centred_on_its_box() -> None:
    frame = frame_around(f32([10.25, 20.5, 2.5, 14.25, 30.5, 7.5]), (4, 8, 16))
    assert frame == Frame(z=4, y=25.5 - 3.5, x=12.25 - 7.5)
    own = frame.to_patch(f32([[10.25, 20.5, 2.5, 14.25, 30.5, 7.5]]))[0]
    np.testing.assert_allclose((own[:2] + own[3:5]) / 2, [7.5, 3.5])  # centre of 16 columns and of 8 rows
    np.testing.assert_allclose(own, [5.5, -1.5, -1.5, 9.5, 8.5, 3.5])


def test_a_patch_is_interpolated_in_plane() -> None:
    patch = cut(ramp((6, 20, 20)), Frame(z=1, y=3.25, x=4.5), (2, 3, 4))
    np.testing.assert_allclose(patch[0], 100 + 10 * (3.25 + np.arange(3))[:, None] + 4.5 + np.arange(4))
    np.testing.assert_allclose(patch[1] - patch[0], 100)
    coarse = cut(ramp((6, 20, 20)), Frame(z=1, y=3, x=4, step=1.5), (1, 3, 4))
    np.testing.assert_allclose(coarse[0], 100 + 10 * (3 + 1.5 * np.arange(3))[:, None] + 4 + 1.5 * np.arange(4))


def test_slices_repeat_and_air_surrounds() -> None:
    patch = cut(ramp((3, 4, 5)) + 1, Frame(z=-2, y=-1, x=3), (7, 3, 4))
    assert patch[:, 1, 0].tolist() == [4, 4, 4, 104, 204, 204, 204]
    assert patch[2].tolist() == [[0, 0, 0, 0], [4, 5, 0, 0], [14, 15, 0, 0]]
    assert not cut(ramp((3, 4, 5)) + 1, Frame(z=0, y=40, x=3), (2, 3, 4)).any()


@pytest.mark.parametrize("crop", ["body", "none"])
def test_patches_come_from_the_grid_that_the_network_sees(toy: Path, crop: str) -> None:
    voxels = phantom((9, 120, 130), (1.1, 0.9, 2.5), (40, 60, 4))
    grid = make_grid(Volume(voxels, np.diag([1.1, 0.9, 2.5, 1])), read_settings(read_bundle(toy)), crop)
    assert grid is not None
    whole = grid.slices(0, grid.count)[:, : grid.shape[1], : grid.shape[2]]
    assert grid.shape == whole.shape
    assert np.array_equal(grid.block(((2, 5), (7, 90), (10, 40))), whole[2:5, 7:90, 10:40])
    frame = Frame(-2, -3.5, 50.25)
    assert np.array_equal(cut_patch(grid.block, grid.shape, frame, (16, 64, 64)), cut(whole, frame, (16, 64, 64)))


def stacks(scores: Array) -> Stacks:
    count = len(scores)
    boxes = np.tile(f32([2, 2, 0.5, 6, 6, 2.5]), (count, 1)) + np.arange(count, dtype=np.float32)[:, None]
    return Stacks(boxes, scores, scores[:, None], boxes)


def test_scores_are_averaged() -> None:
    """Eq. 4 by hand; a box without a second score gets half of its own and ranks below its equal that has one."""
    combined = combine(stacks(f32([0.9, 0.8, 0.5, 0.5])), f32([0.1, 0.7, 0.0, np.nan]))
    assert combined.scores.tolist() == pytest.approx([0.75, 0.5, 0.25, 0.25])
    assert combined.boxes[:, 0].tolist() == [3, 2, 4, 5]
    assert combined.fpr_scores is not None
    assert combined.fpr_scores[:3].tolist() == pytest.approx([0.7, 0.1, 0.0])
    assert np.isnan(combined.fpr_scores[3])
    assert combined.expert_scores[:, 0].tolist() == pytest.approx([0.8, 0.9, 0.5, 0.5])


@pytest.mark.parametrize("wrong", [5.0, -3.0, np.inf])
def test_scores_that_are_no_probabilities_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="fpr_scores must be from 0 to 1"):
        combine(stacks(f32([0.9, 0.8])), f32([np.nan, wrong]))


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_best_boxes_are_looked_at(batch: int) -> None:
    scores = np.linspace(1, 0, 60, dtype=np.float32)
    sizes = []

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        sizes.append(len(inputs["patch"]))
        return {"scores": np.full((len(inputs["patch"]), 1), 0.25, np.float32)}

    grid = ramp((9, 80, 80))
    found = reduce_false_positives(
        stacks(scores), lambda ranges: grid[tuple(slice(*r) for r in ranges)], (9, 80, 80), run, SETTINGS, batch
    )
    assert (sum(sizes), max(sizes)) == (50, min(batch, 50))
    by_place = np.argsort(found.boxes[:, 0])
    assert found.fpr_scores is not None
    np.testing.assert_allclose(found.scores[by_place[:50]], (scores[:50] + 0.25) / 2, rtol=1e-6)
    np.testing.assert_allclose(found.scores[by_place[50:]], scores[50:] / 2, rtol=1e-6)
    assert (np.diff(found.scores) <= 0).all()
    assert np.isnan(found.fpr_scores).sum() == 10


def test_no_box_needs_no_network() -> None:
    def refuse(_: object) -> dict[str, Array]:
        raise AssertionError("ran")

    empty = stacks(np.zeros(0, np.float32))
    found = reduce_false_positives(empty, refuse, (9, 80, 80), refuse, SETTINGS, 8)  # type: ignore[arg-type]
    assert len(found.boxes) == 0
    assert found.fpr_scores is not None


def ball(center: tuple[float, float, float] | None, slices: int = 17) -> Volume:
    voxels = phantom((slices, 90, 100), (1.0, 1.0, 2.0), center)
    return Volume(voxels, np.diag([1, 1, 2, 1]))


MIDDLE = (50.2, 44.9, 8.0)


def balls() -> Volume:
    """Three balls side by side, the widest on the left."""
    shape, spacing = (17, 130, 200), (1.0, 1.0, 2.0)
    places = [phantom(shape, spacing, (x, 65.3, 8.0), radius) for x, radius in ((50, 10), (100, 8), (150, 6))]
    return Volume(np.maximum.reduce(places), np.diag([1, 1, 2, 1]))


@pytest.fixture(scope="module")
def reducing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("fpr") / "toy", fpr=FPR)


def test_detector_averages_both_scores(reducing: Path) -> None:
    """The best box is cut out of the grid here once more, and its mean is the toy's score."""
    both = Detector(reducing, threshold=0)(balls()).lesions
    alone = Detector(reducing, threshold=0, reduce_false_positives=False)(balls()).lesions
    assert len(both) == len(alone) >= 3
    plain = {lesion.box: lesion for lesion in alone}
    for lesion in both:
        assert lesion.fpr_score is not None
        assert lesion.score == pytest.approx((plain[lesion.box].score + lesion.fpr_score) / 2)
        assert lesion.expert_scores == plain[lesion.box].expert_scores
    assert all(lesion.fpr_score is None for lesion in alone)
    ordered = [lesion.score for lesion in both]
    assert ordered == sorted(ordered, reverse=True)

    volume = balls()
    x1, y1, z1, x2, y2, z2 = (round(value + 0.5) for value in alone[0].box)
    water, bright = 0, 300
    part = (volume.voxels[z1:z2, y1:y2, x1:x2].mean() - water) / (bright - water)
    assert plain[alone[0].box].box[0] < 50 < plain[alone[0].box].box[3]
    # samples are every fourth pixel of the patch: the mean of the voxels to within some percent
    assert next(lesion.fpr_score for lesion in both if lesion.box == alone[0].box) == pytest.approx(part, abs=0.08)
    assert 0.4 < part < 0.9


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1, 2)])
def test_flipped_volumes_give_the_same_scores(reducing: Path, axes: tuple[int, ...]) -> None:
    volume, detector = balls(), Detector(reducing, threshold=0)
    move = np.eye(4)
    for axis in axes:
        move[2 - axis, 2 - axis], move[2 - axis, 3] = -1, volume.shape[axis] - 1
    flipped = Volume(np.ascontiguousarray(np.flip(volume.voxels, axes)), volume.affine @ move)
    straight, turned = detector(volume).lesions, detector(flipped).lesions
    assert len(straight) == len(turned) >= 3
    for a, b in zip(straight, turned, strict=True):
        assert (a.score, a.fpr_score) == (b.score, b.fpr_score)
        np.testing.assert_allclose(a.center_mm, b.center_mm, atol=1e-3)


def test_boxes_beyond_the_limit_get_half(tmp_path: Path) -> None:
    detector = Detector(write_toy_bundle(tmp_path / "toy", fpr=FPR | {"boxes": 1}), threshold=0)
    alone = Detector(tmp_path / "toy", threshold=0, reduce_false_positives=False)(balls()).lesions
    found = detector(balls()).lesions
    assert len(found) == len(alone) >= 3
    assert [lesion.box for lesion in found if lesion.fpr_score is not None] == [alone[0].box]
    halves = [lesion.score for lesion in found if lesion.fpr_score is None]
    assert halves == pytest.approx([lesion.score / 2 for lesion in alone[1:]])


def test_each_way_has_its_own_operating_point(reducing: Path, toy: Path) -> None:
    both, alone = Detector(reducing), Detector(reducing, reduce_false_positives=False)
    assert (both.provenance.threshold, alone.provenance.threshold) == (0.25, 0.5)
    assert (both.reduces_false_positives, alone.reduces_false_positives) == (True, False)
    assert both.provenance.false_positive_reduction
    assert not alone.provenance.false_positive_reduction
    assert Detector(reducing, threshold=0.125).provenance.threshold == 0.125
    without = Detector(toy)
    assert not without.reduces_false_positives
    assert without.provenance.threshold == 0.5
    assert without(ball(MIDDLE)).lesions == alone(ball(MIDDLE)).lesions


def test_nothing_found_and_nothing_there(reducing: Path) -> None:
    detector = Detector(reducing, threshold=0)
    assert detector(ball(None)).lesions == ()
    air = detector(Volume(np.full((5, 40, 50), -1000, np.int16), np.eye(4)))
    assert (air.lesions, air.warnings) == ((), (NO_BODY,))
    assert tuple(air.timings) == STAGES
    assert air.timings["fpr"] == 0


def test_one_slice(reducing: Path) -> None:
    """All slices of the patch are the one: the box holds mostly ball."""
    best = Detector(reducing)(ball((50.2, 44.9, 0), slices=1)).lesions[0]
    assert best.fpr_score is not None
    assert best.fpr_score > 0.5


def test_a_box_at_the_border_of_the_volume(reducing: Path) -> None:
    voxels = np.maximum(phantom((9, 80, 90), (1, 1, 2), (87, 40, 8)), 0)
    found = Detector(reducing, threshold=0)(Volume(voxels, np.diag([1, 1, 2, 1]))).lesions
    assert found
    assert all(lesion.fpr_score is not None and 0 <= lesion.fpr_score <= 1 for lesion in found)
    assert max(lesion.fpr_score or 0 for lesion in found) > 0.3


def test_experts_choose_the_detectors_score_only(reducing: Path) -> None:
    everyone = Detector(reducing, threshold=0)(ball(MIDDLE)).lesions[0]
    lung = Detector(reducing, threshold=0, experts=["lung"])(ball(MIDDLE)).lesions[0]
    assert lung.expert_scores == {"lung": everyone.expert_scores["lung"]}
    assert lung.fpr_score == pytest.approx(everyone.fpr_score)
    assert lung.score == pytest.approx((everyone.expert_scores["lung"] + (lung.fpr_score or 0)) / 2)


def test_eight_threads_get_the_same_answer(reducing: Path) -> None:
    detector = Detector(reducing, threshold=0)
    volumes = [ball((40.0 + index, 45.0, 8.0)) for index in range(8)]
    alone = [detector(volume).lesions for volume in volumes]
    assert len({lesions[0].fpr_score for lesions in alone}) > 1
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda volume: detector(volume).lesions, volumes)) == alone


def test_only_the_patches_are_resampled(reducing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[int] = []
    block = Grid.block

    def counted(grid: Grid, ranges: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]) -> Array:
        blocks.append(int(np.prod([stop - start for start, stop in ranges])))
        return block(grid, ranges)

    monkeypatch.setattr(Grid, "block", counted)
    found = Detector(reducing, threshold=0)(ball(MIDDLE)).lesions
    assert len(blocks) == len(found)
    assert max(blocks) <= 8 * 33 * 33


def test_graph_inputs_follow_the_boxes() -> None:
    """Patch and weights together give the exact mean of a box on sample borders."""
    grid = ramp((10, 40, 40))
    box = f32([[12.5, 16.5, 3.5, 20.5, 24.5, 5.5]])  # centre 16.5, 20.5, 4.5: patch 13..20, 17..24, 3..6
    inputs = graph_inputs(box, lambda ranges: grid[tuple(slice(*r) for r in ranges)], grid.shape, SETTINGS)
    assert inputs["patch"][0, 0, 0, 0] == 300 + 170 + 13
    assert inputs["z"][0].tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]
    own = replace(SETTINGS, strides=(1,))
    exact = graph_inputs(box, lambda ranges: grid[tuple(slice(*r) for r in ranges)], grid.shape, own)
    mean = np.einsum("nzyx,naz,nby,ncx->nabc", *(exact[name] for name in ("patch", "z", "y1", "x1")))
    np.testing.assert_allclose(mean[0, :, 0, 0], grid[4:6, 17:25, 13:21].mean(axis=(1, 2)), rtol=1e-5)
