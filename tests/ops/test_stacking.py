"""Stacking of slice boxes against the loop-only oracle and by hand."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lnsdk import ops
from tests import naive

Boxes = NDArray[np.float32]

SQUARE = [0, 0, 10, 10]


def _assert_equal(found: ops.StackedBoxes, expected: ops.StackedBoxes) -> None:
    for name, dtype in (("boxes", np.float32), ("scores", np.float32), ("members", np.int64)):
        assert getattr(found, name).dtype == dtype
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@given(st.data(), st.integers(0, 25), st.sampled_from([0.0, 1 / 3, 0.5, 1.0]))
def test_stacking_is_the_oracle(data: st.DataObject, count: int, iou_threshold: float) -> None:
    corners = data.draw(arrays.arrays(np.float32, (count, 2, 2), elements=st.integers(0, 6).map(float)))
    boxes = np.sort(corners, axis=1).reshape(count, 4)
    scores = data.draw(arrays.arrays(np.float32, count, elements=st.sampled_from([0, 0.25, 0.3, 0.9])))
    slices = data.draw(arrays.arrays(np.int64, count, elements=st.integers(-2, 4)))
    _assert_equal(
        ops.stack_boxes(boxes, scores, slices, iou_threshold), naive.stack_boxes(boxes, scores, slices, iou_threshold)
    )


def test_stacking_of_many_boxes_is_the_oracle() -> None:
    random = np.random.default_rng(0)
    low = random.integers(0, 60, (600, 2))
    boxes = np.concatenate([low, low + random.integers(5, 20, (600, 2))], axis=1).astype(np.float32)
    scores, slices = random.random(600, np.float32), random.integers(0, 30, 600)
    _assert_equal(ops.stack_boxes(boxes, scores, slices, 0.3), naive.stack_boxes(boxes, scores, slices, 0.3))


def _joined(boxes: Boxes, scores: Boxes, slices: NDArray[np.int64], iou_threshold: float) -> list[list[int]]:
    """The members of each tracklet, from whole matrices of overlaps."""
    tracklet = list(range(len(boxes)))
    for z in range(slices.min(), slices.max()):
        before, after = np.flatnonzero(slices == z), np.flatnonzero(slices == z + 1)
        overlaps = ops.iou(boxes[after], boxes[before])
        pairs = [
            (-overlaps[i, j], -scores[after[i]], after[i], before[j])
            for i, j in np.argwhere(overlaps.astype(float) > iou_threshold)
        ]
        taken: set[int] = set()
        for *_, box, predecessor in sorted(pairs):
            if box not in taken and predecessor not in taken:
                taken |= {box, predecessor}
                tracklet[box] = tracklet[predecessor]
    return sorted([i for i, each in enumerate(tracklet) if each == name] for name in set(tracklet))


@pytest.mark.parametrize("iou_threshold", [0.0, 0.3, 0.5, 0.8])
def test_crowded_slices_are_joined_as_by_whole_matrices(iou_threshold: float, instruction_set: str) -> None:
    random = np.random.default_rng(0)
    slices = random.integers(0, 5, 3000)
    low = random.random((3000, 2)) * 400
    boxes = np.round(np.concatenate([low, low + random.uniform(4, 60, (3000, 2))], axis=1)).astype(np.float32)
    scores = np.round(random.random(3000, np.float32), 1)
    members = ops.stack_boxes(boxes, scores, slices, iou_threshold).members
    found = sorted(np.flatnonzero(members == row).tolist() for row in set(members.tolist()))
    assert found == _joined(boxes, scores, slices, iou_threshold)


def test_score_weighted_mean_and_half_slices() -> None:
    stacked = ops.stack_boxes([SQUARE, [4, 4, 14, 14]], [0.75, 0.25], [7, 8], 0.1)
    assert stacked.boxes.tolist() == [[1, 1, 6.5, 11, 11, 8.5]]
    assert stacked.scores.tolist() == [0.75]
    assert stacked.members.tolist() == [0, 0]


def test_a_missing_slice_ends_a_tracklet() -> None:
    stacked = ops.stack_boxes([SQUARE] * 3, [0.1, 0.2, 0.3], [1, 2, 4], 0.5)
    assert stacked.boxes[:, [2, 5]].tolist() == [[3.5, 4.5], [0.5, 2.5]]
    assert stacked.members.tolist() == [1, 1, 0]


def test_exactly_at_the_threshold_does_not_join() -> None:
    halves = [[0, 0, 10, 10], [0, 0, 10, 5]]
    assert len(ops.stack_boxes(halves, [1, 1], [0, 1], 0.5).boxes) == 2
    assert len(ops.stack_boxes(halves, [1, 1], [0, 1], 0.49).boxes) == 1


def test_the_better_overlap_joins_and_the_other_opens_its_own() -> None:
    stacked = ops.stack_boxes([SQUARE, [0, 0, 10, 8], [0, 0, 10, 9]], [0.5, 0.9, 0.4], [0, 1, 1], 0.5)
    assert stacked.members.tolist() == [1, 0, 1]


def test_ties_go_to_the_score_then_to_the_index() -> None:
    assert ops.stack_boxes([SQUARE] * 3, [0.5, 0.2, 0.4], [0, 1, 1], 0.5).members.tolist() == [0, 1, 0]
    assert ops.stack_boxes([SQUARE] * 3, [0.5, 0.4, 0.4], [0, 1, 1], 0.5).members.tolist() == [0, 0, 1]
    assert ops.stack_boxes([SQUARE] * 3, [0.3, 0.3, 0.3], [0, 0, 1], 0.5).members.tolist() == [0, 1, 0]


def test_scores_that_are_all_zero_weigh_the_same() -> None:
    assert ops.stack_boxes([SQUARE, [2, 2, 12, 12]], [0, 0], [0, 1], 0.1).boxes.tolist() == [[1, 1, -0.5, 11, 11, 1.5]]


def test_no_boxes() -> None:
    stacked = ops.stack_boxes(np.zeros((0, 4)), [], [], 0.5)
    assert stacked.boxes.shape == (0, 6)
    assert stacked.scores.shape == stacked.members.shape == (0,)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"boxes must have shape \(N, 4\), got \(1, 6\)"):
        ops.stack_boxes(np.zeros((1, 6)), [1], [0], 0.5)
    with pytest.raises(ValueError, match=r"slices must have one value per box: expected shape \(1,\), got \(2,\)"):
        ops.stack_boxes([SQUARE], [1], [0, 1], 0.5)
    with pytest.raises(ValueError, match=r"scores\[1\] is negative"):
        ops.stack_boxes([SQUARE] * 2, [1, -1], [0, 1], 0.5)
    with pytest.raises(ValueError, match=r"scores\[0\] is NaN or infinite"):
        ops.stack_boxes([SQUARE], [np.inf], [0], 0.5)
    with pytest.raises(ValueError, match=r"boxes\[0\] ends before it begins along x"):
        ops.stack_boxes([[3, 0, 1, 1]], [1], [0], 0.5)
    with pytest.raises(TypeError, match="slices must be integers"):
        ops.stack_boxes([SQUARE], [1], [0.5], 0.5)
