"""A LENS training from nothing to a bundle: simulate, train, export through the parity gate, choose the threshold."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from lnsdk import Detector
from lnsdk.export.bundle import set_threshold
from lnsdk.metrics import Froc, froc
from lnsdk.phantom import describe_ranges
from lnsdk.trainers.common.backgrounds import load_backgrounds
from lnsdk.trainers.common.progress import TrainingProgress, save_froc_curve
from lnsdk.trainers.common.samples import prepare_cases
from lnsdk.trainers.common.simulation import Case, make_case, plan_evaluation, plan_training
from lnsdk.trainers.lens.bundle import write_lens_bundle
from lnsdk.trainers.lens.card import model_card
from lnsdk.trainers.lens.settings import LensSettings
from lnsdk.trainers.lens.train import train

FALSE_POSITIVES = 1.0
"""False positives per validation volume at the operating point that a bundle stores."""

VALIDATION_PHANTOMS = 8
VALIDATION_REPEATS = 2
VALIDATION_LESIONS = 8
"""The validation set: phantoms, uses of every real CT kept for validation, and lesions in each at most."""


def run(settings: LensSettings, name: str, data_root: Path | None, out: Path) -> Path:
    """Train and export.

    Parameters
    ----------
    settings : LensSettings
        What to train.
    name : str
        Name of the model.
    data_root : Path or None
        Folder with the real CTs of the background catalogue; None trains on phantoms only.
    out : Path
        Receives `cases/`, `checkpoint.ckpt`, the curves, and `bundle/`. What is already there is not made again.

    Returns
    -------
    Path
        The bundle.
    """
    console = Console(stderr=True)
    console.print(describe_ranges())
    backgrounds = load_backgrounds(data_root, role="train") if data_root else ()
    prepare_cases(plan_training(backgrounds, settings.phantoms, settings.lesions, settings.seed), out / "cases")
    network = train(settings, out / "cases", out)
    cases = validation_cases(data_root, settings.seed)
    bundle = out / "bundle"
    write_lens_bundle(network, bundle, name, [cases[0].volume, cases[-1].volume], "")
    curve = validate(bundle, cases)
    set_threshold(bundle, min(curve.threshold_at(FALSE_POSITIVES), 1.0))
    save_froc_curve(out / "froc.png", {"validation (simulated lesions)": curve})
    model_card(bundle, settings, backgrounds, curve)
    return bundle


def validation_cases(data_root: Path | None, seed: int) -> list[Case]:
    """The cases on which the operating point is chosen; none of their backgrounds is trained or tested on."""
    backgrounds = load_backgrounds(data_root, role="validation") if data_root else ()
    plans = plan_evaluation(
        backgrounds, "validation", VALIDATION_PHANTOMS, VALIDATION_REPEATS, VALIDATION_LESIONS, seed
    )
    return [make_case(plan) for plan in plans]


def validate(bundle: Path, cases: list[Case]) -> Froc:
    """FROC of a bundle on fully labelled cases (3D IoBB of at least 0.3, LENS VI-C)."""
    detector = Detector(bundle, threshold=0.0)
    predictions = []
    with TrainingProgress("validating", len(cases), 0) as progress:
        for case in cases:
            lesions = detector(case.volume).lesions
            predictions.append(([lesion.box for lesion in lesions], [lesion.score for lesion in lesions]))
            progress.advance({})
    truths = [[lesion.box for lesion in case.lesions] for case in cases]
    return froc(predictions, truths, ignore=[case.ignored for case in cases])
