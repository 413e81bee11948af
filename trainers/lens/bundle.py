"""A trained LENS network to a bundle: graphs, parity gate, settings of the detector, model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import lnsdk.export
from lnsdk import Detector, Volume, ops, read
from lnsdk._version import __version__
from lnsdk.bundle import METADATA, Bundle, read_bundle
from lnsdk.errors import InputError
from lnsdk.export.bundle import check_output, replaced_bundle, write_graphs, write_metadata
from lnsdk.export.graph import ExportGraph
from lnsdk.export.parity import (
    BOX_TOLERANCE,
    SCORE_TOLERANCE,
    TOLERANCE,
    GraphParity,
    ParityError,
    check_graph,
    check_lesions,
)
from lnsdk.phantom import chest_phantom, draw_lesions, insert_lesions
from lnsdk.pipelines.false_positives import graph_inputs
from lnsdk.pipelines.features import images
from lnsdk.pipelines.grid import make_grid
from lnsdk.pipelines.proposals import decode_proposals, pad_rois
from lnsdk.pipelines.settings import FPR, Settings, read_settings
from lnsdk.trainers.common.checkpoint import first_line, read_checkpoint
from lnsdk.trainers.common.grid import GRID_SPACING
from lnsdk.trainers.common.simulation import SCOPES
from lnsdk.trainers.lens.fpr.checkpoint import load_fpr
from lnsdk.trainers.lens.fpr.settings import boxes_of
from lnsdk.trainers.lens.graphs import fpr_graph, lens_graphs
from lnsdk.trainers.lens.settings import Runtime, runtime_of
from lnsdk.trainers.networks.boxes import DELTA_WEIGHTS, STRIDE
from lnsdk.trainers.networks.fpr import FalsePositiveNetwork, FprShape
from lnsdk.trainers.networks.lens import FULL_WINDOW, ImageFeatures, Lens, LensShape

BACKENDS = ("onnx", "torchscript")
"""Formats that every bundle holds."""

MAX_BATCH = 8
"""Slices per run of a graph."""

COMBINATION = "(s_lens + s_fpr) / 2 for the `boxes` best boxes of a volume, s_lens / 2 for the others"
"""What a bundle says of its scores with false-positive reduction (LENS eq. 4)."""

BATCHES = (1, 2, 7, MAX_BATCH)
"""Batch sizes that the parity gate runs."""

GATE_SEED = 3_000_000
"""Seed of the gate's phantom CT: beyond those of training, validation and test."""

GATE_LESIONS = 12
"""Lesions in it at most."""

WATER_RADIUS = 0.7
"""Radius of the gate's water cylinder over half the side of the slice."""

EXPORTED_CARD = "# {name}\n\nExported from a checkpoint without an evaluation. Not a medical device.\n"
"""Card of a bundle that was exported by hand: nothing was measured, so nothing is claimed."""


@dataclass(frozen=True)
class Verdict:
    """What an evaluation concludes about a candidate.

    Attributes
    ----------
    threshold : float
        Operating point: the score from which lesions are reported, and from which every backend must find them.
    card : str
        Model card in Markdown.
    """

    threshold: float
    card: str


def write_lens_bundle(
    network: Lens,
    folder: Path,
    name: str,
    volumes: Sequence[Volume],
    evaluate: Callable[[Detector], Verdict],
    untrained: bool = False,
    fpr: FalsePositiveNetwork | None = None,
) -> None:
    """Write a bundle and pass it through the parity gate.

    Parameters
    ----------
    network : Lens
        Trained.
    folder : Path
        The bundle: missing, empty, or an older bundle, which is replaced when the new one passed the gate.
    name : str
        Name of the model.
    volumes : sequence of Volume
        CTs on which every backend must give what torch gives.
    evaluate : callable
        Called once every graph has passed, with the detector of the first backend at threshold 0. With `fpr` it is
        called twice, first with a detector that leaves false-positive reduction out
        (`Detector.reduces_false_positives` tells them apart): each has its own operating point, and the bundle's card
        is the second's.
    untrained : bool
        Let a network pass that finds no lesion at the operating point on any of the volumes.
    fpr : FalsePositiveNetwork, optional
        Trained on what `network` detects.

    Raises
    ------
    InputError
        ``output-folder`` if `folder` holds something else.
    ParityError
        When a backend differs from torch, or the backends from each other, or when there was nothing to compare.
        `folder` is then as it was.

    Notes
    -----
    The gate runs on a bundle under construction beside the folder. Its description is there only while the engines
    open it, and comes back when the gate has passed, so that nothing loads a bundle that did not pass.
    """
    for volume in volumes:
        if ops.is_air(volume.voxels, volume.spacing):
            raise InputError("gate-air", "the parity gate needs CTs with a body in them; got one that holds only air")
    with replaced_bundle(folder) as partial:
        graphs = (*lens_graphs(network), *([] if fpr is None else [fpr_graph(fpr)]))
        write_graphs(partial, graphs)
        (partial / "docs").mkdir()
        shutil.copyfile(_license(), partial / "LICENSE")
        section = _section(name, runtime_of(network.shape), None if fpr is None else fpr.shape)
        candidate = _open_candidate(partial, section, graphs)
        outputs = compare_outputs(candidate, graphs, volumes)
        plain = evaluate(candidate.plain[BACKENDS[0]]) if candidate.plain else None
        verdict = evaluate(candidate.detectors[BACKENDS[0]])
        lesions = compare_detectors(candidate.detectors, volumes, verdict.threshold, untrained)
        if plain is not None:
            compare_detectors(candidate.plain, volumes, plain.threshold, untrained)
        report = parity_report(outputs, lesions, verdict.threshold)
        (partial / "docs" / "README.md").write_text(verdict.card)
        (partial / "docs" / "parity.json").write_text(json.dumps(report, indent=1) + "\n")
        write_metadata(partial, _description(), _with_thresholds(section, verdict, plain), graphs)


@dataclass(frozen=True)
class Candidate:
    """A bundle that has yet to pass the gate: as it was read, and its detector in every backend.

    The detectors of `plain` leave false-positive reduction out; there are none where it has none.
    """

    bundle: Bundle
    detectors: Mapping[str, Detector]
    plain: Mapping[str, Detector]


def _open_candidate(folder: Path, section: Mapping[str, object], graphs: Sequence[ExportGraph]) -> Candidate:
    """Open a bundle in every backend, with a description that does not stay."""
    write_metadata(folder, _description(), section, graphs)
    try:
        detectors = {backend: Detector(folder, backend=backend, threshold=0.0) for backend in BACKENDS}
        plain = {
            backend: Detector(folder, backend=backend, threshold=0.0, reduce_false_positives=False)
            for backend in BACKENDS
            if FPR in section
        }
        return Candidate(read_bundle(folder), detectors, plain)
    finally:
        (folder / METADATA).unlink()


def compare_outputs(
    candidate: Candidate, graphs: Sequence[ExportGraph], volumes: Sequence[Volume]
) -> list[GraphParity]:
    """Run every graph in every backend on slices of every volume, in all batch sizes.

    Raises
    ------
    ParityError
        See `lnsdk.export.parity.compare_graph`.
    """
    rows = []
    for volume in volumes:
        inputs = real_inputs(graphs, volume, read_settings(candidate.bundle))
        for graph in graphs:
            rows += check_graph(graph, candidate.bundle.graph(graph.name), BACKENDS, inputs[graph.name])
    return rows


def compare_detectors(
    detectors: Mapping[str, Detector], volumes: Sequence[Volume], threshold: float, untrained: bool
) -> list[dict[str, object]]:
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
        As for `write_lens_bundle`.

    Returns
    -------
    list of dict
        What the backends found on every volume.

    Raises
    ------
    ParityError
        See `write_lens_bundle`.
    """
    rows = [_compare_lesions(volume, detectors, threshold) for volume in (*volumes, *_empty(volumes[0]))]
    if not untrained and not any(row["matched_above"] for row in rows):
        raise ParityError(
            f"no lesion above the operating point {threshold:g} was found on any of the {len(volumes)} CTs, so the "
            "backends could not be compared; verify on CTs with lesions, lower the threshold, or train the network "
            "longer"
        )
    return rows


def parity_report(
    outputs: Sequence[GraphParity], lesions: Sequence[Mapping[str, object]], threshold: float
) -> dict[str, object]:
    """For `docs/parity.json`: bounds, the largest difference of every output, and the lesions of every volume."""
    return {
        "bounds": {
            "output": TOLERANCE,
            "box_voxels": BOX_TOLERANCE,
            "score": SCORE_TOLERANCE,
            "lesions_above": threshold,
        },
        "batches": list(BATCHES),
        "outputs": [asdict(row) for row in outputs],
        "volumes": list(lesions),
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


def _with_thresholds(section: Mapping[str, object], verdict: Verdict, plain: Verdict | None) -> dict[str, object]:
    """The section with the operating points: that of the detector's own scores, and that of the combined ones."""
    if plain is None:
        return {**section, "threshold": verdict.threshold}
    fpr = {**cast(Mapping[str, object], section[FPR]), "threshold": verdict.threshold}
    return {**section, "threshold": plain.threshold, FPR: fpr}


def _section(name: str, runtime: Runtime, fpr: FprShape | None) -> dict[str, object]:
    """The `lnsdk` section of the description, with operating points that keep everything until they are chosen."""
    section = {
        "task": "detector",
        "name": name,
        "experts": [scope.name for scope in SCOPES],
        "grid": {"spacing": list(GRID_SPACING), "multiple": 16, "images": 3, "channels": 3, "stride": STRIDE},
        "window": list(FULL_WINDOW),
        "proposals": dict(runtime.proposals),
        "detections": dict(runtime.detections),
        "box_deltas": {"weights": list(DELTA_WEIGHTS)},
        "threshold": 0.0,
        "max_batch": MAX_BATCH,
    }
    if fpr is None:
        return section
    settings = fpr.settings(boxes_of(fpr), threshold=0.0)
    return section | {FPR: {**asdict(settings), "combination": COMBINATION}}


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


def export_checkpoint(
    checkpoint: Path,
    folder: Path,
    name: str,
    cts: Sequence[Path],
    threshold: float,
    untrained: bool = False,
    fpr: Path | None = None,
    fpr_threshold: float | None = None,
) -> None:
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
        CTs for the parity gate; a phantom with lesions when there are none.
    threshold : float
        Operating point.
    untrained : bool
        As for `write_lens_bundle`.
    fpr : Path, optional
        Checkpoint of false-positive reduction, written by `lnsdk.trainers.lens.fpr.train.train_fpr`.
    fpr_threshold : float, optional
        Operating point with it; needed when it is given.

    Raises
    ------
    ValueError
        When only one of `fpr` and `fpr_threshold` is given.
    InputError
        When the folder holds something else, or checkpoint or CTs cannot be used.
    ParityError
        See `write_lens_bundle`.
    """
    if (fpr is None) != (fpr_threshold is None):
        raise ValueError("fpr and fpr_threshold go together: name the checkpoint and its operating point, or neither")
    check_output(folder)
    network = load_network(checkpoint)
    reduction = None if fpr is None else load_fpr(fpr)
    volumes = [read(path) for path in cts] or [gate_volume()]

    def accept(detector: Detector) -> Verdict:
        reduced = fpr_threshold if detector.reduces_false_positives else None
        return Verdict(threshold if reduced is None else reduced, EXPORTED_CARD.format(name=name))

    write_lens_bundle(network, folder, name, volumes, accept, untrained, reduction)


def gate_volume() -> Volume:
    """A phantom CT with lesions that is neither trained nor measured on."""
    rng = np.random.default_rng(GATE_SEED)
    phantom = chest_phantom(GATE_SEED, slices=16, spacing=(0.8, 0.8, 5.0))
    volume, _ = insert_lesions(phantom.volume, draw_lesions(phantom.volume, phantom.organs, GATE_LESIONS, rng), rng)
    return volume


def load_network(checkpoint: Path) -> Lens:
    """The trained network of a checkpoint, in evaluation mode.

    Raises
    ------
    InputError
        ``checkpoint`` if the file is damaged or no checkpoint of a LENS training.
    """
    content = read_checkpoint(checkpoint)
    try:
        network = Lens(len(SCOPES), LensShape(**content["shape"]), **content.get("design", {}))
        network.load_state_dict(content["network"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            "checkpoint", f"{checkpoint} is no checkpoint of a LENS training: {first_line(error)}"
        ) from error
    return network.eval()
