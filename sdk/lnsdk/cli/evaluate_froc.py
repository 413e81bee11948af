"""``lnsdk evaluate froc``: compare detected boxes with the lesions that are there, as the LENS evaluator does."""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lnsdk.cli.console import command_parser, output_folder, writing
from lnsdk.cli.evaluate_report import (
    PICTURE,
    add_shared_options,
    curve_entry,
    picture_title,
    show,
    write_document,
)
from lnsdk.errors import InputError
from lnsdk.metrics import (
    FALSE_POSITIVES,
    HIT_OVERLAP,
    DetectedBoxes,
    Froc,
    KnownBoxes,
    froc,
    froc_by_group,
    read_detected_boxes,
    read_known_boxes,
    size_class,
)
from lnsdk.metrics.box_files import UNKNOWN_TYPE
from lnsdk.metrics.sizes import group_order
from lnsdk.report.curve import Line, Panel, draw_curves, require_matplotlib

UNKNOWN = "unknown"
"""Group of the lesions whose type or size the truth does not say."""

OVERLAP_NAMES = {"iobb": "IoBB", "iou": "IoU"}

NAMED = 3
"""Volumes that a message names at most."""

Groups = Mapping[str, Mapping[str, Froc]]


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when the report was written."""
    options = _parser().parse_args(arguments)
    require_matplotlib()
    folder = output_folder(options.output)
    truths = _truths(options)
    predictions = _predictions(options, truths)
    overall, groups = _curves(options, predictions, truths)
    write_document(_document(options, overall, groups), folder)
    hit = f"3D {OVERLAP_NAMES[options.overlap]} of at least {options.threshold:g}"
    with writing(folder):
        draw_curves(
            folder / PICTURE, _panels(overall, groups), picture_title(options.predictions.name, overall), hit=hit
        )
    show(overall, f"{overall.volumes} volumes, {overall.lesions} lesions, {hit}", groups, folder)
    return 0


def _truths(options: Namespace) -> dict[str, KnownBoxes]:
    truths = read_known_boxes(options.truth, options.boxes)
    if not any(len(known.boxes) for known in truths.values()):
        raise InputError("no-lesions", f"{options.truth} holds no lesion: sensitivity is not defined without any")
    return truths


def _predictions(options: Namespace, truths: Mapping[str, KnownBoxes]) -> list[DetectedBoxes]:
    """Detections of every volume of the truth, in its order; volumes without any are told on standard error."""
    detected = read_detected_boxes(options.predictions, options.boxes)
    unknown = [name for name in detected if name not in truths]
    if unknown and options.unlisted == "refuse":
        raise InputError(
            "unlisted-volumes",
            f"{options.predictions} holds {_some(unknown)} that {options.truth} does not: list such a volume there, "
            "with [] when it has no lesion, or leave it out with --unlisted ignore",
        )
    if unknown:
        _note(f"{_some(unknown)} left out: not in {options.truth}")
    missing = [name for name in truths if name not in detected]
    if missing:
        _note(f"{_some(missing)} of {options.truth} not in {options.predictions}: nothing was detected there")
    nothing = DetectedBoxes(np.empty((0, 6)), np.empty(0))
    return [detected.get(name, nothing) for name in truths]


def _some(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > NAMED else ""
    return f"{len(names)} volume{'s' if len(names) > 1 else ''} ({', '.join(map(repr, names[:NAMED]))}{more})"


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _curves(
    options: Namespace, predictions: Sequence[DetectedBoxes], truths: Mapping[str, KnownBoxes]
) -> tuple[Froc, Groups]:
    """The curve of all lesions, and those by type and by size when the truth says any."""
    settings = {
        "overlap": options.overlap,
        "threshold": options.threshold,
        "false_positives": options.false_positives,
        "bootstraps": options.bootstraps,
        "seed": options.seed,
    }
    boxes = [known.boxes for known in truths.values()]
    labels = {
        "type": [[_type_label(kind) for kind in known.types] for known in truths.values()],
        "size": [[_size_label(diameter) for diameter in known.diameters_mm] for known in truths.values()],
    }
    groups = {}
    for name, of_volumes in labels.items():
        if any(label != UNKNOWN for of_volume in of_volumes for label in of_volume):
            curves = froc_by_group(predictions, boxes, of_volumes, **settings)
            groups[name] = {label: curves[label] for label in sorted(curves, key=_order)}
    return froc(predictions, boxes, **settings), groups


def _type_label(kind: str) -> str:
    return UNKNOWN if kind == UNKNOWN_TYPE else kind


def _size_label(diameter: float) -> str:
    return UNKNOWN if np.isnan(diameter) else size_class(diameter)


def _order(label: str) -> tuple[bool, tuple[int, str]]:
    """Size classes by size, types by name, what is unknown at the end."""
    return (label == UNKNOWN, group_order(label))


def _document(options: Namespace, overall: Froc, groups: Groups) -> dict[str, Any]:
    return {
        "evaluation": "froc",
        "overlap": options.overlap,
        "threshold": options.threshold,
        "volumes": overall.volumes,
        **curve_entry(overall),
        "bootstraps": options.bootstraps,
        "seed": options.seed,
        **{
            f"by_{name}": {label: curve_entry(curve) for label, curve in curves.items()}
            for name, curves in groups.items()
        },
    }


def _panels(overall: Froc, groups: Groups) -> list[Panel]:
    by_group = [
        Panel(f"by {name}", [Line(label, curve) for label, curve in curves.items()]) for name, curves in groups.items()
    ]
    return [Panel(f"{overall.volumes} volumes", [Line("lesions", overall, main=True)]), *by_group]


def _overlap_share(text: str) -> float:
    """Read the overlap of a hit."""
    return _number(text, "a number above 0 and at most 1", lambda value: 0 < value <= 1)


def _false_positives(text: str) -> list[float]:
    """Read numbers of false positives per volume, smallest first."""
    return sorted(
        _number(part, "numbers of at least 0, such as 0.5,1,2,4", lambda value: 0 <= value < np.inf)
        for part in text.split(",")
    )


def _number(text: str, expected: str, allowed: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not allowed(value):
        raise ArgumentTypeError(f"must be {expected}, got {text!r}")
    return value


def _parser() -> ArgumentParser:
    parser = command_parser(
        "evaluate froc",
        "Compare detected boxes with the lesions that are there: sensitivity at 1/8 to 8 false positives per volume\n"
        "and their mean, with bootstrap intervals, by type and by size where the truth says them. Writes froc.json\n"
        "and froc.png.\n\n"
        "Both files are JSON, {volume: [[x1, y1, z1, x2, y2, z2(, score)]]} as the public LENS evaluator reads them,\n"
        'or {"boxes": "continuous", "volumes": {volume: [box]}}, where a box of the truth may also be\n'
        '{"box": [x1, y1, z1, x2, y2, z2], "type": "lung nodule", "diameter_mm": 5.0}. Detections may also be a\n'
        "folder of results, VOLUME/detections.json: detect with a threshold of 0 for a whole curve.",
        [
            "lnsdk evaluate froc predictions.json truth.json -o report",
            "lnsdk detect ct -o results/ct --threshold 0; lnsdk evaluate froc results truth.json -o report",
            "lnsdk evaluate froc predictions.json truth.json --overlap iou --threshold 0.5 -o report",
            "lnsdk evaluate froc mine.json truth.json --boxes continuous --false-positives 0.5,1,2,4 -o report",
        ],
    )
    parser.add_argument(
        "predictions",
        type=Path,
        metavar="PREDICTIONS.json",
        help="JSON file of the detected boxes, each with a score, or a folder of results",
    )
    parser.add_argument(
        "truth", type=Path, metavar="TRUTH.json", help="JSON file of the lesions; the volumes it names are evaluated"
    )
    parser.add_argument(
        "--overlap",
        choices=list(OVERLAP_NAMES),
        default="iobb",
        help="intersection over the detected box, or over the union (default: iobb)",
    )
    parser.add_argument(
        "--threshold",
        type=_overlap_share,
        default=HIT_OVERLAP,
        metavar="OVERLAP",
        help=f"overlap of a hit, above 0 and at most 1 (default: {HIT_OVERLAP})",
    )
    parser.add_argument(
        "--boxes",
        choices=["inclusive", "continuous"],
        help="what the numbers are: inclusive voxel indices (sizes are x2 - x1 + 1), or continuous ones (a box over "
        "the voxels i to j runs from i - 0.5 to j + 0.5). Default: what a file says; inclusive if it says nothing",
    )
    parser.add_argument(
        "--false-positives",
        type=_false_positives,
        default=FALSE_POSITIVES,
        metavar="N[,N...]",
        help="per volume: where the sensitivity is given, and averaged over (default: 0.125,0.25,0.5,1,2,4,8)",
    )
    parser.add_argument(
        "--unlisted",
        choices=["refuse", "ignore"],
        default="refuse",
        help="detections in volumes that the truth does not name: an error, or left out (default: refuse)",
    )
    add_shared_options(parser, "volumes")
    return parser
