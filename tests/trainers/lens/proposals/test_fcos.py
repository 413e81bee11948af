"""FCOS: targets, losses and scores, against cases counted by hand."""

import math

import numpy as np
import pytest
import torch

from lnsdk.trainers.lens.proposals.fcos import (
    FullyConvolutional,
    centerness_of,
    focal_loss,
    iou_loss,
    pixel_targets,
)
from lnsdk.trainers.lens.targets import IGNORED

NONE = torch.zeros(0, 4)


def test_every_pixel_inside_belongs_to_the_smallest_lesion() -> None:
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [15.0, 15.0, 25.0, 29.0]])
    labels, distances = pixel_targets(boxes, NONE, NONE, 16, 16)
    expected = np.zeros((16, 16), np.float32)
    expected[3:10, 3:10] = 1  # 8 < x < 40: the pixels on the border are outside
    np.testing.assert_array_equal(labels, expected)
    torch.testing.assert_close(distances[:, 5, 6], torch.tensor([9.0, 5.0, 1.0, 9.0]) / 4)
    torch.testing.assert_close(distances[:, 5, 7], torch.tensor([20.0, 12.0, 12.0, 20.0]) / 4)


def test_uncertain_and_ignored_boxes_ask_for_nothing_but_never_hide_a_lesion() -> None:
    lesion = torch.tensor([[14.0, 14.0, 22.0, 22.0]])
    uncertain, ignored = torch.tensor([[7.0, 7.0, 29.0, 29.0]]), torch.tensor([[39.0, 39.0, 49.0, 45.0]])
    labels, _ = pixel_targets(lesion, uncertain, ignored, 16, 16)
    expected = np.zeros((16, 16), np.float32)
    expected[2:8, 2:8] = IGNORED
    expected[4:6, 4:6] = 1
    expected[10:12, 10:13] = IGNORED
    np.testing.assert_array_equal(labels, expected)
    assert not pixel_targets(NONE, NONE, NONE, 4, 6).labels.any()


@pytest.mark.parametrize(("x", "y"), np.random.default_rng(0).uniform(20, 24, (20, 2)).tolist())
def test_four_millimetre_lesion_has_a_positive_pixel_wherever_it_lies(x: float, y: float) -> None:
    labels, distances = pixel_targets(torch.tensor([[x, y, x + 5, y + 5]]), NONE, NONE, 16, 16)
    assert 1 <= (labels == 1).sum() <= 4
    assert (distances[:, labels == 1] > 0).all()


def test_centerness_is_equation_3() -> None:
    distances = torch.tensor([[2.0, 3.0, 2.0, 3.0], [1.0, 1.0, 3.0, 3.0], [1.0, 2.0, 4.0, 2.0]])
    torch.testing.assert_close(centerness_of(distances), torch.tensor([1.0, 1 / 3, 0.5]))


def test_focal_loss_weighs_positives_and_negatives() -> None:
    p = torch.tensor([[[0.8, 0.3, 0.9]]], dtype=torch.float64)
    expected = -(0.25 * 0.2**2 * math.log(0.8) + 0.75 * 0.3**2 * math.log(0.7))
    assert focal_loss(p.logit(), torch.tensor([[[1.0, 0.0, IGNORED]]])).item() == pytest.approx(expected)


def test_iou_loss_is_minus_the_logarithm_of_the_overlap() -> None:
    found = torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    wanted = torch.tensor([[1.0, 1.0, 3.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    assert iou_loss(found, wanted).item() == pytest.approx(math.log(2))


def test_losses_of_a_lesion_of_one_pixel() -> None:
    """6 px around pixel (2, 2) of 16: positive, with distances of 0.75 and a centre-ness of 1."""
    boxes = [torch.tensor([[5.0, 5.0, 11.0, 11.0]])]
    outputs = (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), torch.full((1, 4, 4, 4), 1.5))
    classification, box = FullyConvolutional(2, 2).loss(outputs, boxes, [NONE], [NONE], np.random.default_rng(0))
    focal = (0.25 + 15 * 0.75) * 0.25 * math.log(2)
    assert classification.item() == pytest.approx(focal + math.log(2))
    assert box.item() == pytest.approx(math.log(4))


def test_score_is_the_product_with_the_centerness() -> None:
    logit = torch.full((1, 1, 1, 1), 0.0)
    scores, _ = FullyConvolutional(2, 2).decode((logit, logit + math.log(3), torch.ones(1, 4, 1, 1)))
    assert scores.item() == pytest.approx(0.5 * 0.75)
