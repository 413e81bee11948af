"""RPN: the region proposal network of Faster R-CNN, the baseline of Table II and a row of Table III.

Source: Ren et al., "Faster R-CNN" (reference [28] of the LENS paper), section 3.1, with the anchors and the samples of
the public configuration of LENS's reference [25].
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

from lnsdk import ops
from lnsdk.trainers.lens.proposals.base import Candidates, Outputs, ProposalNetwork
from lnsdk.trainers.networks.boxes import STRIDE, move_boxes, pixel_centers, plain_offsets

SIZES = (16.0, 24.0, 32.0, 48.0, 96.0)
"""Square roots of the anchors' areas, in grid pixels (reference [25])."""

RATIOS = (0.5, 1.0, 2.0)
"""Heights of the anchors over their widths (Faster R-CNN 3.1.1)."""

SAMPLES = 32
"""Anchors of a slice that the losses see (reference [25])."""

POSITIVE_SHARE = 0.5
"""Largest share of positive anchors among them (Faster R-CNN 3.1.3)."""

POSITIVE_IOU = 0.7
"""An anchor that overlaps a lesion at least this much is positive (Faster R-CNN 3.1.2)."""

NEGATIVE_IOU = 0.3
"""An anchor that overlaps every lesion less is negative (Faster R-CNN 3.1.2), unless something uncertain is there."""

UNCERTAIN_IOU = 0.3
"""From this overlap with an uncertain box on, an anchor is no negative (theta_FP, LENS VI-B)."""

IGNORED_OVERLAP = 0.3
"""With this share of its own area in an ignored place an anchor is no negative, as for the detection head."""

SMOOTH_L1_BETA = 1 / 9
"""Where the box loss turns from quadratic to linear (maskrcnn-benchmark, reference [56])."""


class AnchorLabels(NamedTuple):
    """What the anchors of a slice should be.

    Attributes
    ----------
    labels : ndarray of int64, (P,)
        1 lesion, 0 background, -1 neither.
    matched : ndarray of int64, (P,)
        Index of the lesion that each overlaps most.
    """

    labels: NDArray[np.int64]
    matched: NDArray[np.int64]


class RegionProposals(ProposalNetwork):
    """A 3x3 convolution with ReLU, then 1x1 convolutions to the objectness and the offsets of every anchor.

    Its outputs are logits (N, A, h, w) and plain Faster R-CNN offsets (N, 4 A, h, w) of the A = 15 anchors of a pixel.
    """

    BOX_WEIGHT = 1.0
    """maskrcnn-benchmark: both losses are divided by the number of samples. It equals lambda = 10 of Faster R-CNN
    (eq. 1), which divides the box loss by the number of pixels instead."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden)
        count = len(SIZES) * len(RATIOS)
        self.shared = nn.Sequential(nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(inplace=True))
        self.objectness = nn.Conv2d(hidden, count, 1)
        self.offsets = nn.Conv2d(hidden, 4 * count, 1)

    def forward(self, features: Tensor) -> Outputs:
        """Return objectness logits and offsets."""
        x = self.shared(features)
        return self.objectness(x), self.offsets(x)

    def loss(
        self,
        outputs: Outputs,
        boxes: Sequence[Tensor],
        uncertain: Sequence[Tensor],
        ignored: Sequence[Tensor],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and smooth L1 loss of sampled anchors, both over the number of samples of the batch."""
        logits, offsets = _by_anchor(outputs)
        every = anchors(*outputs[0].shape[-2:])
        classification, box, count = logits.sum() * 0.0, offsets.sum() * 0.0, 0
        for i, of_slice in enumerate(zip(boxes, uncertain, ignored, strict=True)):
            labels, matched = label_anchors(every, *of_slice)
            lesions, others = sample_anchors(labels, rng)
            chosen = np.concatenate((lesions, others))
            targets = logits.new_zeros(len(chosen))
            targets[: len(lesions)] = 1.0
            own = logits[i, torch.from_numpy(chosen).to(logits.device)]
            classification = classification + binary_cross_entropy_with_logits(own, targets, reduction="sum")
            moves = plain_offsets(every[lesions], of_slice[0][matched[lesions]]).to(offsets)
            own = offsets[i, torch.from_numpy(lesions).to(offsets.device)]
            box = box + smooth_l1_loss(own, moves, beta=SMOOTH_L1_BETA, reduction="sum")
            count += len(chosen)
        return classification / max(count, 1), box / max(count, 1)

    def decode(self, outputs: Outputs) -> Candidates:
        """Every anchor moved by its offsets, scored by its objectness."""
        logits, offsets = _by_anchor(outputs)
        every = anchors(*outputs[0].shape[-2:]).to(offsets)
        return Candidates(logits.sigmoid(), move_boxes(every, offsets))


def anchors(height: int, width: int) -> Tensor:
    """Anchors (A * h * w, 4) in grid pixels: for every size and ratio, one around every pixel's centre.

    Anchors that reach beyond the slice are kept: in crops, half of the large ones do.
    """
    sides = torch.tensor([(size / ratio**0.5, size * ratio**0.5) for size, ratio in product(SIZES, RATIOS)])
    y, x = torch.broadcast_tensors(*pixel_centers(height, width, sides))
    centers = torch.stack((x, y), dim=2).view(1, -1, 2) * STRIDE
    half = sides.view(-1, 1, 2) / 2
    return torch.cat((centers - half, centers + half), dim=2).flatten(0, 1)


def label_anchors(every: Tensor, boxes: Tensor, uncertain: Tensor, ignored: Tensor) -> AnchorLabels:
    """Say which anchors are lesions and which are background (Faster R-CNN 3.1.2).

    Parameters
    ----------
    every : Tensor, (P, 4)
        Anchors of a slice, in grid pixels.
    boxes, uncertain, ignored : Tensor, (K, 4), (U, 4), (J, 4)
        As for `ProposalNetwork.loss`, of one slice.

    Returns
    -------
    AnchorLabels
        Positive: an overlap of `POSITIVE_IOU`, or the largest of all with some lesion. Background: less than
        `NEGATIVE_IOU` with all lesions, and neither on something uncertain nor in an ignored place.
    """
    labels = np.zeros(len(every), np.int64)
    matched = np.zeros(len(every), np.int64)
    if len(uncertain):
        labels[ops.iou(every.numpy(), uncertain.numpy()).max(axis=1) >= UNCERTAIN_IOU] = -1
    if len(ignored):
        labels[ops.iobb(every.numpy(), ignored.numpy()).max(axis=1) >= IGNORED_OVERLAP] = -1
    if len(boxes):
        overlaps = ops.iou(every.numpy(), boxes.numpy())
        best = overlaps.max(axis=1)
        matched = overlaps.argmax(axis=1)
        labels[best >= NEGATIVE_IOU] = -1
        labels[(best >= POSITIVE_IOU) | ((overlaps == overlaps.max(axis=0)) & (overlaps > 0)).any(axis=1)] = 1
    return AnchorLabels(labels, matched)


def sample_anchors(labels: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw `SAMPLES` anchors of a slice at most: indices of positive and of negative ones."""
    lesions, others = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    lesions = rng.choice(lesions, min(len(lesions), round(SAMPLES * POSITIVE_SHARE)), replace=False)
    others = rng.choice(others, min(len(others), SAMPLES - len(lesions)), replace=False)
    return lesions, others


def _by_anchor(outputs: Outputs) -> tuple[Tensor, Tensor]:
    """Logits (N, P) and offsets (N, P, 4) in the order of `anchors`."""
    logits, offsets = outputs
    return logits.flatten(1), offsets.unflatten(1, (-1, 4)).permute(0, 1, 3, 4, 2).flatten(1, 3)
