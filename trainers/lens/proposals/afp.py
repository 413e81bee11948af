"""AFP: the anchor-free proposal network of LENS (section IV-B)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lnsdk.trainers.lens.losses import SIZE_WEIGHT, center_loss, size_loss
from lnsdk.trainers.lens.proposals.base import Candidates, Outputs, ProposalNetwork, start_at
from lnsdk.trainers.lens.targets import IGNORE_RATIO, ProposalTargets, proposal_targets
from lnsdk.trainers.networks.boxes import boxes_of_distances, scale_boxes

CENTERNESS_PRIOR = 0.01
"""Initial centerness everywhere, so that the focal loss starts small (focal loss, reference [52])."""


class AnchorFreeProposals(ProposalNetwork):
    """A centerness and a box branch of two convolutions each (IV-B).

    Its outputs are centerness logits (N, 1, h, w) and non-negative distances (N, 4, h, w) from the pixel's centre to
    the left, top, right and bottom border, in feature pixels.
    """

    BOX_WEIGHT = SIZE_WEIGHT

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden)
        hidden_layer, logits = nn.Conv2d(channels, hidden, 3, padding=1), nn.Conv2d(hidden, 1, 3, padding=1)
        start_at(logits, CENTERNESS_PRIOR)
        self.centerness = nn.Sequential(hidden_layer, nn.ReLU(inplace=True), logits)
        self.distances = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(hidden, 4, 3, padding=1)
        )

    def forward(self, features: Tensor) -> Outputs:
        """Return centerness logits and distances."""
        return self.centerness(features), softplus(self.distances(features))

    def loss(
        self,
        outputs: Outputs,
        boxes: Sequence[Tensor],
        uncertain: Sequence[Tensor],
        ignored: Sequence[Tensor],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Focal loss of the centerness (eq. 1) and L1 loss of the distances (eq. 2); nothing is sampled."""
        logits, distances = outputs
        targets = batch_targets(boxes, uncertain, ignored, *logits.shape[-2:])
        centerness = targets.centerness.to(logits.device)
        return (
            center_loss(logits[:, 0], centerness),
            size_loss(distances, targets.distances.to(logits.device), centerness),
        )

    def decode(self, outputs: Outputs) -> Candidates:
        """One box per pixel, scored by its centerness."""
        logits, distances = outputs
        return Candidates(logits.sigmoid().flatten(1), boxes_of_distances(distances))


def batch_targets(
    boxes: Sequence[Tensor], uncertain: Sequence[Tensor], ignored: Sequence[Tensor], height: int, width: int
) -> ProposalTargets:
    """Targets of every slice, stacked; uncertain boxes ignore their middle, ignored ones all of themselves."""
    targets = []
    for certain, unsure, unknown in zip(boxes, uncertain, ignored, strict=True):
        pooled = torch.cat((certain, unsure, enlarge(unknown)))
        targets.append(proposal_targets(pooled, torch.arange(len(pooled)) >= len(certain), height, width))
    return ProposalTargets(*(torch.stack(maps) for maps in zip(*targets, strict=True)))


def enlarge(boxes: Tensor) -> Tensor:
    """Boxes whose ignored region (IV-B) is the given box: a place without labels is ignored up to its border."""
    return scale_boxes(boxes, 1 / IGNORE_RATIO)
