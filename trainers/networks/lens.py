"""LENS: 2.5D two-stage lesion detector with one proposal network and one output layer per dataset.

Source: Yan et al., "Learning from Multiple Datasets with Heterogeneous and Partial Labels for Universal Lesion
Detection in CT", sections IV-A to IV-C; what it leaves to its reference [25] (fusion after transition 2, lateral
connections, RoI sizes) follows the public configuration of that network.

The network is written as the three graphs that are exported (`image`, `fuse`, `head`), so that whatever belongs to
one image is computed once and reused by the three centre slices that need it. `Lens.forward_training` runs the same
modules on whole groups of nine slices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, grid_sample, interpolate, softplus

from lnsdk.trainers.networks.densenet import TruncatedDenseNet

FULL_WINDOW = (-1024.0, 3071.0)
"""HU range that the grid maps to 0..255 (LENS VI-A)."""

STRIDE = 4
"""Grid pixels per feature pixel: feature pixel i is centred at grid pixel 4 i."""

ROI_SIZE = 7
"""Bins of RoIAlign along each side (reference [25] of the paper)."""

ROI_SAMPLES = 2
"""Sampling points per bin along each side (reference [25] of the paper)."""

DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Scales of the box offsets dx, dy, dw, dh (Faster R-CNN, reference [28] of the paper)."""

CENTERNESS_PRIOR = 0.01
"""Initial centerness everywhere, so that the focal loss starts small (focal loss, reference [52])."""


@dataclass(frozen=True)
class LensShape:
    """Sizes of the network; the defaults are the paper's.

    Attributes
    ----------
    stem, stem_kernel, blocks, growth, bottleneck
        The truncated DenseNet (DenseNet-121: 64, 7, (6, 12, 24), 32, 4).
    pyramid : int
        Channels of the feature pyramid and of the map that proposals and RoIs read (512).
    proposal : int
        Hidden channels of each proposal branch.
    roi_hidden : int
        Units of the two shared fully connected layers (2048).
    windows : tuple of (float, float)
        HU windows into which every input slice is split, each scaled to -2..2 and clipped. One full window keeps three
        channels, which is what ImageNet weights need.
    """

    stem: int = 64
    stem_kernel: int = 7
    blocks: tuple[int, int, int] = (6, 12, 24)
    growth: int = 32
    bottleneck: int = 4
    pyramid: int = 512
    proposal: int = 512
    roi_hidden: int = 2048
    windows: tuple[tuple[float, float], ...] = (FULL_WINDOW,)


PAPER = LensShape()
"""The sizes of the paper and of its reference [25]."""

EDGE = LensShape(
    stem=24,
    stem_kernel=3,
    blocks=(4, 8, 10),
    growth=16,
    bottleneck=2,
    pyramid=40,
    proposal=16,
    roi_hidden=128,
    windows=(FULL_WINDOW, (-1000.0, 200.0), (-160.0, 240.0)),
)
"""The same structure, thin enough for two CPU cores; the lung and soft-tissue windows stand in for what ImageNet
weights would bring to the first layers of a network that is trained from scratch on few volumes."""


class ImageFeatures(NamedTuple):
    """What one image contributes, whatever its neighbours are.

    Attributes
    ----------
    mid : Tensor, (N, M, H / 16, W / 16)
        Transition 2, the input of the 3D feature fusion.
    shallow : Tensor, (N, C, H / 4, W / 4)
        Pyramid without its coarsest level.
    deep : Tensor, (N, C, H / 16, W / 16)
        Lateral connection of block 3 of the image as a neighbour (not fused).
    """

    mid: Tensor
    shallow: Tensor
    deep: Tensor


class Proposals(NamedTuple):
    """Dense output of all proposal networks.

    Attributes
    ----------
    centerness : Tensor, (N, E, H / 4, W / 4)
        Logits, one map per expert.
    distances : Tensor, (N, E, 4, H / 4, W / 4)
        Distances from the pixel's centre to the left, top, right and bottom border, in feature pixels.
    """

    centerness: Tensor
    distances: Tensor


class Windows(nn.Module):
    """Split grid values 0..255 into HU windows, each clipped and centred around zero."""

    def __init__(self, windows: tuple[tuple[float, float], ...]) -> None:
        super().__init__()
        full = FULL_WINDOW[1] - FULL_WINDOW[0]
        low = [(lo - FULL_WINDOW[0]) * 255.0 / full for lo, _ in windows]
        high = [(hi - FULL_WINDOW[0]) * 255.0 / full for _, hi in windows]
        scale = 4.0 / (torch.tensor(high) - torch.tensor(low))
        self.register_buffer("low", torch.tensor(low).view(-1, 1, 1, 1), persistent=False)
        self.register_buffer("scale", scale.view(-1, 1, 1, 1), persistent=False)
        self.low: Tensor
        self.scale: Tensor
        self.count = len(windows)

    def forward(self, image: Tensor) -> Tensor:
        """Return (N, windows x 3, H, W) in -2..2 for images (N, 3, H, W) in 0..255."""
        split = (image.unsqueeze(1) - self.low) * self.scale - 2.0
        return split.clamp(-2.0, 2.0).flatten(1, 2)


class AnchorFreeProposals(nn.Module):
    """Proposal network of one dataset: a centerness and a box branch of two convolutions each (IV-B)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        hidden_layer, logits = nn.Conv2d(channels, hidden, 3, padding=1), nn.Conv2d(hidden, 1, 3, padding=1)
        nn.init.constant_(cast(Tensor, logits.bias), -math.log((1.0 - CENTERNESS_PRIOR) / CENTERNESS_PRIOR))
        self.centerness = nn.Sequential(hidden_layer, nn.ReLU(inplace=True), logits)
        self.distances = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(hidden, 4, 3, padding=1)
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return centerness logits (N, 1, h, w) and non-negative distances (N, 4, h, w) in feature pixels."""
        return self.centerness(features), softplus(self.distances(features))


class RoiHead(nn.Module):
    """RoIAlign, two shared fully connected layers, and per dataset a classification and a box layer (IV-C)."""

    def __init__(self, channels: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.experts = experts
        self.shared = nn.Sequential(
            nn.Linear(channels * ROI_SIZE**2, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
        )
        self.classify = nn.ModuleList(nn.Linear(hidden, 1) for _ in range(experts))
        self.regress = nn.ModuleList(nn.Linear(hidden, 4) for _ in range(experts))
        for layer in self.regress:
            nn.init.normal_(cast(Tensor, layer.weight), std=0.001)

    def forward(self, features: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, R, E) and offsets (N, R, E, 4) for features (N, C, h, w) and boxes (N, R, 4)."""
        x = self.shared(roi_align(features, rois).flatten(2))
        logits = torch.cat([layer(x) for layer in self.classify], dim=2)
        offsets = torch.stack([layer(x) for layer in self.regress], dim=2)
        return logits, offsets


def roi_align(features: Tensor, rois: Tensor) -> Tensor:
    """Average bilinear samples of `features` in 7 x 7 bins of every box.

    The same numbers for every slice of the batch and no batch index, so that the exported graph needs no operator
    of torchvision, and only a 4-D grid sample.

    Parameters
    ----------
    features : Tensor, (N, C, h, w)
        Stride-4 map; pixel i is centred at grid pixel 4 i.
    rois : Tensor, (N, R, 4)
        x1, y1, x2, y2 in continuous grid pixels (first pixel's centre at 0).

    Returns
    -------
    Tensor, (N, R, C, 7, 7)
        Samples beyond the map blend with zero, within half a pixel of its border too; torchvision's RoIAlign repeats
        the border there.
    """
    n, channels, height, width = features.shape
    points = ROI_SIZE * ROI_SAMPLES
    steps = (torch.arange(points, dtype=features.dtype, device=features.device) + 0.5) / points
    x = (rois[:, :, 0:1] + (rois[:, :, 2:3] - rois[:, :, 0:1]) * steps) / STRIDE
    y = (rois[:, :, 1:2] + (rois[:, :, 3:4] - rois[:, :, 1:2]) * steps) / STRIDE
    # grid_sample without align_corners: -1 and 1 are the outer edges of the first and last pixel
    x = (2.0 * x + 1.0) / width - 1.0
    y = (2.0 * y + 1.0) / height - 1.0
    count = rois.shape[1]
    grid = torch.stack(
        (x.unsqueeze(2).expand(n, count, points, points), y.unsqueeze(3).expand(n, count, points, points)), dim=4
    )
    sampled = grid_sample(features, grid.reshape(n, count * points, points, 2), align_corners=False)
    bins = avg_pool2d(sampled, ROI_SAMPLES)
    return bins.reshape(n, channels, count, ROI_SIZE, ROI_SIZE).permute(0, 2, 1, 3, 4)


def box_offsets(rois: Tensor, targets: Tensor) -> Tensor:
    """Faster R-CNN offsets (..., 4), in units of `DELTA_WEIGHTS`, that move boxes `rois` (..., 4) to `targets`.

    The inverse of `lnsdk.pipelines.proposals.apply_deltas`.
    """
    size = rois[..., 2:] - rois[..., :2]
    center = (rois[..., :2] + rois[..., 2:]) / 2
    target_size = targets[..., 2:] - targets[..., :2]
    target_center = (targets[..., :2] + targets[..., 2:]) / 2
    return torch.cat(
        ((target_center - center) / size * DELTA_WEIGHTS[0], torch.log(target_size / size) * DELTA_WEIGHTS[2]), dim=-1
    )


class Lens(nn.Module):
    """The whole detector.

    Parameters
    ----------
    experts : int
        Number of datasets, each with its own proposal network, classification and box layer.
    shape : LensShape
        Sizes.
    """

    def __init__(self, experts: int, shape: LensShape = PAPER) -> None:
        super().__init__()
        self.shape = shape
        self.windows = Windows(shape.windows)
        self.backbone = TruncatedDenseNet(
            3 * self.windows.count, shape.stem, shape.stem_kernel, shape.blocks, shape.growth, shape.bottleneck
        )
        mid = self.backbone.transition2.outputs
        self.fusion = nn.Conv2d(3 * mid, mid, kernel_size=1)
        self.lateral1 = nn.Conv2d(self.backbone.denseblock1.outputs, shape.pyramid, kernel_size=1)
        self.lateral2 = nn.Conv2d(self.backbone.denseblock2.outputs, shape.pyramid, kernel_size=1)
        self.lateral3 = nn.Conv2d(self.backbone.denseblock3.outputs, shape.pyramid, kernel_size=1)
        self.merge = nn.Conv2d(3 * shape.pyramid, shape.pyramid, kernel_size=1)
        self.proposals = nn.ModuleList(AnchorFreeProposals(shape.pyramid, shape.proposal) for _ in range(experts))
        self.head = RoiHead(shape.pyramid, shape.roi_hidden, experts)

    def image_features(self, image: Tensor) -> ImageFeatures:
        """Features of images (N, 3, H, W) in 0..255 that do not depend on their neighbours."""
        block1, block2, mid = self.backbone.until_fusion(self.windows(image))
        shallow = self.lateral1(block1) + upsample(self.lateral2(block2), 2)
        return ImageFeatures(mid, shallow, self.deep(mid))

    def deep(self, mid: Tensor) -> Tensor:
        """Coarsest pyramid level of a transition-2 map: block 3 and its lateral connection."""
        level: Tensor = self.lateral3(self.backbone.denseblock3(mid))
        return level

    def fuse(self, before: ImageFeatures, center: ImageFeatures, after: ImageFeatures) -> Tensor:
        """3D feature fusion and pyramid of centre slices (IV-A): features (N, C, H / 4, W / 4).

        The three transition-2 maps become the centre's own by a 1x1 convolution; its block 3 runs again on that map,
        while the neighbours keep theirs.
        """
        fused = self.deep(self.fusion(torch.cat((before.mid, center.mid, after.mid), dim=1)))
        return self.merge_pyramids(before, center._replace(deep=fused), after)

    def merge_pyramids(self, before: ImageFeatures, center: ImageFeatures, after: ImageFeatures) -> Tensor:
        """Concatenate the three images' finest pyramid levels and mix them to the final features."""
        levels = [image.shallow + upsample(image.deep, 4) for image in (before, center, after)]
        merged: Tensor = self.merge(torch.cat(levels, dim=1))
        return merged

    def propose(self, features: Tensor) -> Proposals:
        """Run every expert's proposal network on features (N, C, h, w)."""
        outputs = [network(features) for network in self.proposals]
        return Proposals(torch.cat([c for c, _ in outputs], dim=1), torch.stack([d for _, d in outputs], dim=1))

    def forward_training(self, slices: Tensor) -> Tensor:
        """Features (N, C, H / 4, W / 4) of groups of nine slices (N, 9, H, W) in 0..255.

        Block 3 runs once on all three images with the centre's map replaced by the fused one, which is what the
        exported graphs give with reuse.
        """
        n = len(slices)
        block1, block2, mid = self.backbone.until_fusion(self.windows(slices.unflatten(1, (3, 3)).flatten(0, 1)))
        shallow = self.lateral1(block1) + upsample(self.lateral2(block2), 2)
        mids = mid.unflatten(0, (n, 3))
        fused = self.fusion(mids.flatten(1, 2))
        deep = self.deep(torch.stack((mids[:, 0], fused, mids[:, 2]), dim=1).flatten(0, 1)).unflatten(0, (n, 3))
        shallow = shallow.unflatten(0, (n, 3))
        before, center, after = (ImageFeatures(mids[:, i], shallow[:, i], deep[:, i]) for i in range(3))
        return self.merge_pyramids(before, center, after)


def upsample(x: Tensor, factor: int) -> Tensor:
    """Nearest-neighbour enlargement by a whole factor."""
    return interpolate(x, scale_factor=float(factor), mode="nearest")
