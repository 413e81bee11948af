"""Losses of LENS: centerness and distances of the proposals, class and box of the detection head (eqs. 1 to 3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, smooth_l1_loss

from lnsdk.trainers.lens.targets import IGNORED
from lnsdk.trainers.networks.boxes import DELTA_WEIGHTS

SIZE_WEIGHT = 0.1
"""lambda_1 of eq. 3."""

BOX_WEIGHT = 10.0
"""lambda_2 of eq. 3."""

SMOOTH_L1_BETA = 1.0
"""Where the box loss turns from quadratic to linear, in offsets without `DELTA_WEIGHTS`. lambda_2 = 10 comes with this
value and plain offsets from the configuration of reference [25]: the network's outputs are divided by their weights
before they are compared, or 10 would count tenfold again."""


def center_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal loss of the centerness branch (eq. 1), over the number of centre pixels.

    Parameters
    ----------
    logits, targets : Tensor, (N, h, w)
        Targets are 1 in the centre regions, -1 where ignored, 0 elsewhere.

    Returns
    -------
    Tensor
        Scalar. Eq. 1 is a sum; it is divided by the number of centre pixels of the batch, as the focal loss (reference
        [52]) and CenterNet (reference [50]) do, so that its size does not depend on the image's. It is divided by at
        least the number of slices N: a batch without any lesion would else weigh as much as one with a single centre
        pixel, many times more than the others.
    """
    positive = targets == 1
    negative = (targets != 1) & (targets != IGNORED)
    p = logits.sigmoid()
    hit = ((1 - p) ** 2 * logsigmoid(logits))[positive].sum()
    rejected = (p**2 * logsigmoid(-logits))[negative].sum()
    return -0.5 * (hit + rejected) / positive.sum().clamp(min=len(targets))


def size_loss(distances: Tensor, targets: Tensor, centerness: Tensor) -> Tensor:
    """L1 loss of the four border distances inside the centre regions (eq. 2).

    Parameters
    ----------
    distances, targets : Tensor, (N, 4, h, w)
        Left, top, right and bottom, in feature pixels (4 grid pixels, 3.2 mm): in this unit lambda_1 = 0.1 leaves
        the term of a typical error (one feature pixel per border) at the size of the other terms.
    centerness : Tensor, (N, h, w)
        Targets of `center_loss`; only pixels that are 1 count.

    Returns
    -------
    Tensor
        Scalar: sum over the four borders, mean over the centre pixels, 0 without any.
    """
    positive = (centerness == 1).unsqueeze(1)
    error = ((distances - targets).abs() * positive).sum()
    return error / positive.sum().clamp(min=1)


def head_loss(logits: Tensor, offsets: Tensor, labels: Tensor, target_offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Class and box loss of the detection head for the dataset that the samples come from (eq. 3).

    Parameters
    ----------
    logits : Tensor, (S,)
        Lesion against non-lesion.
    offsets, target_offsets : Tensor, (S, 4)
        Faster R-CNN offsets in units of `DELTA_WEIGHTS`, as the network gives them; only lesions count.
    labels : Tensor, (S,)
        1 lesion, 0 none.

    Returns
    -------
    class_loss, box_loss : Tensor
        Cross-entropy (mean) and smooth L1 of the plain offsets (sum over positives and coordinates, over the number of
        samples).
    """
    if len(labels) == 0:
        return logits.sum() * 0.0, offsets.sum() * 0.0
    class_loss = binary_cross_entropy_with_logits(logits, labels)
    positive = labels == 1
    weights = offsets.new_tensor(DELTA_WEIGHTS)
    plain, targets = offsets[positive] / weights, target_offsets[positive] / weights
    box = smooth_l1_loss(plain, targets, beta=SMOOTH_L1_BETA, reduction="sum")
    return class_loss, box / len(labels)


def total_loss(center: Tensor, size: Tensor, label: Tensor, box: Tensor, *, size_weight: float = SIZE_WEIGHT) -> Tensor:
    """Eq. 3 for one batch; `size_weight` is lambda_1, or what another proposal network has in its place."""
    return torch.stack((center, size_weight * size, label, BOX_WEIGHT * box)).sum()
