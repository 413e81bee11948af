"""Transforms and their way back, fusion, and distilled labels."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.lens.mining.distillation import (
    Transform,
    distil,
    draw_transforms,
    fuse,
    restore_boxes,
    transform_grid,
)
from tests.trainers.lens.mining.toy import found, square

SHAPE = (6, 40, 60)


def bright(rows: slice = slice(10, 18), columns: slice = slice(30, 42)) -> NDArray[np.float16]:
    """A bright block of 8 rows and 12 columns on slices 1 and 2."""
    grid = np.zeros(SHAPE, np.float16)
    grid[1:3, rows, columns] = 100
    return grid


def find_bright(grid: NDArray[np.float32]) -> SliceBoxes:
    """The box around what is bright on each slice."""
    rows = []
    for z in range(len(grid)):
        y, x = np.nonzero(grid[z] > 50)
        if len(y):
            rows.append([z, x.min() - 0.5, y.min() - 0.5, x.max() + 0.5, y.max() + 0.5])
    return found(rows)


@pytest.mark.parametrize(
    "transform",
    [
        Transform(),
        Transform((True, False, False)),
        Transform((False, True, False)),
        Transform((False, False, True)),
        Transform(scale=1.5),
        Transform(scale=0.5),
        Transform(shift=(3, -5)),
        Transform((True, True, True), 1.25, (-4, 8)),
    ],
)
def test_boxes_found_in_a_transformed_grid_return_to_their_place(transform: Transform) -> None:
    seen = transform_grid(bright(), transform)
    back = restore_boxes(find_bright(seen), SHAPE, transform)
    assert back.slices.tolist() == [1, 2]
    np.testing.assert_allclose(back.boxes, [[29.5, 9.5, 41.5, 17.5]] * 2, atol=0.51 / transform.scale)


def test_transform_scales_flips_and_moves() -> None:
    assert transform_grid(bright(), Transform(scale=0.5)).shape == (6, 20, 30)
    moved = transform_grid(bright(), Transform((True, False, True), shift=(2, -3)))
    np.testing.assert_array_equal(np.argwhere(moved > 50).min(axis=0), [3, 12, 60 - 42 - 3])
    assert moved[:, :2].max() == 0


def test_transforms_follow_the_generator_and_the_papers_ranges() -> None:
    drawn = draw_transforms(np.random.default_rng(1), 300)
    assert drawn == draw_transforms(np.random.default_rng(1), 300)
    scales, shifts = [t.scale for t in drawn], np.array([t.shift for t in drawn])
    assert 0.5 <= min(scales) < 0.52
    assert 1.48 < max(scales) <= 1.5
    assert (shifts.min(), shifts.max()) == (-8, 8)
    assert len({t.flips for t in drawn}) == 8
    assert len(draw_transforms(np.random.default_rng(0))) == 3


def test_fused_box_is_the_score_weighted_mean_and_its_score_the_mean_over_all() -> None:
    predictions = [found([square(3, 10)], [0.9]), found([square(3, 13)], [0.3]), found()]
    fused = fuse(predictions)
    np.testing.assert_allclose(fused.boxes, [[10.75, 10, 20.75, 20]])
    np.testing.assert_allclose(fused.scores, [0.4])
    np.testing.assert_allclose(fused.expert_scores, [[0.4]])
    assert fused.slices.tolist() == [3]


def test_each_prediction_gives_one_box_to_a_fusion() -> None:
    """Of two boxes of the second prediction over the first's, the better goes in and the other stays by itself."""
    fused = fuse([found([square(3, 10)], [0.8]), found([square(3, 11), square(3, 9)], [0.4, 0.6])])
    np.testing.assert_allclose(sorted(fused.scores.tolist()), [0.2, 0.7], rtol=1e-6)
    best = fused.boxes[fused.scores.argmax()]
    np.testing.assert_allclose(best[0], (0.8 * 10 + 0.6 * 9) / 1.4, rtol=1e-6)


def test_boxes_of_other_slices_and_places_are_not_fused() -> None:
    fused = fuse([found([square(3), square(4, 40)]), found([square(4), square(4, 41)])])
    assert fused.slices.tolist() == [3, 4, 4]
    np.testing.assert_allclose(np.sort(fused.scores), [0.45, 0.45, 0.9], rtol=1e-6)


def test_nothing_found_is_nothing_fused() -> None:
    assert len(fuse([found(), found()]).boxes) == 0
    assert fuse([found([square(3)], [0.0])]).boxes.tolist() == [square(3)[1:]]


def test_distilled_boxes_become_lesions_and_annotations_stay() -> None:
    transforms = (Transform(), Transform((True, True, True)), Transform(scale=1.5, shift=(2, 2)))
    labels = Labels.of([[1, 29.5, 9.5, 41.5, 17.5]], [0], ["liver"], slices=[1])
    mined = distil(bright(), labels, find_bright, transforms)
    assert mined.boxes[:, 0].tolist() == [1, 2]
    assert mined.lesion.tolist() == [0, 1]
    np.testing.assert_allclose(mined.boxes[1, 1:], [29.5, 9.5, 41.5, 17.5], atol=0.4)
    assert mined.slices is None
    assert len(distil(bright(), Labels.of(), find_bright, transforms, score=0.91).boxes) == 0
    ignored = Labels.of(ignored=[[20, 0, 0, 50, 30, 5]])
    assert len(distil(bright(), ignored, find_bright, transforms).boxes) == 0
