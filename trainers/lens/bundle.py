"""A trained LENS network to a bundle: graphs, parity gate, settings of the detector, model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

import lnsdk.export
from lnsdk import Detector, Volume, read
from lnsdk._version import __version__
from lnsdk.bundle import read_bundle
from lnsdk.export.bundle import set_threshold, update_metadata, write_graphs, write_metadata
from lnsdk.export.graph import ExportGraph
from lnsdk.export.parity import BOX_TOLERANCE, SCORE_TOLERANCE, TOLERANCE, check_graph, check_lesions
from lnsdk.phantom import chest_phantom
from lnsdk.pipelines.features import images
from lnsdk.pipelines.grid import make_grid
from lnsdk.pipelines.settings import read_settings
from lnsdk.trainers.common.samples import GRID_SPACING
from lnsdk.trainers.common.simulation import SCOPES
from lnsdk.trainers.lens.graphs import lens_graphs
from lnsdk.trainers.lens.rois import PROPOSAL_IOU
from lnsdk.trainers.networks.lens import DELTA_WEIGHTS, FULL_WINDOW, STRIDE, ImageFeatures, Lens, LensShape

BACKENDS = ("onnx", "torchscript")
"""Formats that every bundle holds."""

MAX_BATCH = 8
"""Slices per run of a graph."""

BATCHES = (1, 2, 7, MAX_BATCH)
"""Batch sizes that the parity gate runs."""

GATE_SCORE = 0.1
"""Lesions above this score must be found by every backend; operating points lie above it."""

PROPOSALS = {"pre_nms": 1000, "post_nms": 100, "iou": PROPOSAL_IOU, "min_score": 0.02}
"""Proposals of a slice at run time: 1000 before suppression and 100 after it, where reference [25] has 6000 and 300,
to bound what suppression and head cost on a CPU."""

DETECTIONS = {"iou": 0.5, "per_slice": 50, "min_score": 0.02, "stack_iou": 0.3}
"""Boxes of a slice at run time: NMS at 0.5 and at most 50 as in reference [25]; boxes join at a lower overlap than the
theta of 0.5 (VI-B), because lesions of a few pixels change by as much between slices."""

EXPORTED_CARD = "# {name}\n\nExported from a checkpoint without an evaluation. Not a medical device.\n"
"""Card of a bundle that was exported by hand: nothing was measured, so nothing is claimed."""


def write_lens_bundle(network: Lens, folder: Path, name: str, volumes: Sequence[Volume], card: str) -> None:
    """Write a bundle and pass it through the parity gate.

    Parameters
    ----------
    network : Lens
        Trained.
    folder : Path
        The bundle; what it holds is replaced.
    name : str
        Name of the model.
    volumes : sequence of Volume
        CTs on which every backend must give what torch gives.
    card : str
        Model card in Markdown.

    Raises
    ------
    ParityError
        When a backend differs from torch, or the backends from each other. The folder then holds no description, so
        that nothing loads it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    graphs = lens_graphs(network)
    write_graphs(folder, graphs)
    (folder / "docs").mkdir()
    (folder / "docs" / "README.md").write_text(card)
    shutil.copy(_license(), folder / "LICENSE")
    write_metadata(folder, _description(), _section(name), graphs)
    try:
        report = parity_report(folder, graphs, volumes)
    except Exception:
        (folder / "configs" / "metadata.json").unlink()
        raise
    (folder / "docs" / "parity.json").write_text(json.dumps(report, indent=1) + "\n")
    update_metadata(folder, {})


def parity_report(folder: Path, graphs: Sequence[ExportGraph], volumes: Sequence[Volume]) -> dict[str, object]:
    """Run every graph and the whole detector in every backend; see `lnsdk.export.parity` for the bounds.

    Parameters
    ----------
    folder : Path
        A written bundle.
    graphs : sequence of ExportGraph
        image, fuse, head.
    volumes : sequence of Volume
        Real inputs.

    Returns
    -------
    dict
        For `docs/parity.json`: bounds, the largest difference of every output, and the lesions of every volume.
    """
    bundle = read_bundle(folder)
    rows = []
    for volume in volumes:
        inputs = list(_real_inputs(graphs, volume, folder))
        for index, graph in enumerate(graphs):
            batches = [batch[index] for batch in inputs]
            rows += check_graph(graph, bundle.graph(graph.name), BACKENDS, batches)
    detectors = {name: Detector(folder, backend=name, threshold=0.0) for name in BACKENDS}
    lesions = []
    for volume in (*volumes, *(_air(volume) for volume in volumes[:1])):
        reference, other = (detector(volume) for detector in detectors.values())
        parity = check_lesions(reference, other, GATE_SCORE)
        lesions.append(
            {
                "lesions": len(reference.lesions),
                "matched": parity.matched,
                "box_difference": parity.box_difference,
                "score_difference": parity.score_difference,
                "unmatched_scores": [lesion.score for lesion in parity.unmatched],
            }
        )
    return {
        "bounds": {
            "output": TOLERANCE,
            "box_voxels": BOX_TOLERANCE,
            "score": SCORE_TOLERANCE,
            "lesions_above": GATE_SCORE,
        },
        "batches": list(BATCHES),
        "outputs": [asdict(row) for row in rows],
        "volumes": lesions,
    }


def _real_inputs(
    graphs: Sequence[ExportGraph], volume: Volume, folder: Path
) -> Iterator[tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]]:
    """Inputs of the three graphs for each batch size, from the middle of a CT through the torch modules."""
    grid = make_grid(volume, read_settings(read_bundle(folder)), "body")
    if grid is None:
        raise ValueError("the parity gate needs CTs with a body in them; got one that holds nothing but air")
    image, fuse, _head = (graph.module for graph in graphs)
    for batch in BATCHES:
        start = max(0, (grid.count - batch) // 2)
        slices = torch.from_numpy(images(grid.slices, grid.count, start - 3, start + batch + 3))
        with torch.no_grad():
            features = ImageFeatures(*image(slices))
            triples = tuple(part[offset : offset + batch] for part in features for offset in (0, 3, 6))
            maps, _, _ = fuse(*triples)
        rois = graphs[2].make_inputs(batch, grid.height, grid.width)[1]
        yield (slices[3 : 3 + batch],), triples, (maps, rois)


def _air(volume: Volume) -> Volume:
    """A CT without any detection: nothing but air on the same voxels."""
    voxels = volume.voxels.copy()
    voxels[...] = -1000
    return Volume(voxels, volume.affine)


def _section(name: str) -> dict[str, object]:
    """The `lnsdk` section of the description, with an operating point that keeps everything until one is chosen."""
    return {
        "task": "detector",
        "name": name,
        "experts": [scope.name for scope in SCOPES],
        "grid": {"spacing": list(GRID_SPACING), "multiple": 16, "images": 3, "channels": 3, "stride": STRIDE},
        "window": list(FULL_WINDOW),
        "proposals": PROPOSALS,
        "detections": DETECTIONS,
        "box_deltas": {"weights": list(DELTA_WEIGHTS)},
        "threshold": 0.0,
        "max_batch": MAX_BATCH,
    }


def _description() -> dict[str, object]:
    """MONAI's keys."""
    return {
        "version": __version__,
        "changelog": {__version__: "first release"},
        "task": "Universal lesion detection in CT",
        "description": "LENS: 2.5D detector with one expert per training set. See docs/README.md.",
        "authors": "lnsdk",
        "copyright": "Apache-2.0",
        "intended_use": "Research. Not a medical device.",
        "references": ["Yan et al., Learning from Multiple Datasets with Heterogeneous and Partial Labels, 2020"],
    }


def _license() -> Path:
    """The package's licence text, as the export package carries it."""
    return Path(lnsdk.export.__file__).parent / "LICENSE"


def export_checkpoint(checkpoint: Path, folder: Path, name: str, cts: Sequence[Path], threshold: float) -> None:
    """Write the bundle of a checkpoint.

    Parameters
    ----------
    checkpoint : Path
        Written by `lnsdk.trainers.lens.train.train`.
    folder : Path
        The bundle.
    name : str
        Name of the model.
    cts : sequence of Path
        CTs for the parity gate; a phantom when there are none.
    threshold : float
        Operating point.

    Raises
    ------
    ParityError
        See `write_lens_bundle`.
    """
    volumes = [read(path) for path in cts] or [chest_phantom(0, slices=16, spacing=(0.8, 0.8, 5.0)).volume]
    write_lens_bundle(load_network(checkpoint), folder, name, volumes, EXPORTED_CARD.format(name=name))
    set_threshold(folder, threshold)


def load_network(checkpoint: Path) -> Lens:
    """The trained network of a checkpoint, in evaluation mode."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network = Lens(len(SCOPES), LensShape(**content["shape"]))
    network.load_state_dict(content["network"])
    return network.eval()
