"""A trained LENS network to a bundle: graphs, parity gate, settings of the detector, model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import lnsdk.export
from lnsdk import Detector, Volume, ops, read
from lnsdk._version import __version__
from lnsdk.bundle import METADATA, Bundle, read_bundle
from lnsdk.errors import InputError
from lnsdk.export.bundle import check_output, replaced_bundle, write_graphs, write_metadata
from lnsdk.export.graph import ExportGraph
from lnsdk.pipelines.settings import FPR
from lnsdk.trainers.common.checkpoint import first_line, read_checkpoint
from lnsdk.trainers.common.grid import GRID_SPACING
from lnsdk.trainers.common.simulation import SCOPES
from lnsdk.trainers.lens.fpr.checkpoint import load_fpr
from lnsdk.trainers.lens.fpr.settings import boxes_of
from lnsdk.trainers.lens.gate import (
    BACKENDS,
    MAX_BATCH,
    compare_detectors,
    compare_outputs,
    gate_volume,
    parity_report,
)
from lnsdk.trainers.lens.graphs import fpr_graph, lens_graphs
from lnsdk.trainers.lens.settings import Runtime, runtime_of
from lnsdk.trainers.networks.boxes import DELTA_WEIGHTS, STRIDE
from lnsdk.trainers.networks.fpr import FalsePositiveNetwork, FprShape
from lnsdk.trainers.networks.lens import FULL_WINDOW, Lens, LensShape

COMBINATION = "(s_lens + s_fpr) / 2 for the `boxes` best boxes of a volume, s_lens / 2 for the others"
"""What a bundle says of its scores with false-positive reduction (LENS eq. 4)."""

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
        section = detector_section(name, runtime_of(network.shape), None if fpr is None else fpr.shape)
        candidate = _open_candidate(partial, section, graphs)
        outputs = compare_outputs(candidate.bundle, graphs, volumes)
        plain = evaluate(candidate.plain[BACKENDS[0]]) if candidate.plain else None
        verdict = evaluate(candidate.detectors[BACKENDS[0]])
        compared = {"detector": compare_detectors(candidate.detectors, volumes, verdict.threshold, untrained)}
        if plain is not None:
            alone = compare_detectors(candidate.plain, volumes, plain.threshold, untrained)
            compared["without false-positive reduction"] = alone
        report = parity_report(outputs, compared)
        (partial / "docs" / "README.md").write_text(verdict.card)
        (partial / "docs" / "parity.json").write_text(json.dumps(report, indent=1) + "\n")
        write_metadata(partial, detector_description(), _with_thresholds(section, verdict, plain), graphs)


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
    write_metadata(folder, detector_description(), section, graphs)
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


def _with_thresholds(section: Mapping[str, object], verdict: Verdict, plain: Verdict | None) -> dict[str, object]:
    """The section with the operating points: that of the detector's own scores, and that of the combined ones."""
    if plain is None:
        return {**section, "threshold": verdict.threshold}
    fpr = {**cast(Mapping[str, object], section[FPR]), "threshold": verdict.threshold}
    return {**section, "threshold": plain.threshold, FPR: fpr}


def detector_section(name: str, runtime: Runtime, fpr: FprShape | None) -> dict[str, object]:
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


def detector_description() -> dict[str, object]:
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
