"""LENS: 2.5D two-stage lesion detector with one proposal network and one output layer per dataset.

Source: Yan et al., "Learning from Multiple Datasets with Heterogeneous and Partial Labels for Universal Lesion
Detection in CT", sections IV-A to IV-C; what it leaves to its reference [25] (fusion after transition 2, lateral
connections, RoI sizes) follows the public configuration of that network.

The network is written as the three graphs that are exported (`image`, `fuse`, `head`), so that whatever belongs to
one image is computed once and reused by the three centre slices that need it. `Lens.forward_training` runs the same
modules on whole groups of nine slices.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, grid_sample, interpolate

from lnsdk.trainers.lens.proposals.afp import AnchorFreeProposals
from lnsdk.trainers.lens.proposals.base import Candidates, Method, Outputs, ProposalNetwork
from lnsdk.trainers.lens.proposals.centernet import CenterPoints
from lnsdk.trainers.lens.proposals.fcos import FullyConvolutional
from lnsdk.trainers.lens.proposals.rpn import RegionProposals
from lnsdk.trainers.networks.adaptation import DomainAttention
from lnsdk.trainers.networks.boxes import STRIDE
from lnsdk.trainers.networks.densenet import TruncatedDenseNet

FULL_WINDOW = (-1024.0, 3071.0)
"""HU range that the grid maps to 0..255 (LENS VI-A)."""

ROI_SIZE = 7
"""Bins of RoIAlign along each side (reference [25] of the paper)."""

ROI_SAMPLES = 2
"""Sampling points per bin along each side (reference [25] of the paper)."""

PROPOSAL_NETWORKS: dict[Method, type[ProposalNetwork]] = {
    "afp": AnchorFreeProposals,
    "rpn": RegionProposals,
    "centernet": CenterPoints,
    "fcos": FullyConvolutional,
}
"""Proposal network by name (Tables II and III); the paper's own is the first."""


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
    stem=32,
    stem_kernel=3,
    blocks=(4, 7, 10),
    growth=16,
    bottleneck=2,
    pyramid=32,
    proposal=16,
    roi_hidden=128,
    windows=(FULL_WINDOW, (-1000.0, 200.0), (-160.0, 240.0)),
)
"""The same structure, thin enough for two CPU cores; the lung and soft-tissue windows stand in for what ImageNet
weights would bring to the first layers of a network that is trained from scratch on few volumes. Every map has a
multiple of 16 channels, which is what engines keep in one AVX-512 register: others are padded and reordered."""


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
    sampled = grid_sample(features, grid.flatten(1, 2), align_corners=False)
    bins = avg_pool2d(sampled, ROI_SAMPLES)
    return bins.reshape(n, channels, count, ROI_SIZE, ROI_SIZE).permute(0, 2, 1, 3, 4)


class Lens(nn.Module):
    """The whole detector.

    Parameters
    ----------
    experts : int
        Number of datasets, each with its own proposal network, classification and box layer.
    shape : LensShape
        Sizes.
    proposal : str
        Proposal network, one of `PROPOSAL_NETWORKS`.
    one_stage : bool
        Without a detection head: the proposals are the detections (FCOS alone, Table III). `head` is then None.
    domain_attention : bool
        Adapt the features to the data set that an image seems to come from (Table V).

    Raises
    ------
    ValueError
        See `check_design`.

    Notes
    -----
    The domain attention follows every dense block, where reference [23] rescales the output of every residual block;
    a truncated DenseNet has these three. The features behind it go both to the lateral connection and to the next
    transition. It belongs to the network and not to the backbone, which keeps the keys of the ImageNet weights.
    """

    head: RoiHead | None

    def __init__(
        self,
        experts: int,
        shape: LensShape = PAPER,
        proposal: Method = "afp",
        one_stage: bool = False,
        domain_attention: bool = False,
    ) -> None:
        super().__init__()
        check_design(proposal, one_stage)
        self.experts = experts
        self.proposal = proposal
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
        method = PROPOSAL_NETWORKS[proposal]
        self.proposals = nn.ModuleList(method(shape.pyramid, shape.proposal) for _ in range(experts))
        self.head = None if one_stage else RoiHead(shape.pyramid, shape.roi_hidden, experts)
        blocks = (self.backbone.denseblock1, self.backbone.denseblock2, self.backbone.denseblock3)
        self.adaptation = nn.ModuleList(
            DomainAttention(block.outputs, experts) if domain_attention else nn.Identity() for block in blocks
        )

    @property
    def design(self) -> dict[str, object]:
        """Arguments besides `experts` and `shape` that make this network again."""
        return {
            "proposal": self.proposal,
            "one_stage": self.head is None,
            "domain_attention": isinstance(self.adaptation[0], DomainAttention),
        }

    @property
    def proposal_networks(self) -> list[ProposalNetwork]:
        """The proposal network of every expert."""
        return cast(list[ProposalNetwork], list(self.proposals))

    def image_features(self, image: Tensor) -> ImageFeatures:
        """Features of images (N, 3, H, W) in 0..255 that do not depend on their neighbours."""
        block1, block2, mid = self.until_fusion(image)
        shallow = self.lateral1(block1) + upsample(self.lateral2(block2), 2)
        return ImageFeatures(mid, shallow, self.deep(mid))

    def until_fusion(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Block 1 (stride 4), block 2 (stride 8) and transition 2 (stride 16) of images (N, 3, H, W) in 0..255."""
        return self.backbone.until_fusion(self.windows(image), self.adaptation[0], self.adaptation[1])

    def deep(self, mid: Tensor) -> Tensor:
        """Coarsest pyramid level of a transition-2 map: block 3 and its lateral connection."""
        level: Tensor = self.lateral3(self.adaptation[2](self.backbone.denseblock3(mid)))
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
        shallow, deep = (
            torch.cat([getattr(image, name) for image in (before, center, after)], dim=1)
            for name in ("shallow", "deep")
        )
        coarse = upsample(conv2d(deep, self.merge.weight), 4)  # mixed before it is enlarged: the same, 16 times cheaper
        merged: Tensor = self.merge(shallow) + coarse
        return merged

    def decode(self, outputs: Iterable[Outputs]) -> list[Candidates]:
        """Every box of every expert, from the outputs of all proposal networks."""
        return [network.decode(maps) for network, maps in zip(self.proposal_networks, outputs, strict=True)]

    def propose(self, features: Tensor) -> Proposals:
        """Run every expert's anchor-free proposal network on features (N, C, h, w), for the exported graphs.

        Raises
        ------
        ValueError
            When the network proposes by another method.
        """
        if self.proposal != "afp":
            raise ValueError(f"propose needs a network with proposal='afp', got {self.proposal!r}; use decode instead")
        outputs = [network(features) for network in self.proposals]
        return Proposals(torch.cat([c for c, _ in outputs], dim=1), torch.stack([d for _, d in outputs], dim=1))

    def forward_training(self, slices: Tensor) -> Tensor:
        """Features (N, C, H / 4, W / 4) of groups of nine slices (N, 9, H, W) in 0..255.

        Block 3 runs once on all three images with the centre's map replaced by the fused one, which is what the
        exported graphs give with reuse.
        """
        n = len(slices)
        block1, block2, mid = self.until_fusion(slices.unflatten(1, (3, 3)).flatten(0, 1))
        shallow = self.lateral1(block1) + upsample(self.lateral2(block2), 2)
        mids = mid.unflatten(0, (n, 3))
        fused = self.fusion(mids.flatten(1, 2))
        deep = self.deep(torch.stack((mids[:, 0], fused, mids[:, 2]), dim=1).flatten(0, 1)).unflatten(0, (n, 3))
        shallow = shallow.unflatten(0, (n, 3))
        before, center, after = (ImageFeatures(mids[:, i], shallow[:, i], deep[:, i]) for i in range(3))
        return self.merge_pyramids(before, center, after)


def check_design(proposal: str, one_stage: bool) -> None:
    """Refuse what cannot be built.

    Raises
    ------
    ValueError
        When there is no such proposal network, or it cannot do without a detection head.
    """
    if proposal not in PROPOSAL_NETWORKS:
        raise ValueError(f"proposal must be one of {', '.join(PROPOSAL_NETWORKS)}, got {proposal!r}")
    if one_stage and proposal != "fcos":
        raise ValueError(
            f"one_stage needs proposal='fcos', got {proposal!r}: the scores of the others are made for a second stage"
        )


def upsample(x: Tensor, factor: int) -> Tensor:
    """Nearest-neighbour enlargement by a whole factor."""
    return interpolate(x, scale_factor=float(factor), mode="nearest")
