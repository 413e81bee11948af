"""Target maps of a slice: centre, ignored and background pixels (LENS IV-B), and which pixels belong to which box."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lnsdk.trainers.networks.boxes import STRIDE, pixel_centers

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
    y, x = pixel_centers(height, width, boxes)
    x1, y1, x2, y2 = (boxes / STRIDE).view(-1, 4, 1, 1).unbind(1)
    off_x, off_y = (x - (x1 + x2) / 2).abs() / (x2 - x1), (y - (y1 + y2) / 2).abs() / (y2 - y1)
    off = torch.maximum(off_x, off_y)
    own_x, own_y = center_pixels(boxes, height, width).view(-1, 2, 1, 1).unbind(1)
    positive = ((off <= CENTER_RATIO / 2) | ((x == own_x) & (y == own_y))) & ~uncertain.view(-1, 1, 1)
    ignored = (off <= IGNORE_RATIO / 2).any(dim=0)
    distances = borders_of_smallest(boxes, positive).clamp(min=0.0)

    centerness = torch.where(ignored, IGNORED, 0.0)
    centerness[positive.any(dim=0)] = 1.0
    return ProposalTargets(centerness, distances)


def center_pixels(boxes: Tensor, height: int, width: int) -> Tensor:
    """Feature pixel x, y (K, 2) nearest to the centre of each box (K, 4), within a map of this size."""
    center = (boxes[:, :2] + boxes[:, 2:]) / (2 * STRIDE)
    return center.round().long().clamp(center.new_zeros(2).long(), torch.tensor([width - 1, height - 1]))


def pixels_inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """Tell which pixels' centres lie inside each of the boxes (K, 4) in grid pixels: bool, (K, h, w)."""
    y, x = pixel_centers(height, width, boxes)
    x1, y1, x2, y2 = (boxes / STRIDE).view(-1, 4, 1, 1).unbind(1)
    return (x > x1) & (x < x2) & (y > y1) & (y < y2)


def borders_of_smallest(boxes: Tensor, member: Tensor) -> Tensor:
    """Distances of every pixel to the borders of the smallest of the boxes that it belongs to.

    Parameters
    ----------
    boxes : Tensor, (K, 4), K > 0
        x1, y1, x2, y2 in continuous grid pixels.
    member : Tensor, (K, h, w), bool
        Pixels of each box.

    Returns
    -------
    Tensor, (4, h, w)
        To the left, top, right and bottom, in feature pixels; without meaning where a pixel belongs to no box.
    """
    height, width = member.shape[1:]
    y, x = pixel_centers(height, width, boxes)
    x1, y1, x2, y2 = (boxes / STRIDE).view(-1, 4, 1, 1).unbind(1)
    area = ((x2 - x1) * (y2 - y1)).expand(-1, height, width)
    smallest = torch.where(member, area, torch.inf).argmin(dim=0, keepdim=True)
    borders = torch.stack(torch.broadcast_tensors(x - x1, y - y1, x2 - x, y2 - y), dim=1)
    return borders.gather(0, smallest.unsqueeze(1).expand(1, 4, height, width))[0]
