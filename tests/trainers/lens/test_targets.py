"""Target maps of the proposal networks, against cases counted by hand."""

import numpy as np
import pytest
import torch

from lnsdk.trainers.lens.targets import IGNORED, proposal_targets

CERTAIN = torch.tensor([False])


def box(center_x: float, center_y: float, width: float, height: float) -> list[float]:
    return [center_x - width / 2, center_y - height / 2, center_x + width / 2, center_y + height / 2]


def test_regions_of_one_box() -> None:
    # 80 px = 20 feature pixels: centre region 4 wide (x 8..12), ignored region 10 wide (x 5..15), around pixel (10, 10)
    targets = proposal_targets(torch.tensor([box(40, 40, 80, 80)]), CERTAIN, 24, 24)
    expected = np.zeros((24, 24), np.float32)
    expected[5:16, 5:16] = IGNORED
    expected[8:13, 8:13] = 1
    np.testing.assert_array_equal(targets.centerness.numpy(), expected)
    np.testing.assert_allclose(targets.distances[:, 10, 8].numpy(), [8, 10, 12, 10])


def test_four_millimetre_lesion_has_a_positive_pixel_wherever_it_lies() -> None:
    rng = np.random.default_rng(0)
    side = 4.0 / 0.8
    for x, y in rng.uniform(20, 24, (100, 2)):
        targets = proposal_targets(torch.tensor([box(x, y, side, side)], dtype=torch.float32), CERTAIN, 16, 16)
        row, column = np.argwhere(targets.centerness.numpy() == 1)[0]
        assert abs(4 * column - x) <= 2
        assert abs(4 * row - y) <= 2
        assert (targets.distances[:, row, column] >= 0).all()


def test_smaller_box_wins_a_shared_pixel() -> None:
    boxes = torch.tensor([box(40, 40, 80, 80), box(40, 40, 12, 12)])
    targets = proposal_targets(boxes, torch.tensor([False, False]), 24, 24)
    np.testing.assert_allclose(targets.distances[:, 10, 10].numpy(), [1.5] * 4)
    np.testing.assert_allclose(targets.distances[:, 10, 12].numpy(), [12, 10, 8, 10])


def test_box_at_the_border_has_its_center_inside() -> None:
    targets = proposal_targets(torch.tensor([[-0.5, -0.5, 1.0, 1.0]]), CERTAIN, 8, 8)
    assert targets.centerness[0, 0] == 1
    assert (targets.distances >= 0).all()


@pytest.mark.parametrize("uncertain", [True, False])
def test_uncertain_box_ignores_but_never_hides_a_certain_one(uncertain: bool) -> None:
    boxes = torch.tensor([box(40, 40, 80, 80), box(40, 40, 12, 12)])
    targets = proposal_targets(boxes, torch.tensor([uncertain, False]), 24, 24)
    assert targets.centerness[10, 10] == 1
    assert targets.centerness[12, 12] == (IGNORED if uncertain else 1)
    assert targets.centerness[15, 15] == IGNORED


def test_no_box_is_all_background() -> None:
    targets = proposal_targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool), 4, 6)
    assert targets.centerness.shape == (4, 6)
    assert not targets.centerness.any()
    assert targets.distances.shape == (4, 4, 6)
