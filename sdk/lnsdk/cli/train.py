"""``lnsdk train``: train a method, from simulated cases to a verified bundle."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lnsdk.cli.console import command_parser, output_folder, positive
from lnsdk.errors import BackendUnavailable, InputError

DATA_VARIABLE = "LNSDK_DATA"
"""Environment variable that names the folder with the real CTs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when the bundle was written, 1 when it did not pass the gate."""
    options = _parser().parse_args(arguments)
    run, presets, parity_error = _trainer()
    try:
        settings = presets[options.preset](**_changes(options))
    except ValueError as error:
        raise InputError("settings", str(error)) from error
    data = options.data or os.environ.get(DATA_VARIABLE)
    if data is None and not options.phantoms_only:
        raise InputError(
            "no-data",
            f"name the folder with the real CTs (--data DIR or {DATA_VARIABLE}), or pass --phantoms-only to train on "
            "phantom CTs alone",
        )
    root = None if options.phantoms_only or data is None else Path(data)
    if root is not None and not root.is_dir():
        raise InputError("no-data", f"there is no folder at {root}; --data names the folder that holds ct/")
    try:
        bundle = run(settings, options.preset, root, output_folder(options.output))
    except parity_error as error:
        print(f"lnsdk: the parity gate failed: {error}", file=sys.stderr)
        return 1
    print(f"written to {bundle}")
    return 0


def _trainer() -> tuple[Any, Any, Any]:
    """The training code, which needs the `train` extra."""
    try:
        from lnsdk.export.parity import ParityError
        from lnsdk.trainers.lens.run import run
        from lnsdk.trainers.lens.settings import PRESETS
    except ImportError as error:
        raise BackendUnavailable(f"training: {error}; install it with `pip install 'lnsdk[train]'`") from error
    return run, PRESETS, ParityError


def _changes(options: Namespace) -> dict[str, Any]:
    """Settings that the user changed."""
    names = ("steps", "seed", "phantoms", "lesions", "imagenet", "from_scratch", "compile", "checkpoint_every")
    given = {name: getattr(options, name) for name in names}
    return {name: value for name, value in given.items() if value is not None and value is not False}


def _parser() -> ArgumentParser:
    parser = command_parser(
        "train",
        "Train LENS on CTs with simulated lesions: simulate the cases, train, export through the parity gate and "
        "choose the operating point. Started again with the same folder, it goes on where it stopped.",
        [
            "lnsdk train lens --preset edge --data data -o run",
            "lnsdk train lens --preset edge --phantoms-only --phantoms 4 -o try",
            "lnsdk train lens --preset paper --imagenet densenet121.pth --data data -o run",
        ],
    )
    parser.add_argument("method", choices=["lens"], help="what to train")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run; made when missing")
    parser.add_argument("--preset", choices=["edge", "paper"], default="edge", help="sizes and schedule (edge)")
    parser.add_argument("--data", type=Path, help=f"folder with the real CTs (default: {DATA_VARIABLE})")
    parser.add_argument("--phantoms-only", action="store_true", help="train without real CTs")
    parser.add_argument("--imagenet", type=Path, help="file with torchvision's DenseNet-121 ImageNet weights")
    parser.add_argument("--from-scratch", action="store_true", help="start the paper preset from random weights")
    parser.add_argument("--steps", type=positive, help="optimizer steps (default: the preset's)")
    parser.add_argument("--seed", type=int, help="seed of data, weights and order, 0 to 99 (default: 0)")
    parser.add_argument(
        "--phantoms",
        type=positive,
        help="phantom CTs per dataset, twice as many in the universal one (default: the preset's)",
    )
    parser.add_argument("--lesions", type=positive, help="lesions inserted in a CT at most (default: the preset's)")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the network first: two minutes and a C++ compiler for steps that take a quarter less time",
    )
    parser.add_argument("--checkpoint-every", type=positive, help="steps between checkpoints (default: 500)")
    return parser
