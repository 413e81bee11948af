"""A LENS training from nothing to a bundle: simulate, train, export through the parity gate, choose the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from lnsdk import Detector
from lnsdk.errors import InputError
from lnsdk.export.bundle import check_output
from lnsdk.phantom import describe_ranges
from lnsdk.trainers.common.backgrounds import load_backgrounds
from lnsdk.trainers.common.cases import prepare_cases, read_grid_cases
from lnsdk.trainers.common.evaluation import CaseResult, from_detections, operating_point, summarize
from lnsdk.trainers.common.evaluation import run as run_cases
from lnsdk.trainers.common.evaluation_report import write_report
from lnsdk.trainers.common.progress import TrainingProgress
from lnsdk.trainers.common.simulation import (
    SCOPES,
    CasePlan,
    check_seed,
    evaluation_case,
    make_case,
    plan_evaluation,
    plan_training,
)
from lnsdk.trainers.lens.bundle import Verdict, write_lens_bundle
from lnsdk.trainers.lens.card import model_card
from lnsdk.trainers.lens.checkpoint import first_line
from lnsdk.trainers.lens.settings import LensSettings
from lnsdk.trainers.lens.train import by_expert, train
from lnsdk.trainers.networks.densenet import load_imagenet
from lnsdk.trainers.networks.lens import Lens

FALSE_POSITIVES = 1.0
"""False positives per validation volume at the operating point that a bundle stores."""

VALIDATION_PHANTOMS = 8
VALIDATION_REPEATS = 3
VALIDATION_LESIONS = 8
"""The validation set: phantoms, uses of every real CT kept for validation, and lesions in each at most."""


def run(settings: LensSettings, preset: str, data_root: Path | None, out: Path) -> Path:
    """Train and export.

    Parameters
    ----------
    settings : LensSettings
        What to train.
    preset : str
        Name of the settings' preset; the model is called lens-PRESET.
    data_root : Path or None
        Folder with the real CTs of the background catalogue; None trains on phantoms only.
    out : Path
        Receives `cases/`, `checkpoint.ckpt`, the curves, `validation/` and `bundle/`. Cases and steps that are already
        there are not made again.

    Returns
    -------
    Path
        The bundle.
    """
    bundle = out / "bundle"
    check_output(bundle)
    check_seed(settings.seed)
    if settings.imagenet is not None:
        load_imagenet(Lens(len(SCOPES), settings.shape).backbone, settings.imagenet)  # said now, not after simulating
    if settings.compile:
        check_compiler()
    backgrounds = load_backgrounds(data_root, role="train") if data_root else ()
    validation = validation_plans(data_root, settings.seed)
    plans = plan_training(backgrounds, settings.phantoms, settings.lesions, settings.seed)
    Console(stderr=True, soft_wrap=True).print(describe_ranges())
    prepare_cases(plans, out / "cases")
    network = train(settings, by_expert(read_grid_cases(out / "cases", [plan.id for plan in plans])), out)

    name = f"lens-{preset}"

    def evaluate(detector: Detector) -> Verdict:
        results = validate(detector, validation, settings.seed)
        evaluation = summarize(results)
        write_report(evaluation, out / "validation", f"{name}, validation")
        point = operating_point(results, FALSE_POSITIVES)
        return Verdict(point.threshold, model_card(name, preset, settings, backgrounds, evaluation, point))

    gate = [make_case(plan).volume for plan in (validation[0], validation[-1])]
    write_lens_bundle(network, bundle, name, gate, evaluate)
    return bundle


def check_compiler() -> None:
    """Compile next to nothing, to learn now and not after simulating whether this machine can.

    Raises
    ------
    InputError
        ``compiler``.
    """
    try:
        torch.compile(torch.sin)(torch.ones(1))
    except RuntimeError as error:
        reason = first_line(error)
        raise InputError(
            "compiler",
            f"--compile needs a C++ compiler that torch can use ({reason}); install one or leave --compile out",
        ) from error


def validation_plans(data_root: Path | None, seed: int) -> list[CasePlan]:
    """The cases on which the operating point is chosen; none of their backgrounds is trained or tested on."""
    backgrounds = load_backgrounds(data_root, role="validation") if data_root else ()
    return plan_evaluation(backgrounds, "validation", VALIDATION_PHANTOMS, VALIDATION_REPEATS, VALIDATION_LESIONS, seed)


def validate(detector: Detector, plans: Sequence[CasePlan], seed: int) -> tuple[CaseResult, ...]:
    """Run a detector over cases with a progress bar, one volume in memory at a time."""
    cases = (evaluation_case(make_case(plan), seed) for plan in plans)
    with TrainingProgress("validating", len(plans), 0) as progress:
        return run_cases(lambda volume: from_detections(detector(volume)), cases, lambda _: progress.advance({}))
