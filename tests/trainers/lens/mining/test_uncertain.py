"""Uncertain boxes of the single-type experts."""

import numpy as np
import pytest

from lnsdk.trainers.common.labels import UNKNOWN, Labels
from lnsdk.trainers.lens.mining.uncertain import add_as_lesions, add_uncertain, suspicious
from tests.trainers.lens.mining.toy import found, square


def test_score_must_exceed_sigma() -> None:
    boxes = found([square(3), square(4), square(5)], [0.4, 0.5, 0.51])
    assert suspicious(Labels.of(), boxes).slices.tolist() == [5]


@pytest.mark.parametrize(("x", "kept"), [(10.0, 0), (15.0, 0), (16.0, 1), (40.0, 1)])
def test_boxes_over_known_lesions_are_left_out(x: float, kept: int) -> None:
    """Shifted by 5 of 10 pixels: IoU 5/15, above 0.3; by 6: 4/16."""
    labels = Labels.of([square(3)], [0], ["liver"])
    assert len(suspicious(labels, found([square(3, x)])).boxes) == kept
    assert len(suspicious(labels, found([square(4, x)])).boxes) == 1  # nothing known on that slice


def test_uncertain_boxes_stand_behind_those_that_are_there() -> None:
    labels = Labels.of([square(3)], [0], ["liver"], uncertain=[square(7)])
    added = add_uncertain(labels, found([square(3, 40)]))
    assert added.uncertain.tolist() == [square(7), square(3, 40)]
    np.testing.assert_array_equal(added.boxes, labels.boxes)
    assert len(add_uncertain(labels, found()).uncertain) == 1


def test_as_truth_they_are_lesions_of_unknown_type() -> None:
    labels = Labels.of([square(3)], [0], ["liver"])
    added = add_as_lesions(labels, found([square(3, 40), square(4, 40), square(8, 40)]))
    assert added.types == ("liver", UNKNOWN, UNKNOWN)
    lesions = [set(added.boxes[added.lesion == lesion, 0].tolist()) for lesion in range(3)]
    assert lesions[0] == {3}
    assert sorted(map(sorted, lesions[1:])) == [[3, 4], [8]]
    assert not len(added.uncertain)
    assert add_as_lesions(labels, found()).types == ("liver",)
