"""Runs a network under training over cases on the grid, with the runtime's own steps between its parts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lnsdk.ops.slices import Ranges
from lnsdk.pipelines.false_positives import reduce_false_positives
from lnsdk.pipelines.features import Centers, centers
from lnsdk.pipelines.proposals import SliceBoxes, Stacks, concatenate_slices, pad_rois, select_boxes, stack_slices
from lnsdk.pipelines.settings import Settings
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.evaluation import CaseResult, Found
from lnsdk.trainers.lens.fpr.settings import boxes_of
from lnsdk.trainers.lens.proposals.base import Candidates
from lnsdk.trainers.lens.rois import one_stage_detections, select_proposals
from lnsdk.trainers.networks.fpr import FalsePositiveNetwork
from lnsdk.trainers.networks.lens import ImageFeatures, Lens

Array = NDArray[np.float32]

FPR_BATCH = 8
"""Patches that false-positive reduction looks at at once."""

BATCH = 2
"""Centre slices at once: what a CPU runs fastest (`lnsdk.pipelines.detector.CPU_BATCH`)."""


@dataclass(frozen=True, eq=False)
class SliceRegions:
    """What the head says of a slice's proposals, before any expert is chosen.

    Attributes
    ----------
    rois : ndarray of float32, (R, 4)
        Proposals in grid pixels.
    scores : ndarray of float32, (R, E)
        Every expert's score.
    offsets : ndarray of float32, (R, E, 4)
        Every expert's box offsets.
    """

    rois: Array
    scores: Array
    offsets: Array


@dataclass(frozen=True, eq=False)
class VolumeRegions:
    """Regions of all slices of a volume, its grid's height and width, and the milliseconds that each slice took."""

    slices: tuple[SliceRegions, ...]
    shape: tuple[int, int]
    milliseconds_per_slice: float


@torch.no_grad()
def find_regions(network: Lens, grid: NDArray[Any], settings: Settings) -> VolumeRegions:
    """Run a network over every slice of a volume.

    Parameters
    ----------
    network : Lens
        In evaluation mode.
    grid : ndarray, (z, y, x)
        Values 0..255 on the network's grid; padded below and right with air to what the network takes.
    settings : Settings
        Limits of the proposals.

    Returns
    -------
    VolumeRegions
    """
    count, height, width = grid.shape
    shape = (_padded(height, settings.multiple), _padded(width, settings.multiple))
    device = next(network.parameters()).device

    def slices(start: int, stop: int) -> Array:
        padded = np.zeros((stop - start, *shape), np.float32)
        padded[:, :height, :width] = grid[start:stop]
        return padded

    def image(images: Array) -> dict[str, Array]:
        tensor = torch.from_numpy(images).to(device, memory_format=torch.channels_last)
        features = network.image_features(tensor)
        return {name: part.cpu().numpy() for name, part in features._asdict().items()}

    found: list[SliceRegions] = []
    start = time.perf_counter()
    for batch in centers(slices, count, image, BATCH):
        found += _batch_regions(network, batch, shape, settings, device)
    return VolumeRegions(tuple(found), shape, 1000 * (time.perf_counter() - start) / count)


def select_slices(regions: VolumeRegions, experts: Sequence[int], settings: Settings) -> SliceBoxes:
    """Final boxes of every slice: the chosen experts' pooled and suppressed (IV-C).

    Parameters
    ----------
    regions : VolumeRegions
        Of one volume.
    experts : sequence of int
        Which experts' boxes count.
    settings : Settings
        Thresholds of the boxes.

    Returns
    -------
    SliceBoxes
        Slices ascending; `expert_scores` has a column for each of `experts`.
    """
    chosen = np.asarray(experts, np.int64)
    parts = []
    for index, of_slice in enumerate(regions.slices):
        boxes, scores, expert_scores = select_boxes(
            of_slice.rois, of_slice.scores, of_slice.offsets, chosen, regions.shape, settings
        )
        parts.append(SliceBoxes(boxes, scores, expert_scores, np.full(len(boxes), index, np.int64)))
    return concatenate_slices(parts, len(chosen))


def stack_regions(regions: VolumeRegions, experts: Sequence[int], settings: Settings) -> Stacks:
    """3D boxes of the chosen experts, best first."""
    return stack_slices(select_slices(regions, experts, settings), settings.stack_iou)


def pool_networks(networks: Sequence[VolumeRegions]) -> VolumeRegions:
    """Regions of several networks on one volume as if they were one network's: the experts stand one after another.

    Parameters
    ----------
    networks : sequence of VolumeRegions
        Of the same volume.

    Returns
    -------
    VolumeRegions
        A region has the scores of its own network's experts, and 0 for the others.
    """
    counts = [regions.slices[0].scores.shape[1] for regions in networks]
    before = np.cumsum([0, *counts[:-1]])
    around = [(int(low), sum(counts) - int(low) - count) for low, count in zip(before, counts, strict=True)]
    pooled = []
    for parts in zip(*(regions.slices for regions in networks), strict=True):
        scores = [np.pad(part.scores, ((0, 0), rest)) for part, rest in zip(parts, around, strict=True)]
        offsets = [np.pad(part.offsets, ((0, 0), rest, (0, 0))) for part, rest in zip(parts, around, strict=True)]
        rois = np.concatenate([part.rois for part in parts])
        pooled.append(SliceRegions(rois, np.concatenate(scores), np.concatenate(offsets)))
    return VolumeRegions(tuple(pooled), networks[0].shape, sum(regions.milliseconds_per_slice for regions in networks))


@torch.no_grad()
def rescored(network: FalsePositiveNetwork, case: GridCase, stacks: Stacks) -> Stacks:
    """Score 3D boxes of a case with false-positive reduction (IV-D): the same with the scores of eq. 4."""
    device = next(network.parameters()).device
    settings = network.shape.settings(boxes_of(network.shape), threshold=0.0)

    def read(ranges: Ranges) -> NDArray[np.float32]:
        z, y, x = (slice(*span) for span in ranges)
        return np.asarray(case.grid[z, y, x], np.float32)

    def run(inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        logits = network(**{name: torch.from_numpy(values).to(device) for name, values in inputs.items()})
        return {"scores": logits.sigmoid().cpu().numpy()}

    depth, height, width = case.grid.shape
    return reduce_false_positives(stacks, read, (depth, height, width), run, settings, FPR_BATCH)


def case_result(case: GridCase, stacks: Stacks, experts: Sequence[str]) -> CaseResult:
    """What was found in a case whose lesions are all known, as an evaluation counts it; boxes are in grid pixels."""
    truth = case.truth
    if truth is None:
        raise ValueError(f"case {case.name} must have a truth: nobody said that all of its lesions are labelled")
    scores = {name: stacks.expert_scores[:, index] for index, name in enumerate(experts)}
    found = Found(stacks.boxes, stacks.scores, scores)
    known = truth.boxes, truth.types, truth.diameters, case.labels.ignored
    return CaseResult(case.name, *known, "real", 0, found, case.patient)


def _batch_regions(
    network: Lens, batch: Centers, shape: tuple[int, int], settings: Settings, device: torch.device
) -> list[SliceRegions]:
    triples = [
        ImageFeatures(**{name: torch.from_numpy(values).to(device) for name, values in part.items()})
        for part in (batch.previous, batch.own, batch.following)
    ]
    features = network.fuse(*triples)
    outputs = [layers(features) for layers in network.proposals]
    candidates = [Candidates(*(part.cpu() for part in each)) for each in network.decode(outputs)]
    if network.head is None:
        found = one_stage_detections(candidates, settings.post_nms, shape)
        return [SliceRegions(*(part.numpy() for part in each)) for each in found]
    rois = [boxes.numpy() for boxes in select_proposals(candidates, settings.pre_nms, settings.post_nms, shape)]
    logits, offsets = network.head(features, torch.from_numpy(pad_rois(rois)).to(device))
    scores, moves = logits.sigmoid().cpu().numpy(), offsets.cpu().numpy()
    return [
        SliceRegions(boxes, scores[index, : len(boxes)], moves[index, : len(boxes)]) for index, boxes in enumerate(rois)
    ]


def _padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
