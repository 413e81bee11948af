"""Model card of a trained LENS bundle: what it learned from, how it measured on validation, what it is not."""

from __future__ import annotations

from collections.abc import Sequence

from lnsdk.metrics.froc import FALSE_POSITIVES
from lnsdk.phantom import describe_ranges
from lnsdk.trainers.common.backgrounds import Background
from lnsdk.trainers.common.evaluation import Evaluation, OperatingPoint
from lnsdk.trainers.common.simulation import SCOPES, training_phantoms
from lnsdk.trainers.lens.settings import PAPER_RUNTIME, LensSettings
from lnsdk.trainers.lens.train import GRADIENT_NORM
from lnsdk.trainers.networks.lens import FULL_WINDOW

DIFFERENCES = "## Differs from the paper"
"""Last section of a card; what is measured later goes before it."""

MEASURED = "## Test (simulated lesions)"
"""First section of what is measured later."""

CARD = """# {name}

Finds lesions in CT: boxes with scores from four experts. **Research only; not a medical device.**

## Training data: simulated lesions

All lesions that this model learned from are **simulated**: inserted into {real} real CTs and {phantoms} phantom CTs
with known boxes. It has never seen a labelled real lesion, and nothing here says how it performs on patients.

{scopes}

{backgrounds}

Ranges of the simulated lesions, fixed before training:

```
{ranges}
```

## Network and training

LENS (Yan et al., IV-A to IV-C) with the sizes of the `{preset}` preset: {steps} steps of {batch} crops of nine slices,
{crop} x {crop} pixels, seed {seed}. False-positive reduction (IV-D) and mining of missing annotations (V) are not part
of it.

## Validation (simulated lesions)

{volumes} volumes ({validation_real} with a real CT as background, {validation_phantoms} phantoms) of {patients}
patients, phantoms counted as one each, with {lesions} lesions; none of these backgrounds was trained on. A hit has a 3D
IoBB of at least 0.3.

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


def model_card(
    name: str,
    preset: str,
    settings: LensSettings,
    backgrounds: Sequence[Background],
    evaluation: Evaluation,
    point: OperatingPoint,
) -> str:
    """The `docs/README.md` of a bundle."""
    scopes = "\n".join(
        f"- expert `{scope.name}`: {', '.join(scope.types)}; "
        + (
            "all labelled"
            if scope.labelled == 1
            else f"{scope.labelled:.0%} of them labelled; the rest are in the image and train as background"
        )
        for scope in SCOPES
    )
    curve = evaluation.rows[0].froc
    return CARD.format(
        name=name,
        real=len(backgrounds),
        phantoms=training_phantoms(settings.phantoms),
        scopes=scopes,
        backgrounds=_origins(backgrounds),
        validation_real=evaluation.volumes["real"],
        validation_phantoms=evaluation.volumes["phantom"],
        patients=evaluation.patients,
        ranges=describe_ranges(),
        preset=preset,
        steps=settings.steps,
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
        differences=differences(settings),
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


def _origins(backgrounds: Sequence[Background]) -> str:
    """Which real CTs were trained on, and on what terms."""
    if not backgrounds:
        return "No real CT was used."
    names = ", ".join(background.id for background in backgrounds)
    return (
        f"Real backgrounds: {names}. They carry attribution licences (TCIA CC BY; TotalSegmentator Apache-2.0); no "
        "image of theirs is part of this bundle."
    )


def differences(settings: LensSettings) -> str:
    """What this training and its detector do otherwise than the paper, as a Markdown list."""
    runtime = settings.runtime
    windows = ", ".join(f"{low:g} to {high:g}" for low, high in settings.shape.windows)
    start = "random weights" if settings.imagenet is None else "ImageNet weights, as the paper"
    rows = [
        "data: simulated lesions in place of the paper's four datasets of real ones",
        f"input: HU windows {windows}; the paper has one, {FULL_WINDOW[0]:g} to {FULL_WINDOW[1]:g}",
        f"start: {start}",
        f"base learning rate {settings.learning_rate:g}; the paper's is 0.0001",
        "augmentation: flips along x and z, and noise, besides the paper's resizing and shifts",
        "bfloat16 convolutions" if settings.bfloat16 else "float32 throughout",
        f"gradients clipped to a norm of {GRADIENT_NORM:g}",
        "each batch's dataset is chosen in proportion to its CTs; lesions to crop around by type, each equally likely",
        f"detector: {runtime.proposals['post_nms']} proposals per slice, boxes above a score of "
        f"{runtime.detections['min_score']:g}, stacked at an IoU above {runtime.detections['stack_iou']:g} (paper: "
        f"{PAPER_RUNTIME.proposals['post_nms']}, {PAPER_RUNTIME.detections['min_score']:g}, "
        f"{PAPER_RUNTIME.detections['stack_iou']:g})",
    ]
    return "\n".join(f"- {row}" for row in rows)
