"""``lnsdk evaluate luna16``: score a submission to LUNA16 as the challenge's evaluation script does."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

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
from lnsdk.metrics import Luna16Froc, luna16_froc, read_luna16_findings, read_luna16_marks, read_luna16_series
from lnsdk.report.curve import Line, Panel, draw_curves, require_matplotlib

HIT = "nearer to the centre than the radius"


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when the report was written."""
    options = _parser().parse_args(arguments)
    require_matplotlib()
    folder = output_folder(options.output)
    result = _evaluate(options)
    document = {
        "evaluation": "luna16",
        "scans": result.volumes,
        **curve_entry(result),
        "counts": asdict(result.counts),
        "bootstraps": options.bootstraps,
        "seed": options.seed,
    }
    write_document(document, folder)
    _draw(result, options.submission.name, folder / PICTURE)
    show(result, f"{result.volumes} scans, {result.lesions} nodules", {}, folder)
    return 0


def _evaluate(options: Namespace) -> Luna16Froc:
    candidates = read_luna16_marks(options.submission)
    annotations = read_luna16_findings(options.annotations)
    excluded = read_luna16_findings(options.excluded)
    series = read_luna16_series(options.seriesuids)
    try:
        return luna16_froc(
            candidates,
            annotations,
            excluded,
            series,
            unlisted=options.unlisted,
            bootstraps=options.bootstraps,
            seed=options.seed,
        )
    except ValueError as error:
        raise InputError("bad-luna16-tables", f"cannot evaluate {options.submission}: {error}") from error


def _draw(result: Luna16Froc, name: str, path: Path) -> None:
    panel = Panel(f"{result.volumes} scans", [Line("nodules", result, main=True)])
    with writing(path.parent):
        draw_curves(path, [panel], picture_title(name, result), hit=HIT, volume="scan")


def _parser() -> ArgumentParser:
    parser = command_parser(
        "evaluate luna16",
        "Score a submission to LUNA16 as the challenge's evaluation script does: sensitivity at 1/8 to 8 false\n"
        "positives per scan and their mean, with bootstrap intervals. Writes froc.json and froc.png.",
        [
            "lnsdk evaluate luna16 submission.csv --annotations annotations.csv "
            "--excluded annotations_excluded.csv --seriesuids seriesuids.csv -o report",
        ],
    )
    parser.add_argument(
        "submission",
        type=Path,
        metavar="SUBMISSION.csv",
        help="CSV file with the columns seriesuid, coordX, coordY, coordZ (mm), probability",
    )
    parser.add_argument(
        "--annotations",
        type=Path,
        metavar="FILE.csv",
        required=True,
        help="CSV file of the nodules to find: seriesuid, coordX, coordY, coordZ, diameter_mm",
    )
    parser.add_argument(
        "--excluded",
        type=Path,
        metavar="FILE.csv",
        required=True,
        help="CSV file of the findings on which marks do not count, likewise",
    )
    parser.add_argument(
        "--seriesuids",
        type=Path,
        metavar="FILE.csv",
        required=True,
        help="CSV file of the scans, one series UID per line, no header",
    )
    parser.add_argument(
        "--unlisted",
        choices=["refuse", "ignore"],
        default="refuse",
        help="rows of series that are not in --seriesuids: an error, or left out and counted (default: refuse)",
    )
    add_shared_options(parser, "scans")
    return parser
