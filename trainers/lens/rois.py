"""Regions of interest for the detection head: decoding of proposals, matching with lesions, sampling (LENS IV-C)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lnsdk import ops
from lnsdk.trainers.networks.lens import STRIDE, Proposals, box_offsets

PROPOSAL_IOU = 0.7
"""NMS of the pooled proposals (maskrcnn-benchmark, reference [56])."""

LESION_IOU = 0.5
"""A proposal that overlaps a lesion at least this much is a lesion for the head (maskrcnn-benchmark)."""

LESION_SHARE = 0.25
"""Largest share of lesions among the samples of a slice (maskrcnn-benchmark)."""

IGNORED_OVERLAP = 0.3
"""A proposal with this share of its own area in an ignored box leaves the head's loss. Ignored boxes are generous, so
the share counts, and not the IoU, which the paper's theta_FP of the same value is (VI-B)."""


class HeadSamples(NamedTuple):
    """Proposals of a batch with what the head should say of them.

    Attributes
    ----------
    rois : Tensor, (N, S, 4)
        Boxes in grid pixels; rows that fill up a slice with too few are copies of a valid box.
    labels : Tensor, (N, S)
        1 lesion, 0 none, -1 fills up.
    offsets : Tensor, (N, S, 4)
        Offsets to the matched lesion where the label is 1.
    """

    rois: Tensor
    labels: Tensor
    offsets: Tensor


def decode_proposals(proposals: Proposals, before_nms: int, after_nms: int, size: int) -> list[Tensor]:
    """Best boxes of every slice, all experts pooled.

    Parameters
    ----------
    proposals : Proposals
        Logits (N, E, h, w) and distances (N, E, 4, h, w) in feature pixels.
    before_nms, after_nms : int
        Boxes kept by score before and after non-maximum suppression.
    size : int
        Side of the crop; boxes are clipped to it.

    Returns
    -------
    list of Tensor, (R_i, 4)
        Grid pixels, best first.
    """
    n, experts, height, width = proposals.centerness.shape
    count = min(before_nms, experts * height * width)
    scores, places = proposals.centerness.flatten(1).float().topk(count, dim=1)
    expert, pixel = places // (height * width), places % (height * width)
    x, y = (pixel % width).float(), (pixel // width).float()
    flat = proposals.distances.float().permute(0, 1, 3, 4, 2).reshape(n, -1, 4)
    left, top, right, bottom = flat.gather(1, (expert * height * width + pixel).unsqueeze(2).expand(-1, -1, 4)).unbind(
        2
    )
    boxes = torch.stack((x - left, y - top, x + right, y + bottom), dim=2) * STRIDE
    boxes = boxes.clamp(-0.5, size - 0.5)
    kept = []
    for slice_boxes, slice_scores in zip(boxes, scores, strict=True):
        wide = (slice_boxes[:, 2:] - slice_boxes[:, :2] > 0).all(dim=1)
        slice_boxes, slice_scores = slice_boxes[wide], slice_scores[wide]
        keep = ops.nms(slice_boxes.numpy(), slice_scores.numpy(), PROPOSAL_IOU)[:after_nms]
        kept.append(slice_boxes[torch.from_numpy(keep)])
    return kept


def sample_head(
    proposals: list[Tensor],
    boxes: list[Tensor],
    uncertain: list[Tensor],
    ignored: list[Tensor],
    count: int,
    rng: np.random.Generator,
) -> HeadSamples:
    """Draw `count` regions per slice, the lesions themselves among them.

    Parameters
    ----------
    proposals : list of Tensor, (R_i, 4)
        Decoded proposals of each slice.
    boxes, uncertain, ignored : list of Tensor, (K_i, 4), (U_i, 4), (J_i, 4)
        Labelled lesions, boxes that may be lesions, and places where nothing is known.
    count : int
        Samples per slice.
    rng : Generator
        Decides which.

    Returns
    -------
    HeadSamples
    """
    slices = zip(proposals, boxes, uncertain, ignored, strict=True)
    rows = [_sample_slice(*of_slice, count, rng) for of_slice in slices]
    return HeadSamples(*(torch.stack(column) for column in zip(*rows, strict=True)))


def _sample_slice(
    proposals: Tensor, boxes: Tensor, uncertain: Tensor, ignored: Tensor, count: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Regions (S, 4), labels (S,) and offsets (S, 4) of one slice."""
    candidates = torch.cat((boxes, proposals)) if len(boxes) else proposals
    labels, matched = _match(candidates, boxes, uncertain, ignored)
    lesions = _draw(np.flatnonzero(labels == 1), round(count * LESION_SHARE), rng)
    others = _draw(np.flatnonzero(labels == 0), count - len(lesions), rng)
    picked = torch.from_numpy(np.concatenate((lesions, others)))
    missing = count - len(picked)
    filler = torch.tensor([[0.0, 0.0, STRIDE, STRIDE]]).expand(missing, 4)
    rois = torch.cat((candidates[picked], filler))
    drawn = torch.cat((torch.from_numpy(labels)[picked].float(), torch.full((missing,), -1.0)))
    offsets = torch.zeros(count, 4)
    if len(lesions):
        targets = boxes[torch.from_numpy(matched[lesions])]
        offsets[: len(lesions)] = box_offsets(rois[: len(lesions)], targets)
    return rois, drawn, offsets


def _match(
    candidates: Tensor, boxes: Tensor, uncertain: Tensor, ignored: Tensor
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Label of every candidate (1, 0, or -1 for ignored) and the index of the lesion that it overlaps most."""
    labels = np.zeros(len(candidates), np.int64)
    matched = np.zeros(len(candidates), np.int64)
    if len(ignored):
        labels[ops.iobb(candidates.numpy(), ignored.numpy()).max(axis=1) >= IGNORED_OVERLAP] = -1
    if len(uncertain):
        labels[ops.iou(candidates.numpy(), uncertain.numpy()).max(axis=1) >= LESION_IOU] = -1
    if len(boxes):
        overlaps = ops.iou(candidates.numpy(), boxes.numpy())
        matched = overlaps.argmax(axis=1)
        labels[overlaps.max(axis=1) >= LESION_IOU] = 1
    return labels, matched


def _draw(
    indices: np.ndarray[tuple[int], np.dtype[np.int64]], count: int, rng: np.random.Generator
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """At most `count` of `indices`, without replacement, in a random order."""
    return rng.permutation(indices)[:count]
