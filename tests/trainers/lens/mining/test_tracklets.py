"""Grouping of boxes over slices, and the key-slice test."""

import numpy as np
import pytest

from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.lens.mining.tracklets import NOBODY, add_lesions, apart, group, outside, owners, row_iou
from tests.trainers.lens.mining.toy import found, square


def test_boxes_of_consecutive_slices_are_one_tracklet_and_a_gap_begins_another() -> None:
    tracklets = group(found([square(3), square(4, x=11), square(6)]))
    assert len(tracklets) == 2
    assert tracklets.members[0] == tracklets.members[1] != tracklets.members[2]


def test_overlap_of_exactly_theta_is_another_lesion() -> None:
    """A box of 10 x 10 over one of 10 x 5 within it: IoU 0.5."""
    rows = [[3, 10, 10, 20, 20], [4, 10, 10, 20, 15]]
    assert len(group(found(rows))) == 2
    assert len(group(found(rows), theta=0.49)) == 1


@pytest.mark.parametrize(("slices", "center"), [((4,), 4), ((4, 5), 4), ((4, 5, 6), 5), ((4, 5, 6, 7), 5)])
def test_center_row_lies_on_the_middle_slice(slices: tuple[int, ...], center: int) -> None:
    tracklets = group(found([square(2, x=40), *(square(z) for z in slices)]))
    rows = tracklets.rows[tracklets.center_rows()]
    assert sorted(rows[:, 0].tolist()) == [2, center]


def test_tracklet_belongs_to_the_annotation_that_it_overlaps_on_its_slice() -> None:
    tracklets = group(found([square(3), square(4), square(5), square(4, x=40)]))
    labels = Labels.of([square(4, x=11)], [0], ["liver"])
    owner = owners(tracklets, labels)
    assert owner[tracklets.members[0]] == 0
    assert sorted(owner.tolist()) == [NOBODY, 0]


def test_annotation_on_a_slice_that_the_tracklet_does_not_reach_is_not_its() -> None:
    assert owners(group(found([square(3), square(4)])), Labels.of([square(5)], [0], ["liver"])).tolist() == [NOBODY]


def test_of_two_annotations_the_better_overlap_counts() -> None:
    tracklets = group(found([square(3), square(4)]))
    labels = Labels.of([square(3, x=12), square(4, x=11)], [0, 1], ["liver", "lymph_node"])
    assert owners(tracklets, labels).tolist() == [1]
    tied = Labels.of([square(3, x=11), square(4, x=11)], [1, 0], ["liver", "lymph_node"])
    assert owners(tracklets, tied).tolist() == [1]


@pytest.mark.parametrize("rows", [[], [square(3)]])
def test_no_boxes_or_no_annotations(rows: list[list[float]]) -> None:
    tracklets = group(found(rows))
    assert owners(tracklets, Labels.of()).tolist() == [NOBODY] * len(rows)
    assert len(tracklets.center_rows()) == len(rows)
    assert owners(group(found()), Labels.of([square(3)], [0], ["liver"])).tolist() == []


def test_ious_count_on_the_same_slice_only() -> None:
    a, b = (np.array(rows, np.float32) for rows in ([square(3), square(4)], [square(3, x=15)]))
    np.testing.assert_allclose(row_iou(a, b), np.array([[1 / 3], [0]]), rtol=1e-6)
    assert apart(a, b, 0.3).tolist() == [False, True]
    assert apart(a, b, 0.34).tolist() == [True, True]
    assert apart(a, b[:0], 0.0).tolist() == [True, True]


def test_boxes_in_ignored_places_are_left_out() -> None:
    boxes = found([square(3), square(6), square(3, x=40)])
    kept = outside(boxes, np.array([[0, 0, 2, 30, 30, 5]], np.float32))
    assert kept.slices.tolist() == [3, 6]
    assert kept.boxes[0, 0] == 40
    assert outside(boxes, np.zeros((0, 6), np.float32)) is boxes


def test_added_rows_and_lesions_stand_behind_the_others() -> None:
    labels = Labels.of([square(4)], [0], ["liver"], ignored=[[0, 0, 0, 1, 1, 1]])
    added = add_lesions(labels, np.array([square(5)], np.float32), np.array([1]), ("lymph_node",))
    assert added.boxes.tolist() == [square(4), square(5)]
    assert added.lesion.tolist() == [0, 1]
    assert added.types == ("liver", "lymph_node")
    assert len(added.ignored) == 1
    assert len(labels.boxes) == 1
