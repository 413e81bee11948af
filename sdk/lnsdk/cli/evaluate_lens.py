"""``lnsdk evaluate lens``: measure a detector on simulated test cases and on the real lesions at hand."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from lnsdk.cli.console import DATA_VARIABLE, command_parser, names, output_folder, real_cts, trainers


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when the report was written."""
    options = _parser().parse_args(arguments)
    evaluate = trainers("lens.evaluate").evaluate
    data = real_cts(options.data)
    folder = output_folder(options.output)
    variant = {"experts": options.experts, "reduce_false_positives": not options.no_fpr}
    evaluate(options.bundle, data, folder, into_card=options.card, **variant)
    print((options.output / "froc.md").read_text())
    return 0


def _parser() -> ArgumentParser:
    parser = command_parser(
        "evaluate lens",
        "Run a detector on simulated test cases and on the real lesions at hand: sensitivity over false positives on\n"
        "simulated lesions by type, size, expert and background with bootstrap intervals, the control without\n"
        "contrast, and the ranks of real lesions.",
        [
            "lnsdk evaluate lens --data data -o report",
            "lnsdk evaluate lens --bundle run/bundle --card --data data -o report",
            "lnsdk evaluate lens --experts liver --no-fpr --data data -o report_liver",
        ],
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", required=True, help="folder of the report; made when missing"
    )
    parser.add_argument("--bundle", type=Path, metavar="PATH", help="model bundle (default: the one in the package)")
    parser.add_argument(
        "--experts", type=names, metavar="NAME[,NAME...]", help="experts whose boxes count (default: all)"
    )
    parser.add_argument("--no-fpr", action="store_true", help="leave the model's false-positive reduction out")
    parser.add_argument(
        "--card", action="store_true", help="write the results into the model card of --bundle, and hash it again"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help=f"folder with the real CTs (default: {DATA_VARIABLE})")
    return parser
