"""``lnsdk demo``: a phantom CT with lesions that are known, what is found of them, and how long it takes."""

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lnsdk.cli.console import (
    command_parser,
    natural,
    output_folder,
    plain_table,
    positive,
    progress_bar,
    score,
    timing_line,
    writing,
)
from lnsdk.cli.detect import FILES, write
from lnsdk.cli.engines import add_engine_options

if TYPE_CHECKING:
    from rich.table import Table

    from lnsdk.phantom import LesionTruth
    from lnsdk.report.comparison import Comparison, Known
    from lnsdk.volume import Volume

SERIES = "dicom"
"""Folder of the phantom's DICOM series, inside the output folder."""

TRUTH = "known_lesions.json"
PICTURE = "demo.png"

SLICES = 80
SPACING = (0.75, 0.75, 3.0)
"""Slices of the phantom and its voxel size in mm: a routine chest CT."""

SOURCE = "Simulated patient, simulated lesions."


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when the files were written, whatever was found."""
    options = _parser().parse_args(arguments)
    from rich.console import Console

    from lnsdk.pipelines.detector import Detector
    from lnsdk.report.comparison import compare, draw_comparison

    console = Console(highlight=False, soft_wrap=True)
    detector = Detector(
        options.bundle,
        backend=options.backend,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        threshold=options.threshold,
    )
    folder = output_folder(options.output)
    console.print(f"making a phantom CT of {SLICES} slices with {options.lesions} lesions, seed {options.seed}")
    with writing(folder):
        volume, truths = _make_series(folder, options.seed, options.lesions)
    with progress_bar("detecting") as progress:
        detections = detector(folder / SERIES, progress=progress)
    comparison = compare(detections, [_known(truth, volume, detections.volume) for truth in truths])
    write(detections, folder)
    with writing(folder):
        draw_comparison(detections, comparison, SOURCE).save(folder / PICTURE, format="PNG")

    console.print(_known_table(comparison))
    if comparison.false_positives:
        console.print(_false_positive_table(comparison))
    console.print(timing_line(detections.timings), markup=False)
    console.print(f"written to {folder}: {', '.join((PICTURE, *FILES, TRUTH, f'{SERIES}/'))}", markup=False)
    return 0


def _make_series(folder: Path, seed: int, lesions: int) -> tuple["Volume", tuple["LesionTruth", ...]]:
    """Write a phantom CT as a DICOM series, and what is known of its lesions."""
    import numpy as np

    from lnsdk.phantom import chest_phantom, draw_lesions, insert_lesions, write_series
    from lnsdk.results import BOX_CONVENTION

    random = np.random.default_rng(seed)
    phantom = chest_phantom(seed, slices=SLICES, spacing=SPACING, region="both")
    specs = draw_lesions(phantom.volume, phantom.organs, lesions, random)
    volume, truths = insert_lesions(phantom.volume, specs, random)
    write_series(volume, folder / SERIES)
    known = {"box_convention": BOX_CONVENTION, "lesions": [truth.to_dict() for truth in truths]}
    (folder / TRUTH).write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return volume, truths


def _known(truth: "LesionTruth", made: "Volume", seen: "Volume") -> "Known":
    """Bring a known lesion from the voxels of the phantom as made to those of the series as read."""
    import numpy as np

    from lnsdk.report.comparison import Known

    corners = made.voxels_to_lps(truth.box.reshape(2, 3))
    voxels = seen.lps_to_voxels(corners)
    x1, y1, z1, x2, y2, z2 = np.concatenate([voxels.min(axis=0), voxels.max(axis=0)]).tolist()
    x, y, z = corners.mean(axis=0).tolist()
    return Known(truth.type.replace("_", " "), (x1, y1, z1, x2, y2, z2), (x, y, z), truth.diameter_mm)


def _known_table(comparison: "Comparison") -> "Table":
    found = sum(hit is not None for hit in comparison.hits)
    table = plain_table(
        f"known lesions: {found} of {len(comparison.known)} found",
        [
            ("lesion", "left"),
            ("mm", "right"),
            ("LPS x, y, z (mm)", "left"),
            ("slice", "right"),
            ("", "left"),
            ("score", "right"),
        ],
    )
    for known, hit in zip(comparison.known, comparison.hits, strict=True):
        table.add_row(
            known.name,
            f"{known.diameter_mm:.1f}",
            ", ".join(f"{value:.1f}" for value in known.center_mm),
            str(known.key_slice + 1),
            "missed" if hit is None else "found",
            "" if hit is None else f"{hit.score:.3f}",
        )
    return table


def _false_positive_table(comparison: "Comparison") -> "Table":
    table = plain_table(
        f"false positives: {len(comparison.false_positives)}",
        [("score", "right"), ("mm", "right"), ("LPS x, y, z (mm)", "left"), ("slice", "right")],
    )
    for lesion in comparison.false_positives:
        table.add_row(
            f"{lesion.score:.3f}",
            f"{lesion.diameter_mm:.1f}",
            ", ".join(f"{value:.1f}" for value in lesion.center_mm),
            str(lesion.key_slice + 1),
        )
    return table


def _parser() -> ArgumentParser:
    parser = command_parser(
        "demo",
        "Make a phantom chest CT with known lesions as a DICOM series, detect on it, and show what was found and what "
        "was missed. Patient and lesions are simulated.",
        ["lnsdk demo -o demo_out", "lnsdk demo -o demo_out --seed 3 --lesions 12 --threshold 0.97"],
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write to; made when missing")
    parser.add_argument("--seed", type=natural, default=0, help="which patient and lesions (default: 0)")
    parser.add_argument("--lesions", type=positive, default=8, help="lesions to insert at most (default: 8)")
    parser.add_argument("--threshold", type=score, help="keep lesions with at least this score (default: the model's)")
    add_engine_options(parser)
    parser.add_argument("--bundle", type=Path, help="model bundle, folder or zip (default: the one in the package)")
    return parser
