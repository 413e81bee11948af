"""CenterNet: radius, heat map and losses, against the definition and cases counted by hand."""

import math

import numpy as np
import pytest
import torch

from lnsdk.ops import iou
from lnsdk.trainers.lens.proposals.centernet import CenterPoints, center_targets, heat_loss, peak_radius
from lnsdk.trainers.lens.targets import IGNORED

NONE = torch.zeros(0, 4)


@pytest.mark.parametrize(("width", "height"), [(10.0, 10.0), (20.0, 5.0), (3.0, 31.0)])
def test_radius_is_where_the_worst_box_overlaps_seven_tenths(width: float, height: float) -> None:
    radius = peak_radius(torch.tensor([[width, height]], dtype=torch.float64)).item()
    box = np.array([[0, 0, width, height]])
    moves = np.array([[1, 1, 1, 1], [1, 1, -1, -1], [-1, -1, 1, 1]])
    assert iou(box, box + radius * moves).min() == pytest.approx(0.7)


def test_heat_falls_off_around_the_nearest_pixel() -> None:
    """80 px = 20 feature pixels: the radius is 20 (1 - sqrt 0.7) / 2 = 1.63, so 1, and sigma is (2 + 1) / 6 = 0.5."""
    box = torch.tensor([[1.0, -3.0, 81.0, 77.0]])  # centre x 41, y 37: pixel column 10, row 9
    targets = center_targets([box], [NONE], [NONE], 20, 20)
    heat = targets.heat[0]
    assert heat[9, 10] == 1
    assert heat[9, 11].item() == pytest.approx(math.exp(-2))
    assert heat[10, 11].item() == pytest.approx(math.exp(-4))
    assert (heat == 1).sum() == 1
    assert targets.places.tolist() == [[0, 9, 10]]
    torch.testing.assert_close(targets.offsets, torch.tensor([[0.25, 0.25]]))
    torch.testing.assert_close(targets.sizes, torch.tensor([[20.0, 20.0]]))


def test_overlapping_peaks_keep_the_higher_value() -> None:
    boxes = torch.tensor([[0.0, 0.0, 80.0, 80.0], [4.0, 0.0, 84.0, 80.0]])
    heat = center_targets([boxes], [NONE], [NONE], 24, 24).heat[0]
    assert heat[10, 10] == heat[10, 11] == 1
    assert heat[10, 12].item() == pytest.approx(math.exp(-2))


def test_box_whose_centre_lies_beyond_the_map() -> None:
    targets = center_targets([torch.tensor([[60.0, 30.0, 68.0, 34.0]])], [NONE], [NONE], 16, 16)
    assert targets.places.tolist() == [[0, 8, 15]]
    assert targets.heat[0, 8, 15] == 1
    torch.testing.assert_close(targets.offsets, torch.tensor([[1.0, 0.0]]))


def test_uncertain_middles_and_ignored_places_ask_for_nothing() -> None:
    lesion = torch.tensor([[14.0, 14.0, 18.0, 18.0]])
    uncertain, ignored = torch.tensor([[-4.0, -4.0, 36.0, 36.0]]), torch.tensor([[41.0, 41.0, 55.0, 51.0]])
    heat = center_targets([lesion], [uncertain], [ignored], 16, 16).heat[0]
    expected = np.zeros((16, 16), bool)
    expected[2:7, 2:7] = True  # 20 px around 16: 6 < x < 26
    expected[4, 4] = False
    expected[11:13, 11:14] = True
    np.testing.assert_array_equal((heat == IGNORED).numpy(), expected)
    assert heat[4, 4] == 1


def test_heat_loss_is_equation_1_over_the_objects() -> None:
    p = torch.tensor([[[0.8, 0.3], [0.9, 0.6]]], dtype=torch.float64)
    heat = torch.tensor([[[1.0, 0.5], [IGNORED, 0.0]]], dtype=torch.float64)
    expected = -(0.2**2 * math.log(0.8) + 0.5**4 * 0.3**2 * math.log(0.7) + 0.6**2 * math.log(0.4))
    assert heat_loss(p.logit(), heat).item() == pytest.approx(expected)
    two = torch.cat((heat, torch.zeros(1, 2, 2)))
    assert heat_loss(torch.cat((p.logit(), torch.full((1, 2, 2), -99.0))), two).item() == pytest.approx(expected / 2)


def test_box_loss_looks_at_the_centre_pixels_alone() -> None:
    boxes = [torch.tensor([[1.0, -3.0, 81.0, 77.0]]), NONE]
    offsets, sizes = torch.full((2, 2, 20, 20), 77.0), torch.full((2, 2, 20, 20), 77.0)
    offsets[0, :, 9, 10] = torch.tensor([0.0, 0.25])
    sizes[0, :, 9, 10] = torch.tensor([22.0, 17.0])
    outputs = (torch.zeros(2, 1, 20, 20), offsets, sizes)
    _, box = CenterPoints(2, 2).loss(outputs, boxes, [NONE] * 2, [NONE] * 2, np.random.default_rng(0))
    assert box.item() == pytest.approx(0.25 + 0.1 * 5)
