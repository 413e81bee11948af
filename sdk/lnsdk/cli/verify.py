"""``lnsdk verify``: compare the engines of this machine with the float32 reference."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from lnsdk.cli.console import command_parser, natural, output_folder, positive, progress_bar, writing
from lnsdk.cli.engines import BACKENDS, PRECISIONS, SIMULATED
from lnsdk.cli.verification_report import show_report
from lnsdk.errors import BackendUnavailable

if TYPE_CHECKING:
    from lnsdk.pipelines.detector import Progress
    from lnsdk.verification import VerificationCase

DOCUMENT = "verification.json"
"""What the command writes."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when no engine failed, 1 when one did."""
    options = _parser().parse_args(arguments)
    from rich.console import Console

    from lnsdk.bundle import read_bundle
    from lnsdk.verification import REFERENCE, choices, verify

    folder = None if options.output is None else output_folder(options.output)
    bundle = read_bundle(options.bundle)
    engines = choices(bundle, options.backend or (), options.precision or (), options.device)
    if all(choice.missing or choice == REFERENCE for choice in engines):
        reasons = "; ".join(f"{choice}: {choice.missing}" for choice in engines if choice.missing)
        raise BackendUnavailable(f"there is no engine to compare with the reference ({reasons or 'it is itself'})")
    with progress_bar("verifying") as progress:
        report = verify(bundle, engines, _cases(options.on, options.simulated, progress), options.threads)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    show_report(report, console)
    if folder is not None:
        with writing(folder):
            (folder / DOCUMENT).write_text(json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n")
        console.print(f"written to {folder}: {DOCUMENT}")
    return 0 if report.passed else 1


def _cases(paths: Sequence[Path], simulated: int, progress: Progress) -> Iterator[VerificationCase]:
    """Read or make one case after the other, and tell how many are done."""
    from lnsdk.verification import recorded_cases, simulated_cases

    for done, case in enumerate(chain(recorded_cases(paths), simulated_cases(simulated))):
        progress(done, len(paths) + simulated)
        yield case


def _parser() -> ArgumentParser:
    parser = command_parser(
        "verify",
        "Run every engine and precision of this machine beside the float32 reference (ONNX Runtime on the CPU), on\n"
        "CTs of yours and on simulated ones, and compare every lesion. fp32 may differ by 0.05 voxel and 0.001 of\n"
        "score; fp16 and bf16 by 0.25 voxel and 0.01; int8 may lose 0.01 of the mean sensitivity over 1/8 to 8 false\n"
        "positives a CT. No lesion above the operating point may be missing or new. Exit code 1 when an engine is\n"
        "outside its bounds, or computes in another precision than was asked for.",
        [
            "lnsdk verify",
            "lnsdk verify bundle --on ct_folder other.nii.gz -o report",
            "lnsdk verify --backend openvino --precision fp32 bf16 --simulated 4",
        ],
    )
    parser.add_argument(
        "bundle", type=Path, nargs="?", help="model bundle, folder or zip (default: the one in the package)"
    )
    parser.add_argument("--on", type=Path, nargs="+", default=[], metavar="CT", help="CTs to compare on")
    parser.add_argument(
        "--simulated",
        type=natural,
        default=SIMULATED,
        metavar="N",
        help=f"simulated CTs with known lesions to compare on as well, which int8 needs (default: {SIMULATED})",
    )
    parser.add_argument("--backend", nargs="+", choices=BACKENDS, help="engines (default: all)")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, help="precisions (default: all)")
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="where they run (default: wherever they can)"
    )
    parser.add_argument("--threads", type=positive, help="CPU threads (default: one per core)")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help=f"folder for {DOCUMENT}; made when missing")
    return parser
