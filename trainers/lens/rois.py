"""Regions of interest for the detection head: choice of proposals, matching with lesions, sampling (LENS IV-C)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lnsdk import ops
from lnsdk.trainers.lens.proposals.base import Candidates
from lnsdk.trainers.networks.boxes import STRIDE, box_offsets

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


class SliceDetections(NamedTuple):
    """Detections of one slice, in the form of what the detection head says of its regions.

    Attributes
    ----------
    rois : Tensor, (R, 4)
        Boxes in grid pixels.
    scores : Tensor, (R, E)
        Probabilities: that of the expert whose box it is, 0 for the others.
    offsets : Tensor, (R, E, 4)
        Zeros: the boxes stay as they are.
    """

    rois: Tensor
    scores: Tensor
    offsets: Tensor


def select_proposals(
    candidates: Sequence[Candidates], before_nms: int, after_nms: int, shape: tuple[int, int]
) -> list[Tensor]:
    """Best boxes of every slice, all experts pooled.

    Parameters
    ----------
    candidates : sequence of Candidates
        Each expert's, on the CPU.
    before_nms, after_nms : int
        Boxes kept by score before and after non-maximum suppression.
    shape : tuple of int
        Height and width of the slices; boxes are clipped to it.

    Returns
    -------
    list of Tensor, (R_i, 4)
        Grid pixels, best first.
    """
    pool = Candidates(*(torch.cat(parts, dim=1) for parts in zip(*candidates, strict=True)))
    kept = []
    for boxes, scores in zip(*_best(pool, before_nms, shape), strict=True):
        solid = _has_area(boxes)
        boxes, scores = boxes[solid], scores[solid]
        keep = ops.nms(boxes.numpy(), scores.numpy(), PROPOSAL_IOU, max_kept=after_nms)
        kept.append(boxes[torch.from_numpy(keep)])
    return kept


def one_stage_detections(
    candidates: Sequence[Candidates], per_expert: int, shape: tuple[int, int]
) -> list[SliceDetections]:
    """Turn the proposals of a network without a detection head into its detections (one-stage FCOS, Table III).

    Parameters
    ----------
    candidates : sequence of Candidates
        Each expert's, on the CPU.
    per_expert : int
        Boxes of a slice kept by score for each expert. Nothing is suppressed here: the experts that count are chosen
        later, and the boxes of the others must not suppress theirs.
    shape : tuple of int
        Height and width of the slices; boxes are clipped to it.

    Returns
    -------
    list of SliceDetections
        One per slice.
    """
    best = [_best(each, per_expert, shape) for each in candidates]
    experts = len(best)
    found = []
    for i in range(len(best[0][0])):
        rois = torch.cat([boxes[i] for boxes, _ in best])
        scores = torch.block_diag(*(own[i].unsqueeze(1) for _, own in best))
        solid = _has_area(rois)
        rois, scores = rois[solid], scores[solid]
        found.append(SliceDetections(rois, scores, torch.zeros(len(rois), experts, 4)))
    return found


def _best(pool: Candidates, count: int, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Boxes (N, C, 4), clipped, and scores (N, C) of the C <= `count` best of every slice, best first."""
    scores, places = pool.scores.topk(min(count, pool.scores.shape[1]), dim=1)
    boxes = pool.boxes.gather(1, places.unsqueeze(2).expand(-1, -1, 4))
    height, width = shape
    low, high = boxes.new_tensor(-0.5), boxes.new_tensor([width, height, width, height]) - 0.5
    return boxes.clamp(low, high), scores


def _has_area(boxes: Tensor) -> Tensor:
    """Tell which boxes (R, 4) have one."""
    return (boxes[:, 2:] > boxes[:, :2]).all(dim=1)


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
