"""``lnsdk export``: a training's checkpoint to a bundle, through the parity gate; a bundle to a Triton repository."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from lnsdk.cli.console import command_parser, score, trainers
from lnsdk.errors import InputError


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when every graph passed the gate, 1 when one did not."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.checkpoint is None:
        if options.triton is None:
            parser.error("name a checkpoint, or a folder for the model repository (--triton)")
        return _write_triton(options.bundle, options.triton)
    if options.output is None or options.threshold is None:
        parser.error("a checkpoint needs the bundle's folder and its operating point: --output and --threshold")
    if options.bundle is not None:
        raise InputError("settings", "--bundle names a bundle that is there, and a checkpoint makes one: leave one out")
    code = _export(options)
    return code if code or options.triton is None else _write_triton(options.output, options.triton)


def _write_triton(bundle: Path | None, folder: Path) -> int:
    from lnsdk.bundle import read_bundle
    from lnsdk.export.triton import write_triton

    for version in write_triton(read_bundle(bundle), folder):
        print(f"written: {version}")
    return 0


def _export(options: Namespace) -> int:
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
            "lnsdk export --triton repository                # the model in the package, or --bundle's",
        ],
    )
    parser.add_argument("checkpoint", type=Path, nargs="?", help="checkpoint.ckpt of `lnsdk train`")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
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
        help="operating point: the score from which lesions are reported (that of a training is in its bundle's card)",
    )
    parser.add_argument(
        "--fpr", type=Path, metavar="FILE", help="fpr.ckpt of `lnsdk train lens`, to go into the bundle"
    )
    parser.add_argument(
        "--fpr-threshold", type=score, help="operating point with false-positive reduction; goes with --fpr"
    )
    parser.add_argument(
        "--triton",
        type=Path,
        metavar="DIR",
        help="write every graph as a model of a repository for NVIDIA's Triton Inference Server, too; models that are "
        "there get another version",
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        help="without a checkpoint: the bundle whose graphs go to --triton (default: the one in the package)",
    )
    return parser
