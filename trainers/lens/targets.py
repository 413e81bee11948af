"""Target maps of the anchor-free proposal network: centre, ignored and background pixels of a slice (LENS IV-B)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lnsdk.trainers.networks.lens import STRIDE

CENTER_RATIO = 0.2
"""r_c: side of the centre region over the box's side (IV-B)."""

IGNORE_RATIO = 0.5
"""r_i: side of the ignored region over the box's side (IV-B)."""

IGNORED = -1.0
"""Value of pixels that take no part in the centerness loss."""


class ProposalTargets(NamedTuple):
    """What one expert's proposal network should predict on one slice.

    Attributes
    ----------
    centerness : Tensor, (h, w)
        1 in centre regions, `IGNORED` in ignored regions, 0 elsewhere.
    distances : Tensor, (4, h, w)
        Distances to the left, top, right and bottom border in feature pixels; meaningful where centerness is 1.
    """

    centerness: Tensor
    distances: Tensor


def proposal_targets(boxes: Tensor, uncertain: Tensor, height: int, width: int) -> ProposalTargets:
    """Targets of a slice.

    Parameters
    ----------
    boxes : Tensor, (K, 4)
        x1, y1, x2, y2 in continuous grid pixels.
    uncertain : Tensor, (K,), bool
        Boxes that may or may not be lesions: only their ignored region counts (IV-B).
    height, width : int
        Size of the feature map; pixel (j, i) is centred at grid pixel (y = 4 j, x = 4 i).

    Returns
    -------
    ProposalTargets

    Notes
    -----
    The pixel nearest to a box's centre is positive however small the box is: at stride 4 the centre region of a 4 mm
    lesion almost never holds a pixel's centre. A pixel shared by two centre regions belongs to the smaller box. A
    centre pixel of a certain box is never ignored because of another box.
    """
    if len(boxes) == 0:
        return ProposalTargets(torch.zeros(height, width), torch.zeros(4, height, width))
    y = torch.arange(height, dtype=boxes.dtype).view(1, -1, 1)
    x = torch.arange(width, dtype=boxes.dtype).view(1, 1, -1)
    x1, y1, x2, y2 = (boxes / STRIDE).view(-1, 4, 1, 1).unbind(1)
    center_x, center_y = (x1 + x2) / 2, (y1 + y2) / 2
    off_x, off_y = (x - center_x).abs() / (x2 - x1), (y - center_y).abs() / (y2 - y1)
    off = torch.maximum(off_x, off_y)
    own = (x == center_x.round().clamp(0, width - 1)) & (y == center_y.round().clamp(0, height - 1))
    positive = ((off <= CENTER_RATIO / 2) | own) & ~uncertain.view(-1, 1, 1)
    ignored = (off <= IGNORE_RATIO / 2).any(dim=0)

    area = ((x2 - x1) * (y2 - y1)).expand_as(off)
    owner = torch.where(positive, area, torch.inf).argmin(dim=0, keepdim=True)
    borders = torch.stack(torch.broadcast_tensors(x - x1, y - y1, x2 - x, y2 - y), dim=1)
    distances = borders.gather(0, owner.unsqueeze(1).expand(1, 4, height, width))[0].clamp(min=0.0)

    centerness = torch.where(ignored, IGNORED, 0.0)
    centerness[positive.any(dim=0)] = 1.0
    return ProposalTargets(centerness, distances)
