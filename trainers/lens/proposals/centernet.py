"""CenterNet: objects as the peaks of a heat map, a row of Table III.

Source: Zhou et al., "Objects as Points" (reference [50] of the LENS paper), section 3; the radius of a peak follows
Law and Deng, "CornerNet" (section 3.2), to which it refers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from lnsdk.trainers.lens.proposals.base import Candidates, Outputs, ProposalNetwork, start_at
from lnsdk.trainers.lens.targets import IGNORE_RATIO, IGNORED, center_pixels, pixels_inside
from lnsdk.trainers.networks.boxes import STRIDE, pixel_centers, scale_boxes

HEAT_PRIOR = 0.1
"""Initial heat everywhere (the public code of reference [50])."""

MIN_OVERLAP = 0.7
"""Overlap that a box keeps when its corners move by the radius of its peak (the public code of reference [50])."""

ALPHA, BETA = 2, 4
"""Exponents of the penalty-reduced focal loss (reference [50], eq. 1)."""

SIZE_FACTOR = 0.1
"""lambda_size of reference [50], eq. 4; the offset's is 1."""


class CenterTargets(NamedTuple):
    """What the lesions of a batch ask for.

    Attributes
    ----------
    heat : Tensor, (N, h, w)
        1 at the pixel nearest to a lesion's centre, falling off around it, `IGNORED` where nothing is asked.
    places : Tensor of int64, (K, 3)
        Slice, row and column of that pixel for each of the K lesions of the batch.
    offsets : Tensor, (K, 2)
        From there to the lesion's centre (x, y), in feature pixels.
    sizes : Tensor, (K, 2)
        Widths and heights, in feature pixels.
    """

    heat: Tensor
    places: Tensor
    offsets: Tensor
    sizes: Tensor


class CenterPoints(ProposalNetwork):
    """A heat map, the offset of the centre from its pixel, and the size: a 3x3 and a 1x1 convolution each.

    Its outputs are heat logits (N, 1, h, w), offsets x, y (N, 2, h, w) and positive widths and heights (N, 2, h, w),
    both in feature pixels.
    """

    BOX_WEIGHT = 1.0
    """The factors of reference [50] (eq. 4) are in the box loss itself."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden)
        self.heat, self.offsets, self.sizes = (
            nn.Sequential(
                nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(hidden, outputs, 1)
            )
            for outputs in (1, 2, 2)
        )
        start_at(self.heat[2], HEAT_PRIOR)

    def forward(self, features: Tensor) -> Outputs:
        """Return heat logits, offsets and sizes."""
        return self.heat(features), self.offsets(features), softplus(self.sizes(features))

    def loss(
        self,
        outputs: Outputs,
        boxes: Sequence[Tensor],
        uncertain: Sequence[Tensor],
        ignored: Sequence[Tensor],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Focal loss of the heat map, and L1 loss of offset and size at the centre pixels (eqs. 1 to 4 of [50])."""
        heat, offsets, sizes = outputs
        targets = center_targets(boxes, uncertain, ignored, *heat.shape[-2:])
        slices, rows, columns = targets.places.to(heat.device).unbind(1)
        offset = (offsets[slices, :, rows, columns] - targets.offsets.to(offsets)).abs().sum()
        size = (sizes[slices, :, rows, columns] - targets.sizes.to(sizes)).abs().sum()
        objects = max(len(slices), 1)
        return heat_loss(heat[:, 0], targets.heat.to(heat)), (offset + SIZE_FACTOR * size) / objects

    def decode(self, outputs: Outputs) -> Candidates:
        """One box per pixel, scored by its heat; suppression takes the place of the search for peaks."""
        heat, offsets, sizes = outputs
        height, width = heat.shape[-2:]
        y, x = pixel_centers(height, width, offsets)
        center = torch.stack((x + offsets[:, 0], y + offsets[:, 1]), dim=3)
        half = sizes.permute(0, 2, 3, 1) / 2
        boxes = torch.cat((center - half, center + half), dim=3).flatten(1, 2) * STRIDE
        return Candidates(heat.sigmoid().flatten(1), boxes)


def center_targets(
    boxes: Sequence[Tensor], uncertain: Sequence[Tensor], ignored: Sequence[Tensor], height: int, width: int
) -> CenterTargets:
    """Targets of a batch.

    Parameters
    ----------
    boxes, uncertain, ignored : sequence of N Tensor, (K_i, 4), (U_i, 4), (J_i, 4)
        As for `ProposalNetwork.loss`.
    height, width : int
        Size of the feature map.

    Returns
    -------
    CenterTargets
        The middle of an uncertain box (B_ign of LENS IV-B) and all of an ignored one ask for nothing, but for the
        centre pixels of lesions.
    """
    heat, places = [], []
    for i, (certain, unsure, unknown) in enumerate(zip(boxes, uncertain, ignored, strict=True)):
        pixels = center_pixels(certain, height, width)
        peaks = _peaks(certain, pixels, height, width)
        unasked = torch.cat((scale_boxes(unsure, IGNORE_RATIO), unknown))
        peaks[pixels_inside(unasked, height, width).any(dim=0) & (peaks < 1)] = IGNORED
        heat.append(peaks)
        places.append(torch.stack((torch.full_like(pixels[:, 0], i), pixels[:, 1], pixels[:, 0]), dim=1))
    every, at = torch.cat(list(boxes)) / STRIDE, torch.cat(places)
    centers = (every[:, :2] + every[:, 2:]) / 2
    return CenterTargets(torch.stack(heat), at, centers - at[:, [2, 1]], every[:, 2:] - every[:, :2])


def heat_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Penalty-reduced focal loss of reference [50], eq. 1, over the number of objects.

    Parameters
    ----------
    logits, heat : Tensor, (N, h, w)
        The heat is 1 at the objects' centres, `IGNORED` where nothing is asked, below 1 elsewhere.

    Returns
    -------
    Tensor
        Scalar. The sum is divided by at least the number of slices, for the reason given for `center_loss`.
    """
    positive = heat == 1
    negative = (heat < 1) & (heat != IGNORED)
    p = logits.sigmoid()
    hit = ((1 - p) ** ALPHA * logsigmoid(logits))[positive].sum()
    rejected = ((1 - heat) ** BETA * p**ALPHA * logsigmoid(-logits))[negative].sum()
    return -(hit + rejected) / positive.sum().clamp(min=len(heat))


def peak_radius(sizes: Tensor) -> Tensor:
    """How far a box's corners may move while it keeps an IoU of `MIN_OVERLAP` with itself (CornerNet, section 3.2).

    Parameters
    ----------
    sizes : Tensor, (K, 2)
        Widths and heights.

    Returns
    -------
    Tensor, (K,)
        The smallest of three cases, in the unit of the sizes: both corners move the same way, both inwards, both
        outwards. The public code of reference [50] solves the three equations without dividing by their leading
        coefficient and gets other radii; these are what the text says.
    """
    total, area, keep = sizes.sum(dim=1), sizes.prod(dim=1), MIN_OVERLAP
    along = (total - (total**2 - 4 * area * (1 - keep) / (1 + keep)).sqrt()) / 2
    inwards = (total - (total**2 - 4 * area * (1 - keep)).sqrt()) / 4
    outwards = ((total**2 + 4 * area * (1 - keep) / keep).sqrt() - total) / 4
    return torch.stack((along, inwards, outwards)).amin(dim=0)


def _peaks(boxes: Tensor, pixels: Tensor, height: int, width: int) -> Tensor:
    """Highest of the boxes' Gaussians at every pixel (h, w); a peak's radius is three standard deviations."""
    if len(boxes) == 0:
        return torch.zeros(height, width)
    radius = peak_radius((boxes[:, 2:] - boxes[:, :2]) / STRIDE).floor()
    sigma = ((2 * radius + 1) / 6).view(-1, 1, 1)
    y, x = pixel_centers(height, width, boxes)
    at_x, at_y = pixels.view(-1, 2, 1, 1).unbind(1)
    return torch.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * sigma**2)).amax(dim=0)
