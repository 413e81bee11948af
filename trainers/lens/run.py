"""A LENS training from nothing to a bundle: simulate, train, export through the parity gate, choose the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lnsdk import Detector
from lnsdk.export.bundle import set_threshold
from lnsdk.phantom import describe_ranges
from lnsdk.trainers.common.backgrounds import load_backgrounds
from lnsdk.trainers.common.evaluation import CaseResult, EvaluationCase, from_detections, operating_point, summarize
from lnsdk.trainers.common.evaluation import run as run_cases
from lnsdk.trainers.common.evaluation_report import write_report
from lnsdk.trainers.common.progress import TrainingProgress
from lnsdk.trainers.common.samples import prepare_cases
from lnsdk.trainers.common.simulation import evaluation_case, make_case, plan_evaluation, plan_training
from lnsdk.trainers.lens.bundle import GATE_SCORE, write_lens_bundle
from lnsdk.trainers.lens.card import write_model_card
from lnsdk.trainers.lens.settings import LensSettings
from lnsdk.trainers.lens.train import train

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
    Console(stderr=True).print(describe_ranges())
    backgrounds = load_backgrounds(data_root, role="train") if data_root else ()
    plans = plan_training(backgrounds, settings.phantoms, settings.lesions, settings.seed)
    prepare_cases(plans, out / "cases")
    network = train(settings, out / "cases", out, [plan.id for plan in plans])

    cases = validation_cases(data_root, settings.seed)
    bundle, name = out / "bundle", f"lens-{preset}"
    write_lens_bundle(network, bundle, name, [cases[0].volume, cases[-1].volume], f"# {name}\n")
    results = validate(bundle, cases)
    evaluation = summarize(results)
    write_report(evaluation, out / "validation", f"{name}, validation")
    threshold = max(operating_point(results, FALSE_POSITIVES), GATE_SCORE)
    set_threshold(bundle, threshold)
    write_model_card(bundle, name, preset, settings, backgrounds, evaluation, threshold)
    return bundle


def validation_cases(data_root: Path | None, seed: int) -> list[EvaluationCase]:
    """The cases on which the operating point is chosen; none of their backgrounds is trained or tested on."""
    backgrounds = load_backgrounds(data_root, role="validation") if data_root else ()
    plans = plan_evaluation(
        backgrounds, "validation", VALIDATION_PHANTOMS, VALIDATION_REPEATS, VALIDATION_LESIONS, seed
    )
    return [evaluation_case(make_case(plan), seed) for plan in plans]


def validate(bundle: Path, cases: Sequence[EvaluationCase]) -> tuple[CaseResult, ...]:
    """Run a bundle over cases with a progress bar, keeping every detection."""
    detector = Detector(bundle, threshold=0.0)
    with TrainingProgress("validating", len(cases), 0) as progress:
        return run_cases(lambda volume: from_detections(detector(volume)), cases, lambda _: progress.advance({}))
