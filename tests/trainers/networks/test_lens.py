"""The LENS network: sizes, costs, reuse of image features, RoIAlign and box offsets."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import densenet121

from lnsdk.bundle import read_bundle
from lnsdk.pipelines.proposals import apply_deltas
from lnsdk.trainers.networks.boxes import DELTA_WEIGHTS, box_offsets
from lnsdk.trainers.networks.densenet import load_imagenet
from lnsdk.trainers.networks.lens import EDGE, PAPER, ImageFeatures, Lens, roi_align

MULTIPLY_ADDS = 1.2e9
"""Most that a centre slice of 368 x 368 may cost with the edge sizes."""

EXPORTED_BYTES = 8e6
"""Most that the graphs of the edge sizes may take in either format."""


@pytest.fixture(scope="module")
def edge() -> Lens:
    torch.manual_seed(0)
    network = Lens(4, EDGE)
    for module in network.modules():  # running statistics of a trained network, not of a fresh one
        if isinstance(module, torch.nn.BatchNorm2d):
            module.load_state_dict(
                {
                    "running_mean": torch.rand(module.num_features) - 0.5,
                    "running_var": 0.5 + torch.rand(module.num_features),
                },
                strict=False,
            )
    return network.eval()


def test_paper_sizes() -> None:
    network = Lens(4, PAPER)
    assert network.backbone.transition2.outputs == 256
    assert network.backbone.denseblock3.outputs == 1024
    assert network.merge.out_channels == 512
    assert network.head is not None
    assert [layer.out_features for layer in network.head.shared if isinstance(layer, torch.nn.Linear)] == [2048, 2048]


def test_reuse_gives_what_recomputing_gives(edge: Lens) -> None:
    """Features of an image serve three centres: the same as running each group of nine slices by itself."""
    slices = 255 * torch.rand(15, 64, 80)
    with torch.no_grad():
        images = torch.stack([slices[i - 1 : i + 2] for i in range(1, 14)])
        features = edge.image_features(images)
        rows = [ImageFeatures(*(part[i : i + 7] for part in features)) for i in (0, 3, 6)]
        reused = edge.fuse(*rows)
        groups = torch.stack([slices[i - 4 : i + 5] for i in range(4, 11)])
        recomputed = edge.forward_training(groups)
    torch.testing.assert_close(reused, recomputed, rtol=1e-4, atol=1e-4)
    assert reused.std() > 0.01


def test_edge_costs(edge: Lens) -> None:
    image = torch.rand(1, 3, 368, 368)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        features = edge.image_features(image)
        fused = edge.fuse(features, features, features)
        edge.propose(fused)
        assert edge.head is not None
        edge.head(fused, torch.tensor([[0.0, 0.0, 40.0, 40.0]]).expand(1, 100, 4))
    assert counter.get_total_flops() / 2 <= MULTIPLY_ADDS
    files = read_bundle().path / "models"
    for suffix in ("onnx", "ts"):
        assert 0 < sum(file.stat().st_size for file in files.glob(f"*.{suffix}")) < EXPORTED_BYTES


def test_only_the_batch_s_expert_learns(edge: Lens) -> None:
    features = torch.rand(1, EDGE.pyramid, 8, 8)
    logits, distances = edge.proposals[1](features)
    (logits.sum() + distances.sum()).backward()
    touched = [any(p.grad is not None for p in network.parameters()) for network in edge.proposals]
    edge.zero_grad()
    assert touched == [False, True, False, False]


def test_roi_align_averages_the_samples_of_each_bin() -> None:
    """Against the definition, looped: bins of 2 x 2 bilinear samples, feature pixel i at grid pixel 4 i."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2, 3, 9, 11)).astype(np.float32)
    rois = np.array([[[3.0, 5.0, 25.0, 21.0]], [[-0.5, -0.5, 43.5, 35.5]]], np.float32)
    found = roi_align(torch.from_numpy(features), torch.from_numpy(rois)).numpy()
    expected = np.zeros((2, 1, 3, 7, 7))
    for n in range(2):
        x1, y1, x2, y2 = rois[n, 0] / 4
        for row in range(14):
            for column in range(14):
                y = y1 + (y2 - y1) * (row + 0.5) / 14
                x = x1 + (x2 - x1) * (column + 0.5) / 14
                expected[n, 0, :, row // 2, column // 2] += _bilinear(features[n], y, x) / 4
    np.testing.assert_allclose(found, expected, atol=1e-5)


def _bilinear(maps: np.ndarray, y: float, x: float) -> np.ndarray:
    total = np.zeros(len(maps))
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < maps.shape[1] and 0 <= column < maps.shape[2]:
                total += maps[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def test_offsets_invert() -> None:
    rois = torch.tensor([[0.0, 0.0, 10.0, 20.0], [5.0, 5.0, 9.0, 9.0]])
    targets = torch.tensor([[1.0, -3.0, 14.0, 30.0], [4.0, 6.0, 8.0, 12.0]])
    moved = apply_deltas(rois.numpy(), box_offsets(rois, targets)[:, None].numpy(), DELTA_WEIGHTS)
    np.testing.assert_allclose(moved[:, 0], targets, rtol=1e-6)


def test_imagenet_weights_are_taken_by_name(tmp_path: Path) -> None:
    densenet = densenet121(weights=None)
    path = tmp_path / "densenet121.pth"
    torch.save(densenet.state_dict(), path)
    backbone = Lens(1, PAPER).backbone
    load_imagenet(backbone, path)
    assert torch.equal(backbone.conv0.weight, densenet.features.conv0.weight)
    ours, theirs = backbone.state_dict(), densenet.state_dict()
    assert torch.equal(
        ours["denseblock3.layers.23.conv2.weight"], theirs["features.denseblock3.denselayer24.conv2.weight"]
    )
    torch.save({"features.conv0.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"features\.conv0\.weight"):
        load_imagenet(backbone, path)
