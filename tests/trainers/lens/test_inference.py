"""A network over a volume: the same boxes as the exported detector gives, and several networks as one."""

import numpy as np
import pytest
import torch

from lnsdk.pipelines.proposals import stack_slices
from lnsdk.trainers.lens.inference import SliceRegions, VolumeRegions, find_regions, pool_networks, select_slices
from lnsdk.trainers.lens.settings import EDGE_RUNTIME, detector_settings
from lnsdk.trainers.networks.lens import Lens
from tests.trainers.lens.tiny import TINY, spread_scores

SETTINGS = detector_settings(EDGE_RUNTIME, ("a", "b"))


@pytest.fixture(scope="module")
def network() -> Lens:
    torch.manual_seed(0)
    return spread_scores(Lens(2, TINY)).eval()


@pytest.fixture(scope="module")
def grid() -> np.ndarray:
    return (255 * np.random.default_rng(0).random((7, 60, 50))).astype(np.float16)


def test_every_slice_is_the_group_of_nine_around_it(network: Lens, grid: np.ndarray) -> None:
    """Scores of the regions are those of the head on features of the slices i - 4 to i + 4, edges repeated."""
    regions = find_regions(network, grid, SETTINGS)
    assert regions.shape == (64, 64)
    assert len(regions.slices) == 7
    padded = np.zeros((7, 64, 64), np.float32)
    padded[:, :60, :50] = grid
    for i, found in enumerate(regions.slices):
        group = padded[np.clip(np.arange(i - 4, i + 5), 0, 6)]
        with torch.no_grad():
            features = network.forward_training(torch.from_numpy(group)[None])
            assert network.head is not None
            logits, offsets = network.head(features, torch.from_numpy(found.rois)[None])
        np.testing.assert_allclose(found.scores, logits[0].sigmoid().numpy(), atol=1e-4)
        np.testing.assert_allclose(found.offsets, offsets[0].numpy(), atol=1e-3)
        assert len(found.rois) > 0


def test_chosen_experts_boxes_count(network: Lens, grid: np.ndarray) -> None:
    regions = find_regions(network, grid, SETTINGS)
    both, first = select_slices(regions, [0, 1], SETTINGS), select_slices(regions, [0], SETTINGS)
    assert both.expert_scores.shape[1] == 2
    assert first.expert_scores.shape[1] == 1
    np.testing.assert_array_equal(first.scores, first.expert_scores[:, 0])
    assert (np.diff(both.slices) >= 0).all()
    assert len(stack_slices(both, 0.3).boxes) > 0


def test_networks_are_pooled_as_experts_side_by_side() -> None:
    one = SliceRegions(
        np.array([[0, 0, 9, 9]], np.float32), np.array([[0.9]], np.float32), np.ones((1, 1, 4), np.float32)
    )
    two = SliceRegions(
        np.array([[20, 20, 30, 30], [40, 40, 50, 50]], np.float32),
        np.array([[0.1, 0.2], [0.3, 0.4]], np.float32),
        np.full((2, 2, 4), 2, np.float32),
    )
    pooled = pool_networks([VolumeRegions((one,), (64, 64), 5.0), VolumeRegions((two,), (64, 64), 7.0)])
    (found,) = pooled.slices
    np.testing.assert_allclose(found.scores, [[0.9, 0, 0], [0, 0.1, 0.2], [0, 0.3, 0.4]])
    np.testing.assert_array_equal(found.offsets[:, :, 0], [[1, 0, 0], [0, 2, 2], [0, 2, 2]])
    np.testing.assert_array_equal(found.rois[:, 0], [0, 20, 40])
    assert pooled.milliseconds_per_slice == 12.0


def test_air_without_boxes() -> None:
    """A volume in which no region scores enough leaves no box, with a column for each expert."""
    regions = VolumeRegions(
        (SliceRegions(*(np.zeros(s, np.float32) for s in ((0, 4), (0, 2), (0, 2, 4)))),) * 3, (16, 16), 1.0
    )
    found = select_slices(regions, [0, 1], SETTINGS)
    assert found.expert_scores.shape == (0, 2)
