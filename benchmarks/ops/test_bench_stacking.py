"""Stacking of slice boxes against what a user would write, for no library offers it."""

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray

from benchmarks.boxes import detections_by_slice
from benchmarks.measuring import Case, Measure, Peer
from lnsdk import ops
from tests import naive

IOU_THRESHOLD = 0.5

MOST_FOR_LOOPS = 50 * 50
"""Boxes that Python loops join within a minute, and NumPy with them."""

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@pytest.mark.parametrize("slices", [50, 100, 200, 400])
def test_more_slices(measure: Measure, slices: int) -> None:
    _stack(measure, "stack_boxes, 50 a slice", slices, 50)


@pytest.mark.parametrize("per_slice", [50, 100, 200, 500])
def test_more_boxes_a_slice(measure: Measure, per_slice: int) -> None:
    _stack(measure, "stack_boxes, 100 slices", 100, per_slice)


def _stack(measure: Measure, name: str, slices: int, per_slice: int) -> None:
    boxes, scores, at = detections_by_slice(slices, per_slice)
    peers = [Peer("NumPy, slice by slice", lambda: _slice_by_slice(boxes, scores, at))]
    if len(boxes) <= MOST_FOR_LOOPS:
        peers.append(Peer("Python loops", lambda: naive.stack_boxes(boxes, scores, at, IOU_THRESHOLD), at_least=200))
    answers = measure(
        Case(
            name=name,
            size=f"{slices} slices of {per_slice} boxes",
            count=len(boxes),
            unit="box",
            ours=lambda: ops.stack_boxes(boxes, scores, at, IOU_THRESHOLD),
            peers=peers,
            at_most_seconds=2e-3 if (slices, per_slice) == (400, 50) else None,
        )
    )
    stacked = answers["ours"]
    for peer in peers[1:]:
        np.testing.assert_allclose(stacked.boxes, answers[peer.name].boxes, rtol=1e-6)
        np.testing.assert_array_equal(stacked.members, answers[peer.name].members)
    np.testing.assert_array_equal(stacked.members, answers["NumPy, slice by slice"][0])
    np.testing.assert_allclose(stacked.boxes, answers["NumPy, slice by slice"][1], rtol=1e-5)


def _slice_by_slice(boxes: Floats, scores: Floats, slices: Integers) -> tuple[Integers, Floats]:
    """For each box its row, and the 3D boxes: pairs of neighbouring slices by falling overlap, then sums."""
    tracklets = np.arange(len(boxes))
    previous = np.zeros(0, np.int64)
    for z in range(slices.max() + 1):
        current = np.flatnonzero(slices == z)
        overlaps = torchvision.ops.box_iou(torch.from_numpy(boxes[previous]), torch.from_numpy(boxes[current])).numpy()
        before, after = np.nonzero(overlaps > IOU_THRESHOLD)
        for pair in np.argsort(-overlaps[before, after], kind="stable"):
            left, right = before[pair], after[pair]
            if overlaps[left, right] >= 0:
                tracklets[current[right]] = tracklets[previous[left]]
                overlaps[left, :] = overlaps[:, right] = -1
        previous = current
    _, rows = np.unique(tracklets, return_inverse=True)
    weights = np.bincount(rows, scores)
    corners = np.stack([np.bincount(rows, scores * corner) / weights for corner in boxes.T], axis=1)
    first, last, best = np.full(len(weights), slices.max()), np.zeros(len(weights), np.int64), np.zeros(len(weights))
    np.minimum.at(first, rows, slices)
    np.maximum.at(last, rows, slices)
    np.maximum.at(best, rows, scores)
    order = np.argsort(-best, kind="stable")
    stacked = np.column_stack([corners[:, :2], first - 0.5, corners[:, 2:], last + 0.5])
    return np.argsort(order)[rows], stacked[order].astype(np.float32)
