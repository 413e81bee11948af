"""Cross-slice box propagation, and that of Wang et al."""

import numpy as np

from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.lens.mining.propagation import propagate
from lnsdk.trainers.lens.mining.tracklets import group, owners
from lnsdk.trainers.lens.mining.wang import propagate_to_neighbours
from tests.trainers.lens.mining.toy import found, square


def propagated(labels: Labels, boxes: SliceBoxes) -> Labels:
    tracklets = group(boxes)
    return propagate(labels, tracklets, owners(tracklets, labels))


def slices_of(labels: Labels, lesion: int) -> list[int]:
    return sorted(labels.boxes[labels.lesion == lesion, 0].astype(int).tolist())


def test_the_other_slices_of_an_annotated_lesion_are_mined() -> None:
    labels = Labels.of([square(5, x=11)], [0], ["liver"])
    mined = propagated(labels, found([square(z) for z in (3, 4, 5, 6)] + [square(4, x=40)]))
    assert slices_of(mined, 0) == [3, 4, 5, 6]
    np.testing.assert_array_equal(mined.boxes[0], square(5, x=11))  # the annotation, not the detector's box
    assert mined.types == ("liver",)
    assert len(mined.boxes) == 4


def test_a_tracklet_that_runs_on_along_a_vessel_is_cut() -> None:
    """The annotation is 10 pixels wide, 8 mm: its boxes lie within 6 mm, three slices, of it."""
    labels = Labels.of([square(20)], [0], ["liver"])
    mined = propagated(labels, found([square(z) for z in range(40)]))
    assert slices_of(mined, 0) == [17, 18, 19, 20, 21, 22, 23]


def test_a_tracklet_that_wanders_off_is_cut() -> None:
    """Shifts of 3 pixels a slice: the IoU with the annotation is 7/13, 4/16, 1/19."""
    labels = Labels.of([square(5)], [0], ["liver"])
    mined = propagated(labels, found([square(5 + step, x=10 + 3 * step) for step in range(4)]))
    assert slices_of(mined, 0) == [5, 6]


def test_every_annotation_of_a_lesion_says_how_far_it_reaches() -> None:
    labels = Labels.of([square(5), square(11)], [0, 0], ["liver"])
    mined = propagated(labels, found([square(z) for z in range(20)]))
    assert slices_of(mined, 0) == list(range(2, 15))


def test_no_box_and_one_slice_mine_nothing() -> None:
    labels = Labels.of([square(5)], [0], ["liver"])
    assert len(propagated(labels, found()).boxes) == 1
    assert len(propagated(labels, found([square(5)])).boxes) == 1
    assert len(propagated(Labels.of(), found([square(4), square(5)])).boxes) == 0


def test_a_mined_box_that_is_another_annotation_is_not_added() -> None:
    """The tracklet runs through lesion 0 and on, on slice 6, over lesion 1."""
    labels = Labels.of([square(5), square(6, x=11)], [0, 1], ["liver", "liver"])
    mined = propagated(labels, found([square(4), square(5), square(6)]))
    assert slices_of(mined, 0) == [4, 5]
    assert slices_of(mined, 1) == [6]


def test_two_annotations_on_one_slice_keep_their_own_tracklets() -> None:
    labels = Labels.of([square(5), square(5, x=30)], [0, 1], ["liver", "lymph_node"])
    mined = propagated(labels, found([square(4), square(5), square(5, x=30), square(6, x=30)]))
    assert slices_of(mined, 0) == [4, 5]
    assert slices_of(mined, 1) == [5, 6]
    assert mined.boxes[mined.lesion == 1, 1].tolist() == [30, 30]


def test_of_two_tracklets_of_a_lesion_the_better_score_gives_the_box() -> None:
    """Annotated on slices 4 and 7: a tracklet from either reaches slices 5 and 6."""
    labels = Labels.of([square(4), square(7, x=15)], [0, 0], ["liver"])
    rows = [square(4), square(5), square(5, x=16), square(6, x=16), square(7, x=16)]
    mined = propagated(labels, found(rows, [0.9, 0.6, 0.8, 0.7, 0.9]))
    assert slices_of(mined, 0) == [4, 5, 6, 7]
    assert mined.boxes[mined.boxes[:, 0] == 5, 1].tolist() == [16]


def test_neighbours_reach_one_slice_in_each_direction() -> None:
    labels = Labels.of([square(5)], [0], ["liver"])
    mined = propagate_to_neighbours(labels, found([square(z, x=11) for z in (3, 4, 5, 6, 7)]))
    assert slices_of(mined, 0) == [4, 5, 6]
    np.testing.assert_array_equal(mined.boxes[0], square(5))


def test_neighbours_need_the_overlap() -> None:
    """Shifted by 4 of 10 pixels: IoU 6/14; by 3: 7/13."""
    labels = Labels.of([square(5)], [0], ["liver"])
    assert slices_of(propagate_to_neighbours(labels, found([square(4, x=14)])), 0) == [5]
    assert slices_of(propagate_to_neighbours(labels, found([square(4, x=13)])), 0) == [4, 5]


def test_a_neighbour_continues_one_annotation_and_the_best_box_is_taken() -> None:
    labels = Labels.of([square(5), square(5, x=12)], [0, 1], ["liver", "liver"])
    mined = propagate_to_neighbours(labels, found([square(4, x=11.5)]))
    assert slices_of(mined, 0) == [5]
    assert slices_of(mined, 1) == [4, 5]
    single = Labels.of([square(5)], [0], ["liver"])
    best = propagate_to_neighbours(single, found([square(4, x=12), square(4, x=9)], [0.9, 0.2]))
    assert best.boxes[best.boxes[:, 0] == 4, 1].tolist() == [9]
    tied = propagate_to_neighbours(single, found([square(4, x=11), square(4, x=9)], [0.2, 0.9]))
    assert tied.boxes[tied.boxes[:, 0] == 4, 1].tolist() == [9]


def test_a_neighbour_that_is_annotated_is_left_alone() -> None:
    labels = Labels.of([square(5), square(6, x=11)], [0, 1], ["liver", "liver"])
    assert len(propagate_to_neighbours(labels, found([square(6)])).boxes) == 2
    assert len(propagate_to_neighbours(labels, found()).boxes) == 2
    assert len(propagate_to_neighbours(Labels.of(), found([square(6)])).boxes) == 0
