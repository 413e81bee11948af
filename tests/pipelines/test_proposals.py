from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lnsdk.ops import nms
from lnsdk.pipelines.proposals import (
    SliceBoxes,
    apply_deltas,
    decode_proposals,
    pad_rois,
    select_boxes,
    stack_slices,
)
from tests.pipelines.test_grid import SETTINGS

Array = NDArray[np.float32]
WEIGHTS = SETTINGS.delta_weights


def naive_proposals(centerness: Array, distances: Array) -> Array:
    """Decode pixel by pixel, then sort, suppress and cut."""
    found = []
    experts, height, width = centerness.shape
    for expert in range(experts):
        for j in range(height):
            for i in range(width):
                if centerness[expert, j, i] > np.float32(SETTINGS.proposal_min_score):
                    left, top, right, bottom = distances[expert, :, j, i]
                    x1, x2 = max(4 * i - left, -0.5), min(4 * i + right, 4 * width - 0.5)
                    y1, y2 = max(4 * j - top, -0.5), min(4 * j + bottom, 4 * height - 0.5)
                    found.append((centerness[expert, j, i], x1, y1, x2, y2))
    found.sort(key=lambda row: -row[0])
    rows = np.array(found, np.float32).reshape(-1, 5)[: SETTINGS.pre_nms]
    return rows[nms(rows[:, 1:], rows[:, 0], SETTINGS.proposal_iou)][: SETTINGS.post_nms, 1:]


@pytest.mark.parametrize("seed", range(4))
def test_proposals_are_those_of_the_loop(seed: int) -> None:
    random = np.random.default_rng(seed)
    centerness = random.random((3, 9, 12), np.float32) ** 4
    distances = (random.random((3, 4, 9, 12), np.float32) * 12 + 0.1).astype(np.float32)
    assert np.allclose(decode_proposals(centerness, distances, SETTINGS), naive_proposals(centerness, distances))


def test_only_the_best_scores_go_on() -> None:
    centerness = np.linspace(0.1, 0.9, 48, dtype=np.float32).reshape(1, 6, 8)
    distances = np.full((1, 4, 6, 8), 1, np.float32)
    few = replace(SETTINGS, pre_nms=5, post_nms=3)
    boxes = decode_proposals(centerness, distances, few)
    assert boxes[:, 0].tolist() == [27, 23, 19]
    assert boxes[:, 1].tolist() == [19, 19, 19]
    assert len(decode_proposals(centerness, distances, replace(SETTINGS, pre_nms=5))) == 5


def test_equal_scores_keep_the_order_of_the_map() -> None:
    centerness = np.full((1, 2, 3), 0.5, np.float32)
    boxes = decode_proposals(centerness, np.full((1, 4, 2, 3), 1, np.float32), replace(SETTINGS, pre_nms=4))
    assert boxes[:, :2].tolist() == [[-0.5, -0.5], [3, -0.5], [7, -0.5], [-0.5, 3]]


def test_nothing_above_the_threshold_gives_no_proposal() -> None:
    empty = decode_proposals(np.zeros((2, 3, 4), np.float32), np.ones((2, 4, 3, 4), np.float32), SETTINGS)
    assert empty.shape == (0, 4)


def test_broken_values_give_no_proposal() -> None:
    centerness = np.full((1, 2, 3), 0.5, np.float32)
    centerness[0, 0, 0] = np.nan
    distances = np.full((1, 4, 2, 3), 1, np.float32)
    distances[0, :, 1, 1] = np.nan
    distances[0, :, 1, 2] = 0
    boxes = decode_proposals(centerness, distances, SETTINGS)
    assert np.isfinite(boxes).all()
    assert len(boxes) == 3


def test_rois_are_padded_to_the_longest() -> None:
    rois = pad_rois([np.ones((2, 4), np.float32), np.zeros((0, 4), np.float32), np.ones((1, 4), np.float32)])
    assert rois.shape == (3, 2, 4)
    assert rois.sum(axis=(1, 2)).tolist() == [8, 0, 4]


def test_no_offset_leaves_a_box() -> None:
    rois = np.array([[1, 2, 11, 32]], np.float32)
    assert np.array_equal(apply_deltas(rois, np.zeros((1, 2, 4), np.float32), WEIGHTS)[0], np.tile(rois, (2, 1)))


def test_offsets_move_and_grow_a_box() -> None:
    rois = np.array([[0, 0, 10, 20]], np.float32)
    deltas = np.array([[[10, -5, 5 * np.log(2), 0]]], np.float32)
    assert np.allclose(apply_deltas(rois, deltas, WEIGHTS), [[[5, -10, 25, 10]]])


def test_growth_is_limited() -> None:
    rois = np.array([[0, 0, 16, 16]], np.float32)
    grown = apply_deltas(rois, np.array([[[0, 0, 1e6, 1e6]]], np.float32), WEIGHTS)
    assert np.allclose(grown[0, 0, 2:] - grown[0, 0, :2], 1000)


def test_experts_are_pooled_and_suppress_each_other() -> None:
    rois = np.array([[0, 0, 10, 10], [30, 30, 40, 40]], np.float32)
    scores = np.array([[0.9, 0.8], [0.04, 0.6]], np.float32)
    deltas = np.zeros((2, 2, 4), np.float32)
    both = np.array([0, 1])
    boxes, best, experts = select_boxes(rois, scores, deltas, both, (64, 64), SETTINGS)
    assert boxes.tolist() == rois.tolist()
    assert best.tolist() == pytest.approx([0.9, 0.6])
    assert experts.tolist() == scores.tolist()
    boxes, best, experts = select_boxes(rois, scores, deltas, both[1:], (64, 64), SETTINGS)
    assert best.tolist() == pytest.approx([0.8, 0.6])
    assert experts.shape == (2, 1)


def test_the_best_boxes_of_a_slice_are_kept() -> None:
    rois = np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(5)], np.float32)
    scores = np.array([[0.1], [0.5], [0.3], [0.9], [0.7]], np.float32)
    boxes, best, _ = select_boxes(
        rois, scores, np.zeros((5, 1, 4), np.float32), np.array([0]), (128, 128), replace(SETTINGS, per_slice=3)
    )
    assert boxes[:, 0].tolist() == [60, 80, 20]
    assert best.tolist() == pytest.approx([0.9, 0.7, 0.5])


def test_stacks_carry_their_best_member_and_all_experts() -> None:
    found = SliceBoxes(
        boxes=np.array([[0, 0, 10, 10], [50, 50, 60, 60], [1, 0, 11, 10], [0, 1, 10, 11]], np.float32),
        scores=np.array([0.5, 0.95, 0.9, 0.9], np.float32),
        expert_scores=np.array([[0.5, 0.4], [0.95, 0.1], [0.2, 0.9], [0.9, 0.3]], np.float32),
        slices=np.array([3, 3, 4, 5]),
    )
    stacks = stack_slices(found, 0.5)
    assert stacks.scores.tolist() == pytest.approx([0.95, 0.9])
    assert stacks.boxes[1, [2, 5]].tolist() == [2.5, 5.5]
    assert stacks.expert_scores.tolist() == [pytest.approx([0.95, 0.1]), pytest.approx([0.9, 0.9])]
    assert stacks.key_boxes.tolist() == [[50, 50, 3, 60, 60, 3], [1, 0, 4, 11, 10, 4]]
    assert stacks.rows(np.array([1])).boxes.shape == (1, 6)


def test_no_boxes_give_no_stacks() -> None:
    none = SliceBoxes(
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    )
    stacks = stack_slices(none, 0.5)
    assert stacks.boxes.shape == (0, 6)
    assert stacks.expert_scores.shape == (0, 2)
    assert stacks.key_boxes.shape == (0, 6)
