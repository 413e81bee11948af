"""A bundle with graphs in lower precision beside the float32 ones, behind the gate."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from lnsdk.backends import BACKENDS, FILES
from lnsdk.bundle import METADATA, Bundle, read_bundle
from lnsdk.errors import InputError
from lnsdk.export.bundle import replaced_bundle, update_files
from lnsdk.export.float16 import to_float16
from lnsdk.export.int8 import Feed, to_int8
from lnsdk.export.tensorrt_limits import check_limits
from lnsdk.pipelines.features import REACH, Centers, images
from lnsdk.pipelines.grid import make_grid
from lnsdk.pipelines.settings import LOW_PRECISION, read_settings
from lnsdk.verification import ParityError, Report, VerificationCase, choices, simulated_cases, verify
from lnsdk.volume import Volume

PRECISIONS = ("fp16", "int8")
"""What a graph is written in besides float32."""

CALIBRATION_CENTERS = 8
"""Centre slices of every CT, at equal distances, that the ranges of activations are taken from."""

REPORT = "docs/verification.json"
"""What the gate found, in the bundle."""


def add_precisions(
    bundle: Bundle, folder: Path, precisions: Sequence[str], volumes: Sequence[VerificationCase], simulated: int
) -> Report:
    """Write a bundle anew, with graphs in lower precision, after the gate let every engine of this machine pass.

    Parameters
    ----------
    bundle : Bundle
        A detector's, with its float32 graphs.
    folder : Path
        Of the new bundle: missing, empty, or an older bundle, `bundle`'s own folder included, which is replaced.
    precisions : sequence of str
        Among `PRECISIONS`.
    volumes : sequence of VerificationCase
        Real CTs: int8 takes the ranges of its activations from a few of their slices, and the gate compares on them.
    simulated : int
        Simulated CTs that the gate compares on as well.

    Returns
    -------
    Report
        Of the gate. A precision that is not in its `compared` was written, but no engine of this machine computes in
        it: ``lnsdk verify`` compares it where one does.

    Raises
    ------
    InputError
        ``calibration`` when int8 is asked for without a CT; what the exporters raise.
    ParityError
        When the gate refuses a precision. `folder` is then as it was.
    """
    if "int8" in precisions and not volumes:
        raise InputError("calibration", "int8 takes the ranges of its activations from real slices: name CTs")
    with replaced_bundle(folder) as partial:
        _copy(bundle, partial)
        for precision in precisions:
            for name in LOW_PRECISION[precision]:
                if name in bundle.graphs:
                    model = _lowered(bundle, name, precision, [case.volume for case in volumes])
                    onnx.save(model, partial / "models" / f"{name}{FILES[precision]}")
        update_files(partial, "models/")
        made = read_bundle(partial)
        report = verify(made, choices(made, precisions=precisions), chain(volumes, simulated_cases(simulated)))
        failed = [row for row in report.rows if row.state == "failed"]
        if failed:
            raise ParityError("; ".join(f"{row.choice}: {reason}" for row in failed for reason in row.reasons))
        (partial / REPORT).write_text(json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n")
        update_files(partial, "docs/")
    return report


def _copy(bundle: Bundle, folder: Path) -> None:
    """Copy a bundle's files, verified; its signatures were of other files than there will be."""
    for name in bundle.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bundle.read(name))
    (folder / METADATA).parent.mkdir(parents=True, exist_ok=True)
    (folder / METADATA).write_bytes(bundle.description())


def _lowered(bundle: Bundle, name: str, precision: str, volumes: Sequence[Volume]) -> ModelProto:
    model = onnx.load_model_from_string(bundle.graph(name).read(FILES["fp32"]))
    if precision == "int8":
        return to_int8(model, calibration_feeds(bundle, name, volumes))
    half = to_float16(model)
    check_limits(name, half)
    return half


def calibration_feeds(bundle: Bundle, graph: str, volumes: Sequence[Volume]) -> Iterator[Feed]:
    """Inputs of the image or the fusion graph from slices of real CTs, centre by centre.

    Raises
    ------
    InputError
        ``calibration`` for a CT that holds nothing but air.
    """
    settings = read_settings(bundle)
    image = BACKENDS["onnx"].open(bundle.graph("image"), "cpu", "fp32", None)
    for volume in volumes:
        grid = make_grid(volume, settings, "body")
        if grid is None:
            raise InputError("calibration", "a CT holds nothing but air, from which no range can be taken")
        for center in np.linspace(0, grid.count - 1, min(CALIBRATION_CENTERS, grid.count)).astype(int).tolist():
            triple = [images(grid.slices, grid.count, i, i + 1) for i in (center - REACH, center, center + REACH)]
            feed = {"image": np.concatenate(triple)}
            yield feed if graph == "image" else _fusion_feed(image.run(feed))


def _fusion_feed(features: Mapping[str, NDArray[np.float32]]) -> Feed:
    """From the features of a centre's three images to the inputs of the fusion."""
    before, own, after = ({name: rows[i : i + 1] for name, rows in features.items()} for i in range(3))
    return Centers(0, before, own, after).fuse_inputs()
