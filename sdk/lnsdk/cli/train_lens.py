"""``lnsdk train lens``: train LENS, from simulated cases to a verified bundle."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from lnsdk.cli.console import (
    DATA_VARIABLE,
    PHANTOMS_ALONE,
    command_parser,
    distance,
    output_folder,
    positive,
    real_cts,
    trainers,
)
from lnsdk.errors import InputError


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when the bundle was written, 1 when it did not pass the gate."""
    options = _parser().parse_args(arguments)
    training = trainers("lens.run")
    if options.delta is not None and options.no_mining:
        raise InputError("settings", "--delta is for mining, and --no-mining leaves it out: choose one of them")
    if options.patients is not None and options.cases is not None:
        raise InputError("settings", "--patients simulates and --cases takes what is there: choose one of them")
    try:
        framework = training.preset(options.preset, options.imagenet_resnet, not options.no_fpr, **_changes(options))
    except ValueError as error:
        raise InputError("settings", str(error)) from error
    framework = replace(framework, mining=not options.no_mining, delta=options.delta)
    if options.patients is not None:
        framework = replace(framework, patients=replace(framework.patients, patients=options.patients))
    alone = options.phantoms_only or (options.cases is not None and options.data is None)
    root = real_cts(options.data, alone, PHANTOMS_ALONE)
    try:
        bundle = training.run(framework, root, output_folder(options.output), options.cases)
    except import_module("lnsdk.verification").ParityError as error:
        print(f"lnsdk: the parity gate failed: {error}", file=sys.stderr)
        return 1
    print(f"written to {bundle}")
    return 0


def _changes(options: Namespace) -> dict[str, Any]:
    """Settings that the user changed."""
    names = ("steps", "seed", "imagenet", "features", "from_scratch", "compile", "checkpoint_every")
    given = {name: getattr(options, name) for name in names}
    return {name: value for name, value in given.items() if value is not None and value is not False}


def _parser() -> ArgumentParser:
    parser = command_parser(
        "train lens",
        "Train LENS in the steps of its paper: train on the labels there are, mine missing annotations, train again\n"
        "with them, train false-positive reduction on what the detector finds; then export through the parity gate\n"
        "and choose the operating point. Started again with the same folder, it goes on where it stopped.",
        [
            "lnsdk train lens --preset edge --data data -o run",
            "lnsdk train lens --phantoms-only --patients 6 --steps 500 -o try",
            "lnsdk train lens --preset paper --imagenet densenet121.pth --imagenet-resnet resnet18.pth --cases cases "
            "--delta 0.3 -o run",
        ],
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run; made when missing")
    parser.add_argument("--preset", choices=["edge", "paper"], default="edge", help="sizes and schedule (edge)")
    parser.add_argument(
        "--cases", type=Path, metavar="DIR", help="cases made by `lnsdk train lens-data` (default: simulate them)"
    )
    parser.add_argument("--patients", type=positive, metavar="N", help="phantom patients to simulate (default: 64)")
    parser.add_argument("--data", type=Path, metavar="DIR", help=f"folder with the real CTs (default: {DATA_VARIABLE})")
    parser.add_argument("--phantoms-only", action="store_true", help="train without real CTs")
    parser.add_argument("--imagenet", type=Path, help="file with torchvision's DenseNet-121 ImageNet weights")
    parser.add_argument("--imagenet-resnet", type=Path, help="file with torchvision's ResNet-18 ImageNet weights")
    parser.add_argument(
        "--features",
        type=Path,
        metavar="FILE",
        help="checkpoint of a pretraining or training whose features to start from (edge pretrains its own on organs)",
    )
    parser.add_argument("--from-scratch", action="store_true", help="start the paper preset from random weights")
    parser.add_argument("--steps", type=positive, help="optimizer steps (default: the preset's)")
    parser.add_argument("--seed", type=int, help="seed of data, weights and order, 0 to 99 (default: 0)")
    parser.add_argument(
        "--delta",
        type=distance,
        help="embedding distance below which two boxes are the same lesion (default: chosen on validation patients)",
    )
    parser.add_argument("--no-mining", action="store_true", help="train once, on the labels there are")
    parser.add_argument("--no-fpr", action="store_true", help="leave false-positive reduction out")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the network first: two minutes and a C++ compiler for steps that take a quarter less time",
    )
    parser.add_argument("--checkpoint-every", type=positive, help="steps between checkpoints (default: 500)")
    return parser
