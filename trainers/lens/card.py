"""Model card of a trained LENS bundle: what it learned from, how it measured on validation, what it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lnsdk.metrics.froc import FALSE_POSITIVES
from lnsdk.phantom import describe_ranges
from lnsdk.trainers.common.cases import GridCase, Origin
from lnsdk.trainers.common.evaluation import Evaluation, OperatingPoint
from lnsdk.trainers.common.evaluation_report import RECORDED, SIMULATED
from lnsdk.trainers.common.labels import UNKNOWN
from lnsdk.trainers.common.loop import GRADIENT_NORM
from lnsdk.trainers.common.simulation import SCOPES
from lnsdk.trainers.lens.fpr.settings import FprSettings
from lnsdk.trainers.lens.mining.mine import MiningReport
from lnsdk.trainers.lens.settings import PAPER_RUNTIME, LensSettings
from lnsdk.trainers.networks.lens import FULL_WINDOW

DIFFERENCES = "## Differs from the paper"
"""Last section of a card; what is measured later goes before it."""

MEASURED = "## Test (simulated lesions)"
"""First section of what is measured later."""

CARD = """# {name}

Finds lesions in CT: boxes with scores from four experts. **Research only; not a medical device.**

## Training data: {data}

{origin}

{scopes}

{mining}
{simulation}

## Network and training

LENS (Yan et al., IV-A to IV-C) with the sizes of the `{preset}` preset: {steps} steps of {batch} crops of nine slices,
{crop} x {crop} pixels, seed {seed}. {reduction}

## Validation ({data})

{volumes} volumes{kinds} of {patients} patients, phantoms counted as one each, with {lesions} lesions; none of these
patients was trained on. A hit has a 3D IoBB of at least 0.3.

| false positives per volume | {points} | mean |
|---|{rules}---|
| sensitivity | {sensitivity} | {mean:.3f} |

The operating point, a score of {point.threshold:.3f}, gives {point.false_positives:.2f} false positives per volume and
a sensitivity of {point.sensitivity:.3f}. It was chosen on the same set, so expect less of it elsewhere.

{last}

{differences}
"""

TEST = """{title}

{volumes} volumes ({real} with a real CT as background, {phantoms} phantoms) of {patients} patients, phantoms counted as
one each, neither trained nor validated on; {lesions} lesions, insertion seeds {seeds}. A hit has a 3D IoBB of at least
0.3. Sensitivity is the mean over 1/8 to 8 false positives per volume, with a 95 % interval from resampled patients.

| simulated lesions | number | sensitivity | 95 % interval |
|---|---|---|---|
{rows}

{control}

{real_lesions}
"""


SIMULATED_ORIGIN = (
    "All lesions that this model learned from are **simulated**: inserted into phantom and real CTs with known boxes. "
    "It has never seen a labelled real lesion, and nothing here says how it performs on patients."
)
RECORDED_ORIGIN = "The model learned from recorded CTs and their published annotations."
"""Where the lesions come from."""


@dataclass(frozen=True)
class Trained:
    """What a model was trained on, and how.

    Attributes
    ----------
    preset : str
        Name of the presets.
    start : str
        Weights that the training began with, in words.
    settings : LensSettings
        Of the detector.
    reduction : FprSettings or None
        Of false-positive reduction.
    origin : Origin
        Where the cases come from.
    cases : sequence of GridCase
        With the labels of the last training.
    mined : MiningReport or None
        What was mined, None where nothing was.
    """

    preset: str
    start: str
    settings: LensSettings
    reduction: FprSettings | None
    origin: Origin
    cases: Sequence[GridCase]
    mined: MiningReport | None


def model_card(
    name: str,
    trained: Trained,
    evaluation: Evaluation,
    point: OperatingPoint,
) -> str:
    """The `docs/README.md` of a bundle."""
    settings = trained.settings
    curve = evaluation.rows[0].froc
    return CARD.format(
        name=name,
        data=SIMULATED if trained.origin.simulated else RECORDED,
        origin=SIMULATED_ORIGIN if trained.origin.simulated else RECORDED_ORIGIN,
        scopes="\n".join(_scope(scope.name, trained.cases) for scope in SCOPES),
        mining=_mining(trained.mined),
        reduction=_reduction(trained.reduction),
        simulation=_simulation(trained.origin),
        kinds=_kinds(evaluation, trained.origin),
        patients=evaluation.patients,
        preset=trained.preset,
        steps=settings.steps or f"{settings.epochs} epochs of",
        batch=settings.batch,
        crop=settings.crop,
        seed=settings.seed,
        volumes=curve.volumes,
        lesions=curve.lesions,
        points=" | ".join(f"{point:g}" for point in FALSE_POSITIVES),
        rules="---|" * len(FALSE_POSITIVES),
        sensitivity=" | ".join(f"{value:.3f}" for value in curve.sensitivity),
        mean=curve.mean_sensitivity,
        point=point,
        last=DIFFERENCES,
        differences=differences(settings, trained.origin, trained.start),
    )


def add_measurements(card: str, evaluation: Evaluation, control: str, real_lesions: str) -> str:
    """A card with the sections of a test, in place of those of an earlier one.

    Parameters
    ----------
    card : str
        Markdown, written by `model_card`.
    evaluation : Evaluation
        On the simulated test set.
    control, real_lesions : str
        Paragraph about the control, and sections about real lesions with headings of their own.

    Returns
    -------
    str
    """
    before, last, differs = card.partition(DIFFERENCES)
    tables = ("ranking", "lesion type", "lesion size", "background")
    chosen = [row for row in evaluation.rows if row.table in tables and (row.ranking, row.overlap) == ("fused", "iobb")]
    rows = [
        f"| {'all' if row.table == 'ranking' else row.label} | {row.froc.lesions} | {row.froc.mean_sensitivity:.3f} | "
        f"{row.froc.mean_interval[0]:.3f} to {row.froc.mean_interval[1]:.3f} |"
        for row in chosen
    ]
    test = TEST.format(
        title=MEASURED,
        volumes=sum(evaluation.volumes.values()),
        real=evaluation.volumes["real"],
        phantoms=evaluation.volumes["phantom"],
        patients=evaluation.patients,
        lesions=evaluation.lesions,
        seeds=", ".join(map(str, evaluation.seeds)),
        rows="\n".join(rows),
        control=control,
        real_lesions=real_lesions.strip(),
    )
    return before.partition(MEASURED)[0].rstrip() + "\n\n" + test + "\n" + last + differs


def _scope(expert: str, cases: Sequence[GridCase]) -> str:
    """What an expert learned from."""
    own = [case for case in cases if case.expert == expert]
    patients = len({case.patient or case.name for case in own})
    lesions = sum(len(np.unique(case.labels.lesion)) for case in own)
    boxes = sum(len(case.labels.boxes) for case in own)
    types = sorted({case.labels.types[lesion] for case in own for lesion in case.labels.lesion} - {UNKNOWN})
    named = f" ({', '.join(types)})" if types else ""
    return (
        f"- expert `{expert}`: {len(own)} volumes of {patients} patients, {lesions} lesions, labelled or mined{named}, "
        f"with {boxes} boxes on slices"
    )


def _mining(mined: MiningReport | None) -> str:
    """What was mined, in words and as Table IV lists it."""
    if mined is None:
        return "No missing annotation was mined (V): lesions that nobody labelled train as background."
    return (
        "Labels of the universal set after each strategy of mining (V), from the radiologists' marks on key slices to "
        f"what the last training knew:\n\n{mined.markdown()}"
    )


def _reduction(settings: FprSettings | None) -> str:
    if settings is None:
        return "False-positive reduction (IV-D) is not part of it."
    return (
        f"False-positive reduction (IV-D) looks at the {settings.boxes} best boxes of a volume and averages its score "
        "with the detector's (eq. 4); the others get half of the detector's score. It was trained for "
        f"{settings.epochs} epochs."
    )


def _kinds(evaluation: Evaluation, origin: Origin) -> str:
    if not origin.simulated:
        return ""
    real, phantoms = evaluation.volumes["real"], evaluation.volumes["phantom"]
    return f" ({real} with a real CT as background, {phantoms} phantoms)"


def _simulation(origin: Origin) -> str:
    """What the simulated lesions were put into, and their ranges."""
    if not origin.simulated:
        return ""
    ranges = f"Ranges of the simulated lesions, fixed before training:\n\n```\n{describe_ranges()}\n```"
    return f"\n{_backgrounds(origin.real_cts)}\n\n{ranges}\n"


def _backgrounds(real_cts: Sequence[str]) -> str:
    """Which real CTs were trained on, and on what terms."""
    if not real_cts:
        return "No real CT was used."
    names = ", ".join(real_cts)
    return (
        f"Real backgrounds: {names}. They carry attribution licences (TCIA CC BY; TotalSegmentator Apache-2.0); no "
        "image of theirs is part of this bundle."
    )


def differences(settings: LensSettings, origin: Origin, start: str) -> str:
    """What this training, which began with `start`, and its detector do otherwise than the paper: a Markdown list."""
    runtime = settings.runtime
    windows = ", ".join(f"{low:g} to {high:g}" for low, high in settings.shape.windows)
    rows = [
        *(["data: simulated lesions in place of the paper's four datasets of real ones"] if origin.simulated else []),
        f"input: HU windows {windows}; the paper has one, {FULL_WINDOW[0]:g} to {FULL_WINDOW[1]:g}",
        f"start: {start}",
        f"base learning rate {settings.learning_rate:g}; the paper's is 0.0001",
        "augmentation: flips along x and z, and noise, besides the paper's resizing and shifts",
        "bfloat16 convolutions" if settings.bfloat16 else "float32 throughout",
        f"gradients clipped to a norm of {GRADIENT_NORM:g}",
        f"a batch's data set is drawn by its number of labelled lesions to the power {settings.size_exponent:g}"
        + (", lesions by their type, each equally likely" if settings.balance_types else ""),
        f"detector: {runtime.proposals['post_nms']} proposals per slice, boxes above a score of "
        f"{runtime.detections['min_score']:g}, stacked at an IoU above {runtime.detections['stack_iou']:g} (paper: "
        f"{PAPER_RUNTIME.proposals['post_nms']}, {PAPER_RUNTIME.detections['min_score']:g}, "
        f"{PAPER_RUNTIME.detections['stack_iou']:g})",
    ]
    return "\n".join(f"- {row}" for row in rows)
