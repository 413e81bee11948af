"""What the evaluations of files write and print: ``froc.json``, ``froc.png`` and a table."""

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from lnsdk.cli.console import natural, plain_table, writing
from lnsdk.metrics import Froc
from lnsdk.report.curve import fraction

DOCUMENT, PICTURE = "froc.json", "froc.png"

BOOTSTRAPS = 1000
"""Resamples behind the intervals, as many as the evaluation of LUNA16 takes."""


def add_shared_options(parser: ArgumentParser, resampled: str) -> None:
    """Add the output folder and what the intervals are computed from."""
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", required=True, help="folder of the report; made when missing"
    )
    parser.add_argument(
        "--bootstraps",
        type=natural,
        default=BOOTSTRAPS,
        metavar="N",
        help=f"resamples of the {resampled} for the 95 %% intervals; 0 for none (default: {BOOTSTRAPS})",
    )
    parser.add_argument("--seed", type=natural, default=0, metavar="N", help="of the resampling (default: 0)")


def curve_entry(curve: Froc) -> dict[str, Any]:
    """A curve at the false positives asked for, as JSON holds it; null stands for an interval without resamples."""
    return {
        "lesions": curve.lesions,
        "false_positives": curve.false_positives.tolist(),
        "sensitivity": curve.sensitivity.tolist(),
        "interval_95": [[_number(end) for end in ends] for ends in curve.interval.tolist()],
        "mean_sensitivity": curve.mean_sensitivity,
        "mean_interval_95": [_number(end) for end in curve.mean_interval.tolist()],
    }


def write_document(document: Mapping[str, Any], folder: Path) -> None:
    """Write ``froc.json``."""
    with writing(folder):
        (folder / DOCUMENT).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def show(curve: Froc, title: str, groups: Mapping[str, Mapping[str, Froc]], folder: Path) -> None:
    """Print the curve as a table, the mean of every group of lesions, and where the report is."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    points = plain_table(title, [("false positives", "right"), ("sensitivity", "right"), ("95 % interval", "left")])
    for value, sensitivity, ends in zip(curve.false_positives, curve.sensitivity, curve.interval, strict=True):
        points.add_row(fraction(value), f"{sensitivity:.3f}", interval_words(ends))
    points.add_row("mean", f"{curve.mean_sensitivity:.3f}", interval_words(curve.mean_interval))
    console.print(points)
    for name, curves in groups.items():
        columns = [(name, "left"), ("lesions", "right"), ("mean sensitivity", "right"), ("95 % interval", "left")]
        table = plain_table("", columns)
        for label, group in curves.items():
            mean = f"{group.mean_sensitivity:.3f}"
            table.add_row(label, str(group.lesions), mean, interval_words(group.mean_interval))
        console.print(table)
    console.print(f"written to {folder}: {DOCUMENT}, {PICTURE}")


def interval_words(ends: Any) -> str:
    """Both ends of an interval; empty without resamples."""
    lower, upper = ends
    return f"{lower:.3f} to {upper:.3f}" if isfinite(lower) else ""


def picture_title(name: str, curve: Froc) -> str:
    """Name of what was evaluated, and below it its mean sensitivity with the interval."""
    between = interval_words(curve.mean_interval)
    return f"{name}\nmean sensitivity {curve.mean_sensitivity:.3f}" + (f" (95 %: {between})" if between else "")


def _number(value: float) -> float | None:
    return value if isfinite(value) else None
