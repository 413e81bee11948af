"""Stacking of slice boxes against the loop-only oracle and by hand."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnsdk import ops
from tests import naive

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
