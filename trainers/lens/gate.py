"""The parity gate of LENS: every backend must give what torch gives, and find the lesions that the others find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lnsdk import Detector, Volume
from lnsdk.bundle import Bundle
from lnsdk.export.graph import ExportGraph
from lnsdk.export.parity import TOLERANCE, GraphParity, check_graph
from lnsdk.phantom import chest_phantom, draw_lesions, insert_lesions
from lnsdk.pipelines.false_positives import graph_inputs
from lnsdk.pipelines.features import images
from lnsdk.pipelines.grid import make_grid
from lnsdk.pipelines.proposals import decode_proposals, pad_rois
from lnsdk.pipelines.settings import FPR, Settings, read_settings
from lnsdk.trainers.networks.lens import ImageFeatures
from lnsdk.verification import BOUNDS, ParityError, check_lesions

BACKENDS = ("onnx", "torchscript")
"""Formats that every bundle holds."""

MAX_BATCH = 8
"""Slices per run of a graph."""

BATCHES = (1, 2, 7, MAX_BATCH)
"""Batch sizes that the parity gate runs."""

GATE_SEED = 3_000_000
"""Seed of the gate's phantom CT: beyond those of training, validation and test."""

GATE_LESIONS = 12
"""Lesions in it at most."""

WATER_RADIUS = 0.7
"""Radius of the gate's water cylinder over half the side of the slice."""


@dataclass(frozen=True)
class Comparison:
    """The detector in every backend, compared.

    Attributes
    ----------
    lesions_above : float
        Operating point, from which no lesion may be without its match.
    volumes : tuple of dict
        What the backends found on every volume.
    """

    lesions_above: float
    volumes: tuple[dict[str, object], ...]


def gate_volume() -> Volume:
    """A phantom CT with lesions that is neither trained nor measured on."""
    rng = np.random.default_rng(GATE_SEED)
    phantom = chest_phantom(GATE_SEED, slices=16, spacing=(0.8, 0.8, 5.0))
    volume, _ = insert_lesions(phantom.volume, draw_lesions(phantom.volume, phantom.organs, GATE_LESIONS, rng), rng)
    return volume


def compare_outputs(bundle: Bundle, graphs: Sequence[ExportGraph], volumes: Sequence[Volume]) -> list[GraphParity]:
    """Run every graph in every backend on slices of every volume, in all batch sizes.

    Raises
    ------
    ParityError
        See `lnsdk.export.parity.compare_graph`.
    """
    rows = []
    for volume in volumes:
        inputs = real_inputs(graphs, volume, read_settings(bundle))
        for graph in graphs:
            rows += check_graph(graph, bundle.graph(graph.name), BACKENDS, inputs[graph.name])
    return rows


def compare_detectors(
    detectors: Mapping[str, Detector], volumes: Sequence[Volume], threshold: float, untrained: bool
) -> Comparison:
    """Run the whole detector in every backend on every volume, on a cylinder of water, and on air.

    Parameters
    ----------
    detectors : mapping of str to Detector
        Name of every backend to its detector, all at threshold 0.
    volumes : sequence of Volume
        Real inputs.
    threshold : float
        Operating point.
    untrained : bool
        Let a network pass that finds no lesion at the operating point on any of the volumes.

    Returns
    -------
    Comparison
        What the backends found.

    Raises
    ------
    ParityError
        When the backends find different lesions, or when there was nothing to compare.
    """
    rows = [_compare_lesions(volume, detectors, threshold) for volume in (*volumes, *_empty(volumes[0]))]
    if not untrained and not any(row["matched_above"] for row in rows):
        raise ParityError(
            f"no lesion above the operating point {threshold:g} was found on any of the {len(volumes)} CTs, so the "
            "backends could not be compared; verify on CTs with lesions, lower the threshold, or train the network "
            "longer"
        )
    return Comparison(threshold, tuple(rows))


def parity_report(outputs: Sequence[GraphParity], compared: Mapping[str, Comparison]) -> dict[str, object]:
    """For `docs/parity.json`: bounds, the largest difference of every output, and the lesions of every volume.

    `compared` holds a comparison of the detectors by the name of what they do.
    """
    return {
        "bounds": {"output": TOLERANCE, "box_voxels": BOUNDS["fp32"].box, "score": BOUNDS["fp32"].score},
        "batches": list(BATCHES),
        "outputs": [asdict(row) for row in outputs],
        "detectors": {name: asdict(comparison) for name, comparison in compared.items()},
    }


def _compare_lesions(volume: Volume, detectors: Mapping[str, Detector], threshold: float) -> dict[str, object]:
    """What the backends found on one volume, after the gate's check."""
    reference, other = (detector(volume) for detector in detectors.values())
    parity = check_lesions(reference, other, threshold)
    alone = {id(lesion) for lesion in parity.unmatched}
    matched = [lesion for lesion in reference.lesions if id(lesion) not in alone]
    return {
        "lesions": len(reference.lesions),
        "matched": parity.matched,
        "matched_above": sum(lesion.score >= threshold for lesion in matched),
        "box_difference": parity.box_difference,
        "score_difference": parity.score_difference,
        "unmatched_scores": [lesion.score for lesion in parity.unmatched],
    }


def real_inputs(
    graphs: Sequence[ExportGraph], volume: Volume, settings: Settings
) -> dict[str, list[tuple[Tensor, ...]]]:
    """Inputs of every graph by its name, from the middle of a CT through the torch modules, for each batch size.

    `head` gets the proposals that the detector would give it, and one empty region, which is what pads a slice
    without any; `fpr` gets boxes of many sizes, those at the grid's border among them.
    """
    grid = make_grid(volume, settings, "body")
    if grid is None:
        raise ParityError("a CT without a body has no input for the graphs")
    image, fuse = (graph.module for graph in graphs[:2])
    every = replace(settings, proposal_min_score=0.0)
    inputs: dict[str, list[tuple[Tensor, ...]]] = {graph.name: [] for graph in graphs}
    for batch in BATCHES:
        start = max(0, (grid.count - batch) // 2)
        slices = torch.from_numpy(images(grid.slices, grid.count, start - 3, start + batch + 3))
        with torch.no_grad():
            features = ImageFeatures(*image(slices))
            triples = tuple(part[offset : offset + batch] for part in features for offset in (0, 3, 6))
            maps, centerness, distances = fuse(*triples)
        rois = pad_rois(
            [decode_proposals(*parts, every) for parts in zip(centerness.numpy(), distances.numpy(), strict=True)]
        )
        inputs["image"].append((slices[3 : 3 + batch],))
        inputs["fuse"].append(triples)
        inputs["head"] += [(maps, torch.from_numpy(rois)), (maps, torch.zeros(batch, 1, 4))]
        if settings.fpr is not None:
            patches = graph_inputs(_boxes_across(grid.shape, batch), grid.block, grid.shape, settings.fpr)
            inputs[FPR].append(tuple(map(torch.from_numpy, patches.values())))
    return inputs


def _boxes_across(shape: tuple[int, int, int], count: int) -> NDArray[np.float32]:
    """3D boxes along a grid's diagonal, from one voxel at its first corner to an eighth of it beyond its last."""
    corner = np.linspace(0, 1, count)[:, None] * np.array(shape[::-1])
    size = 1 + np.linspace(0, 1, count)[:, None] * np.array(shape[::-1]) / 8
    return np.concatenate([corner - 0.5, corner + size - 0.5], axis=1).astype(np.float32)


def _empty(volume: Volume) -> tuple[Volume, Volume]:
    """CTs with nothing to find on a volume's voxels: a cylinder of water, which runs the graphs, and air."""
    air = np.full(volume.shape, -1000, np.int16)
    water = air.copy()
    y, x = np.ogrid[-1 : 1 : volume.shape[1] * 1j, -1 : 1 : volume.shape[2] * 1j]
    water[:, x**2 + y**2 < WATER_RADIUS**2] = 0
    return Volume(water, volume.affine), Volume(air, volume.affine)
