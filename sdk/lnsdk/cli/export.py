"""``lnsdk export``: a training's checkpoint to a bundle, through the parity gate."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from lnsdk.cli.console import command_parser, score, trainers
from lnsdk.errors import InputError


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when every graph passed the gate, 1 when one did not."""
    options = _parser().parse_args(arguments)
    export_checkpoint = trainers("lens.bundle").export_checkpoint
    if (options.fpr is None) != (options.fpr_threshold is None):
        raise InputError("settings", "--fpr and --fpr-threshold go together: name both or neither")
    if not options.checkpoint.is_file():
        raise InputError("no-checkpoint", f"there is no checkpoint at {options.checkpoint}; `lnsdk train` writes one")
    try:
        export_checkpoint(
            options.checkpoint,
            options.output,
            options.name,
            options.verify_on,
            options.threshold,
            fpr=options.fpr,
            fpr_threshold=options.fpr_threshold,
        )
    except import_module("lnsdk.export.parity").ParityError as error:
        print(f"lnsdk: the parity gate failed: {error}", file=sys.stderr)
        return 1
    print(f"written to {options.output}; parity report in docs/parity.json")
    return 0


def _parser() -> ArgumentParser:
    parser = command_parser(
        "export",
        "Turn a checkpoint into a bundle: ONNX and TorchScript graphs, settings, hashes. Every graph must give what "
        "torch gives on CT slices with batches of 1, 2, 7 and the maximum, and both engines the same lesions at "
        "the operating point; otherwise the exit code is 1 and what the folder held stays.",
        [
            "lnsdk export run/second/checkpoint.ckpt -o bundle --threshold 0.95",
            "lnsdk export run/second/checkpoint.ckpt -o bundle --verify-on ct_folder other.nii.gz --threshold 0.95",
            "lnsdk export run/second/checkpoint.ckpt -o bundle --threshold 0.95 --fpr run/fpr/fpr.ckpt "
            "--fpr-threshold 0.9",
        ],
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint.ckpt of `lnsdk train`")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="folder of the bundle: new, empty, or an older bundle, which is replaced",
    )
    parser.add_argument("--name", default="lens", help="name of the model (default: lens)")
    parser.add_argument(
        "--verify-on",
        type=Path,
        nargs="+",
        default=[],
        metavar="CT",
        help="CTs for the gate (default: a phantom CT with lesions)",
    )
    parser.add_argument(
        "--threshold",
        type=score,
        required=True,
        help="operating point: the score from which lesions are reported (that of a training is in its bundle's card)",
    )
    parser.add_argument(
        "--fpr", type=Path, metavar="FILE", help="fpr.ckpt of `lnsdk train lens`, to go into the bundle"
    )
    parser.add_argument(
        "--fpr-threshold", type=score, help="operating point with false-positive reduction; goes with --fpr"
    )
    return parser
