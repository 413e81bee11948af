"""FCOS: every pixel of a lesion predicts its box, a row of Table II and two of Table III.

Source: Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection" (reference [49] of the LENS paper), section
3, on the one pyramid level that LENS has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, softplus

from lnsdk.trainers.lens.proposals.base import Candidates, Outputs, ProposalNetwork, start_at
from lnsdk.trainers.lens.targets import IGNORED, borders_of_smallest, pixels_inside
from lnsdk.trainers.networks.boxes import boxes_of_distances

SCORE_PRIOR = 0.01
"""Initial score everywhere (focal loss, reference [52])."""

ALPHA, GAMMA = 0.25, 2
"""Weight of the positive pixels and exponent of the focal loss (reference [52], which reference [49] follows)."""


class PixelTargets(NamedTuple):
    """What the lesions of a slice ask for.

    Attributes
    ----------
    labels : Tensor, (h, w)
        1 inside lesions, `IGNORED` where nothing is asked, 0 elsewhere.
    distances : Tensor, (4, h, w)
        To the left, top, right and bottom border in feature pixels; meaningful where the label is 1.
    """

    labels: Tensor
    distances: Tensor


class FullyConvolutional(ProposalNetwork):
    """Score and centre-ness on one hidden layer, distances to the borders on another; 3x3 convolutions.

    Its outputs are score logits (N, 1, h, w), centre-ness logits (N, 1, h, w) and distances (N, 4, h, w) from the
    pixel's centre to the left, top, right and bottom border, in feature pixels. The branches are as deep as AFP's
    (reference [49] has four hidden layers) and distances are positive by softplus as there, not by exp: Table III
    exchanges the way of learning with other parts unchanged.
    """

    BOX_WEIGHT = 1.0
    """lambda of reference [49], eq. 2."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden)
        self.scoring, self.boxing = (
            nn.Sequential(nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(inplace=True)) for _ in range(2)
        )
        self.score = nn.Conv2d(hidden, 1, 3, padding=1)
        self.centerness = nn.Conv2d(hidden, 1, 3, padding=1)
        self.distances = nn.Conv2d(hidden, 4, 3, padding=1)
        start_at(self.score, SCORE_PRIOR)

    def forward(self, features: Tensor) -> Outputs:
        """Return score logits, centre-ness logits and distances."""
        scoring = self.scoring(features)
        return self.score(scoring), self.centerness(scoring), softplus(self.distances(self.boxing(features)))

    def loss(
        self,
        outputs: Outputs,
        boxes: Sequence[Tensor],
        uncertain: Sequence[Tensor],
        ignored: Sequence[Tensor],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Focal loss of the scores plus cross-entropy of the centre-ness, and IoU loss of the boxes."""
        logits, centerness, distances = outputs
        slices = zip(boxes, uncertain, ignored, strict=True)
        rows = [pixel_targets(*of_slice, *logits.shape[-2:]) for of_slice in slices]
        labels = torch.stack([row.labels for row in rows]).to(logits)
        inside = labels == 1
        targets = torch.stack([row.distances for row in rows]).to(distances).permute(0, 2, 3, 1)[inside]
        found = distances.permute(0, 2, 3, 1)[inside]
        count = max(len(targets), 1)
        wanted = centerness_of(targets)
        center = binary_cross_entropy_with_logits(centerness[:, 0][inside], wanted, reduction="sum")
        return focal_loss(logits[:, 0], labels) + center / count, iou_loss(found, targets) / count

    def decode(self, outputs: Outputs) -> Candidates:
        """One box per pixel, scored by the product of score and centre-ness (reference [49], section 3.3)."""
        logits, centerness, distances = outputs
        scores = logits.sigmoid() * centerness.sigmoid()
        return Candidates(scores.flatten(1), boxes_of_distances(distances))


def pixel_targets(boxes: Tensor, uncertain: Tensor, ignored: Tensor, height: int, width: int) -> PixelTargets:
    """Targets of a slice.

    Parameters
    ----------
    boxes, uncertain, ignored : Tensor, (K, 4), (U, 4), (J, 4)
        As for `ProposalNetwork.loss`, of one slice.
    height, width : int
        Size of the feature map.

    Returns
    -------
    PixelTargets
        A pixel within several lesions belongs to the smallest. Pixels within uncertain or ignored boxes ask for
        nothing, unless they are within a lesion.

    Notes
    -----
    A lesion narrower than a feature pixel (3.2 mm) may hold no pixel's centre, and is then not learned: a distance
    can't be negative.
    """
    labels = torch.zeros(height, width)
    unasked = pixels_inside(torch.cat((uncertain, ignored)), height, width).any(dim=0)
    labels[unasked] = IGNORED
    if len(boxes) == 0:
        return PixelTargets(labels, torch.zeros(4, height, width))
    inside = pixels_inside(boxes, height, width)
    labels[inside.any(dim=0)] = 1.0
    return PixelTargets(labels, borders_of_smallest(boxes, inside))


def centerness_of(distances: Tensor) -> Tensor:
    """Centre-ness (K,) of pixels with border distances (K, 4): 1 in the middle of the box, 0 at its border (eq. 3)."""
    across, down = distances[:, [0, 2]], distances[:, [1, 3]]
    shares = [pair.amin(dim=1) / pair.amax(dim=1) for pair in (across, down)]
    return (shares[0] * shares[1]).sqrt()


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Focal loss of scores (N, h, w) over the number of positive pixels, at least the number of slices."""
    positive, negative = labels == 1, labels == 0
    p = logits.sigmoid()
    hit = ALPHA * ((1 - p) ** GAMMA * logsigmoid(logits))[positive].sum()
    rejected = (1 - ALPHA) * (p**GAMMA * logsigmoid(-logits))[negative].sum()
    return -(hit + rejected) / positive.sum().clamp(min=len(labels))


def iou_loss(distances: Tensor, targets: Tensor) -> Tensor:
    """Sum of -ln IoU over pixels with predicted and true border distances (K, 4), all positive (UnitBox).

    Both boxes hold their pixel, so that they overlap always.
    """
    area, target_area, shared = (
        (d[:, 0] + d[:, 2]) * (d[:, 1] + d[:, 3]) for d in (distances, targets, torch.minimum(distances, targets))
    )
    return -torch.log(shared / (area + target_area - shared)).sum()
