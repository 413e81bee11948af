"""``lnsdk export``: a checkpoint to a bundle, a bundle to lower precisions, both through the gate; or to Triton."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from lnsdk.cli.console import command_parser, exporter, natural, score, trainers
from lnsdk.cli.engines import SIMULATED
from lnsdk.errors import InputError


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when every graph passed the gate, 1 when one did not."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.checkpoint is None:
        if options.precision:
            return _lower(options, parser)
        if options.triton is None:
            parser.error("name a checkpoint, precisions for a bundle (--precision), or a model repository (--triton)")
        return _write_triton(options.bundle, options.triton)
    if options.output is None or options.threshold is None:
        parser.error("a checkpoint needs the bundle's folder and its operating point: --output and --threshold")
    if options.bundle is not None:
        raise InputError("settings", "--bundle names a bundle that is there, and a checkpoint makes one: leave one out")
    code = _export(options)
    return code if code or options.triton is None else _write_triton(options.output, options.triton)


def _lower(options: Namespace, parser: ArgumentParser) -> int:
    """Add precisions to a bundle."""
    if options.output is None:
        parser.error("--precision needs the folder of the bundle that is written: --output")
    from rich.console import Console

    from lnsdk.bundle import read_bundle
    from lnsdk.cli.verification_report import show_report
    from lnsdk.verification import ParityError, recorded_cases

    module = exporter("precisions")
    cases = list(recorded_cases(options.verify_on))
    try:
        report = module.add_precisions(
            read_bundle(options.bundle), options.output, options.precision, cases, options.simulated
        )
    except ParityError as error:
        print(f"lnsdk: the gate refused: {error}", file=sys.stderr)
        return 1
    show_report(report, Console(highlight=False, soft_wrap=True, markup=False))
    for precision in set(options.precision) - set(report.compared):
        print(
            f"{precision} was not compared: no engine of this machine computes in it; run lnsdk verify where one does"
        )
    print(f"written to {options.output}; what the gate found is in {module.REPORT}")
    return 0


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
    except import_module("lnsdk.verification").ParityError as error:
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
            "lnsdk export --bundle bundle -o lower --precision fp16 int8 --verify-on ct_folder other.nii.gz",
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
        help="CTs for the gate, and for the ranges of int8 (default: a phantom CT with lesions)",
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
        help="without a checkpoint: the bundle that --precision or --triton starts from (default: the one in the "
        "package)",
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=["fp16", "int8"],
        help="without a checkpoint: add graphs in these precisions to a bundle; int8 needs CTs (--verify-on)",
    )
    parser.add_argument(
        "--simulated",
        type=natural,
        default=SIMULATED,
        metavar="N",
        help=f"simulated CTs that the gate compares precisions on besides; int8 needs them (default: {SIMULATED})",
    )
    return parser
