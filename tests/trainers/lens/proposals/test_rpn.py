"""RPN: anchors, their labels and the sample, against cases counted by hand."""

import math

import numpy as np
import pytest
import torch

from lnsdk.trainers.lens.proposals.rpn import (
    RATIOS,
    SIZES,
    RegionProposals,
    anchors,
    label_anchors,
    sample_anchors,
)
from lnsdk.trainers.networks.boxes import move_boxes, plain_offsets

NONE = torch.zeros(0, 4)
SMALL = SIZES.index(16) * 3 + RATIOS.index(1)
"""Anchor of 16 x 16 px."""


def place(anchor: int, row: int, column: int, side: int = 16) -> int:
    return (anchor * side + row) * side + column


def test_anchors_lie_around_the_pixels() -> None:
    every = anchors(16, 16)
    assert every.shape == (15 * 256, 4)
    torch.testing.assert_close(every[place(SMALL, 2, 5)], torch.tensor([12.0, 0.0, 28.0, 16.0]))
    size = every[:, 2:] - every[:, :2]
    shapes = {(round(float(w * h)), round(float(h / w), 3)) for w, h in size[::256]}
    assert shapes == {(round(s * s), r) for s in SIZES for r in RATIOS}


def test_labels_by_overlap() -> None:
    """A lesion that is an anchor: shifted by one pixel it overlaps by 12/20 = 0.6, by two by 8/24, by three by 4/28."""
    lesion = torch.tensor([[12.0, 12.0, 28.0, 28.0]])
    labels, matched = label_anchors(anchors(16, 16), lesion, NONE, NONE)
    found = [labels[place(SMALL, 5, 5 + shift)] for shift in range(4)]
    assert found == [1, -1, -1, 0]
    assert (labels == 1).sum() == 1
    assert not matched.any()


def test_the_best_anchor_is_positive_whatever_its_overlap() -> None:
    """A lesion of 4 px overlaps no anchor by more than 16/256, yet the nearest anchors of 16 px, ratio 1 learn it."""
    lesion = torch.tensor([[18.0, 18.0, 22.0, 22.0]])
    labels, _ = label_anchors(anchors(16, 16), lesion, NONE, NONE)
    positive = anchors(16, 16)[labels == 1]
    assert len(positive) > 0
    assert (positive[:, :2] <= 18).all()
    assert (positive[:, 2:] >= 22).all()
    assert ((positive[:, 2:] - positive[:, :2]).prod(dim=1) < 257).all()


def test_lesion_out_of_every_anchors_reach_makes_no_anchor_positive() -> None:
    labels, _ = label_anchors(anchors(2, 2), torch.tensor([[500.0, 500.0, 520.0, 520.0]]), NONE, NONE)
    assert (labels == 0).all()


def test_uncertain_and_ignored_anchors_are_neither() -> None:
    box = torch.tensor([[12.0, 12.0, 28.0, 28.0]])
    labels, _ = label_anchors(anchors(16, 16), NONE, box, NONE)
    assert [labels[place(SMALL, 5, 5 + shift)] for shift in range(4)] == [-1, -1, -1, 0]
    labels, _ = label_anchors(anchors(16, 16), NONE, NONE, box)  # shares of the anchor: 1, 12/16, 8/16, 4/16
    assert [labels[place(SMALL, 5, 5 + shift)] for shift in range(4)] == [-1, -1, -1, 0]
    labels, _ = label_anchors(anchors(16, 16), box, box, box)
    assert labels[place(SMALL, 5, 5)] == 1


@pytest.mark.parametrize(("positive", "negative", "expected"), [(40, 99, (16, 16)), (3, 99, (3, 29)), (0, 5, (0, 5))])
def test_sample_has_at_most_half_lesions(positive: int, negative: int, expected: tuple[int, int]) -> None:
    labels = np.repeat(np.array([1, 0, -1]), (positive, negative, 50))
    lesions, others = sample_anchors(labels, np.random.default_rng(0))
    assert (len(lesions), len(others)) == expected
    assert len(set(lesions)) == len(lesions)
    assert (labels[lesions] == 1).all()
    assert (labels[others] == 0).all()


def test_losses_of_a_lesion_that_is_an_anchor() -> None:
    """32 samples at logit 0: ln 2 each. Offsets of 0.5 where 0 is right: 4 x (0.5 - 1/18) of one positive over 32."""
    lesion = torch.tensor([[12.0, 12.0, 28.0, 28.0]])
    outputs = (torch.zeros(1, 15, 16, 16), torch.full((1, 60, 16, 16), 0.5))
    rng = np.random.default_rng(0)
    classification, box = RegionProposals(2, 2).loss(outputs, [lesion], [NONE], [NONE], rng)
    assert classification.item() == pytest.approx(math.log(2))
    assert box.item() == pytest.approx(4 * (0.5 - 1 / 18) / 32)


def test_decoding_moves_the_anchor() -> None:
    logits, offsets = torch.full((1, 15, 16, 16), -9.0), torch.zeros(1, 60, 16, 16)
    logits[0, SMALL, 2, 5] = 3.0
    offsets[0, 4 * SMALL : 4 * SMALL + 4, 2, 5] = torch.tensor([0.5, -0.25, math.log(2), 0.0])
    scores, boxes = RegionProposals(2, 2).decode((logits, offsets))
    best = int(scores[0].argmax())
    assert best == place(SMALL, 2, 5)
    torch.testing.assert_close(boxes[0, best], torch.tensor([12.0, -4.0, 44.0, 12.0]))


def test_offsets_invert() -> None:
    boxes, targets = torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([[1.0, -3.0, 14.0, 30.0]])
    torch.testing.assert_close(move_boxes(boxes, plain_offsets(boxes, targets)), targets)
