"""Where the network's pixels and boxes lie on the grid, and the offsets that move one box to another."""

from __future__ import annotations

import torch
from torch import Tensor

from lnsdk.pipelines.proposals import MAX_DELTA

STRIDE = 4
"""Grid pixels per feature pixel: feature pixel i is centred at grid pixel 4 i."""

DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Scales of the head's box offsets dx, dy, dw, dh (Faster R-CNN, reference [28] of the paper)."""


def plain_offsets(boxes: Tensor, targets: Tensor) -> Tensor:
    """Faster R-CNN offsets dx, dy, dw, dh (..., 4), without weights, that move `boxes` (..., 4) to `targets`."""
    size = boxes[..., 2:] - boxes[..., :2]
    center = (boxes[..., :2] + boxes[..., 2:]) / 2
    target_size = targets[..., 2:] - targets[..., :2]
    target_center = (targets[..., :2] + targets[..., 2:]) / 2
    return torch.cat(((target_center - center) / size, torch.log(target_size / size)), dim=-1)


def box_offsets(rois: Tensor, targets: Tensor) -> Tensor:
    """Faster R-CNN offsets (..., 4), in units of `DELTA_WEIGHTS`, that move boxes `rois` (..., 4) to `targets`.

    The inverse of `lnsdk.pipelines.proposals.apply_deltas`.
    """
    return plain_offsets(rois, targets) * rois.new_tensor(DELTA_WEIGHTS)


def move_boxes(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Boxes (..., 4) moved by plain offsets (..., 4): the inverse of `plain_offsets`, growth limited as at run time."""
    size = boxes[..., 2:] - boxes[..., :2]
    center = (boxes[..., :2] + boxes[..., 2:]) / 2 + offsets[..., :2] * size
    half = offsets[..., 2:].clamp(max=MAX_DELTA).exp() * size / 2
    return torch.cat((center - half, center + half), dim=-1)


def pixel_centers(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (h, 1) and columns (1, w) of a feature map's pixels, of the type and on the device of `like`."""
    rows = torch.arange(height, dtype=like.dtype, device=like.device)
    columns = torch.arange(width, dtype=like.dtype, device=like.device)
    return rows.view(-1, 1), columns.view(1, -1)


def boxes_of_distances(distances: Tensor) -> Tensor:
    """Box of every pixel.

    Parameters
    ----------
    distances : Tensor, (N, 4, h, w)
        From the pixel's centre to the left, top, right and bottom border, in feature pixels.

    Returns
    -------
    Tensor, (N, h * w, 4)
        x1, y1, x2, y2 in continuous grid pixels.
    """
    height, width = distances.shape[-2:]
    y, x = pixel_centers(height, width, distances)
    left, top, right, bottom = distances.unbind(1)
    return torch.stack((x - left, y - top, x + right, y + bottom), dim=3).flatten(1, 2) * STRIDE


def scale_boxes(boxes: Tensor, factor: float) -> Tensor:
    """Boxes (K, 4) with the same centres and `factor` times the sides."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) * factor / 2
    return torch.cat((center - half, center + half), dim=1)
