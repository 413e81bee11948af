"""LENS's own proposal network: its targets and losses on slices counted by hand."""

import math

import numpy as np
import pytest
import torch

from lnsdk.trainers.lens.proposals.afp import AnchorFreeProposals, batch_targets, enlarge
from lnsdk.trainers.lens.targets import IGNORED

NONE = torch.zeros(0, 4)


def test_a_place_without_labels_is_ignored_up_to_its_border() -> None:
    place = torch.tensor([[8.0, 8.0, 24.0, 40.0]])
    torch.testing.assert_close(enlarge(place), torch.tensor([[0.0, -8.0, 32.0, 56.0]]))
    targets = batch_targets([NONE], [NONE], [place], 16, 16)
    expected = np.zeros((16, 16), np.float32)
    expected[2:11, 2:7] = IGNORED
    np.testing.assert_array_equal(targets.centerness[0], expected)


def test_uncertain_box_is_ignored_in_its_middle_only() -> None:
    targets = batch_targets([NONE], [torch.tensor([[0.0, 0.0, 32.0, 32.0]])], [NONE], 16, 16)
    expected = np.zeros((16, 16), np.float32)
    expected[2:7, 2:7] = IGNORED
    np.testing.assert_array_equal(targets.centerness[0], expected)


def test_losses_of_a_lesion_of_one_pixel() -> None:
    """12 px around pixel (2, 2): B_ctn and B_ign (6 px) hold that pixel alone; distances are 1.5 feature pixels."""
    logits, distances = torch.zeros(1, 1, 4, 4), torch.ones(1, 4, 4, 4)
    boxes = [torch.tensor([[2.0, 2.0, 14.0, 14.0]])]
    center, size = AnchorFreeProposals(2, 2).loss((logits, distances), boxes, [NONE], [NONE], np.random.default_rng(0))
    assert center.item() == pytest.approx(0.5 * 16 * 0.25 * math.log(2))
    assert size.item() == pytest.approx(4 * 0.5)


def test_four_millimetre_lesion_has_one_positive_pixel_wherever_it_lies() -> None:
    """5 px wide, its centre region is 1 px: never more than one of the pixels, 4 px apart, and never none."""
    corners = torch.from_numpy(np.random.default_rng(0).uniform(16, 24, (100, 2)).astype(np.float32))
    boxes = list(torch.cat((corners, corners + 5), dim=1).unsqueeze(1))
    targets = batch_targets(boxes, [NONE] * 100, [NONE] * 100, 16, 16)
    assert ((targets.centerness == 1).sum(dim=(1, 2)) == 1).all()
