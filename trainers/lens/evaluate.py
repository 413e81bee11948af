"""How good a bundle is: simulated test cases, the control without contrast, and the real lesions at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lnsdk import Detector, Volume, read
from lnsdk.bundle import read_bundle
from lnsdk.errors import InputError
from lnsdk.export.bundle import update_files
from lnsdk.pipelines.settings import read_settings
from lnsdk.trainers.common.backgrounds import Background, load_backgrounds
from lnsdk.trainers.common.evaluation import (
    Control,
    ControlCase,
    Detect,
    EvaluationCase,
    Found,
    from_detections,
    summarize,
    zero_contrast_control,
)
from lnsdk.trainers.common.evaluation import run as run_cases
from lnsdk.trainers.common.evaluation_report import write_report
from lnsdk.trainers.common.progress import TrainingProgress
from lnsdk.trainers.common.real_lesions import (
    median_size_mm,
    placements_markdown,
    rank_at,
    read_luna16_annotations,
    read_sarcoma_boxes,
    sarcoma_placements,
)
from lnsdk.trainers.common.simulation import CasePlan, evaluation_case, make_case, plan_evaluation
from lnsdk.trainers.lens.card import DIFFERENCES, add_measurements

SEEDS = (1, 2, 3)
"""Insertion seeds of the test set."""

PHANTOMS = 8
REPEATS = 2
LESIONS = 10
"""Per seed: phantoms, uses of every real CT kept for tests, and lesions in each volume at most."""

CONTROLS = 8
"""Cases of the first seed whose lesions are inserted once more without contrast."""

LUNA16_SERIES = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
"""LIDC-IDRI-0001, of which LUNA16 lists one nodule inside the slab."""


LUNA16_TABLE = "oracles/luna16/tables/annotations.csv"
SARCOMA_TABLE = "ct/sts/lesion_boxes.csv"
"""Tables of the real lesions, below the folder with the real CTs."""


def evaluate(
    bundle: Path | None,
    data_root: Path,
    out: Path,
    seeds: Sequence[int] = SEEDS,
    into_card: bool = False,
    experts: Sequence[str] | None = None,
    reduce_false_positives: bool = True,
) -> None:
    """Measure a bundle and write the report.

    Parameters
    ----------
    bundle : Path or None
        None measures the detector that is part of the package.
    data_root : Path
        Folder with the real CTs of the background catalogue.
    out : Path
        Receives the report of the simulated test set (Markdown, JSON, curves), `control.json` and `real_lesions.md`.
    seeds : sequence of int
        Insertion seeds.
    into_card : bool
        Write the results into the model card of `bundle` too, which must be named, and hash the bundle again.
    experts, reduce_false_positives
        As for `lnsdk.Detector`.

    Raises
    ------
    InputError
        ``no-card`` when a card is to be written and `bundle` is no folder with the card of a training.
        ``experts`` when the bundle has no expert of a name.
        ``data-root`` when a CT or a table of real lesions is not at its place; nothing was run then.
    """
    if into_card and (experts is not None or not reduce_false_positives):
        raise InputError("settings", "a card tells of the whole detector: --card goes without --experts and --no-fpr")
    card = _card(bundle) if into_card else None
    backgrounds = load_backgrounds(data_root, role="test")
    load_backgrounds(data_root, role="train")
    _check_tables(data_root)
    detector = _detector(bundle, experts, reduce_false_positives)

    def detect(volume: Volume) -> Found:
        return from_detections(detector(volume))

    out.mkdir(parents=True, exist_ok=True)
    plans = {seed: plan_evaluation(backgrounds, "test", PHANTOMS, REPEATS, LESIONS, seed) for seed in seeds}
    total = sum(map(len, plans.values()))
    with TrainingProgress("testing", total, 0) as progress:
        results = run_cases(detect, _cases(plans), lambda _: progress.advance({}))
    evaluation = summarize(results)
    write_report(evaluation, out, f"{detector.provenance.model}, test")

    control = zero_contrast_control(detect, _controls(_spread(plans[seeds[0]], CONTROLS)))
    settings = read_settings(read_bundle(bundle))
    point = settings.operating_point if detector.reduces_false_positives else settings.threshold
    record = _control_record(control, point)
    (out / "control.json").write_text(json.dumps(record, indent=1) + "\n")
    real_lesions = _real_lesions(detect, backgrounds, data_root)
    (out / "real_lesions.md").write_text(real_lesions)
    if card is not None:
        text = add_measurements(card.read_text(), evaluation, _describe(record), _one_level_down(real_lesions))
        card.write_text(text)
        update_files(card.parents[1], "docs/")


def _detector(bundle: Path | None, experts: Sequence[str] | None, reduce_false_positives: bool) -> Detector:
    """The detector that is measured: with every box it finds."""
    known = read_settings(read_bundle(bundle)).experts
    unknown = [name for name in experts or () if name not in known]
    if unknown:
        raise InputError("experts", f"the bundle has no expert {unknown[0]!r}, only {', '.join(known)}")
    return Detector(bundle, "onnx", threshold=0.0, experts=experts, reduce_false_positives=reduce_false_positives)


def _card(bundle: Path | None) -> Path:
    """Model card of a bundle folder that a training wrote."""
    card = bundle / "docs" / "README.md" if bundle is not None else None
    if card is None or not card.is_file() or DIFFERENCES not in card.read_text():
        raise InputError("no-card", "name the bundle folder whose card `lnsdk train` wrote: --bundle run/bundle")
    return card


def _describe(control: Mapping[str, Any]) -> str:
    """The record of the control in words."""
    (_, every), *types = control["insertions"].items()
    rises = ", ".join(f"{name} {row['mean_rise']:+.4f} ({row['changed']})" for name, row in types)
    return (
        f"Control: lesions inserted without contrast into {CONTROLS} volumes of the first seed. Of those that changed "
        f"a voxel at all, {every['changed']}, the score at their place rose by {every['mean_rise']:+.4f} on average "
        f"({rises}); {every['share_above_operating_point_before']:.1%} of the places reached the operating point "
        f"before, {every['share_above_operating_point_after']:.1%} after."
    )


def _one_level_down(markdown: str) -> str:
    """Markdown whose headings are one level lower, to be a section of another text."""
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in markdown.splitlines())


def _cases(plans: dict[int, list[CasePlan]]) -> Iterator[EvaluationCase]:
    """Every case of every seed, made when it is asked for."""
    for seed, cases in plans.items():
        for plan in cases:
            yield evaluation_case(make_case(plan), seed)


def _spread(plans: Sequence[CasePlan], count: int) -> list[CasePlan]:
    """So many of the plans, or all when there are fewer, evenly spread."""
    chosen = np.linspace(0, len(plans) - 1, min(count, len(plans))).round().astype(int)
    return [plans[i] for i in chosen]


def _controls(plans: Sequence[CasePlan]) -> Iterator[ControlCase]:
    """Each background untouched, and with its lesions inserted at zero contrast."""
    for plan in plans:
        untouched = make_case(plan.without_lesions())
        inserted = make_case(plan, contrast_scale=0.0)
        known = evaluation_case(inserted, plan.seed)
        yield ControlCase(untouched.volume, inserted.volume, known.boxes, known.types)


def _check_tables(data_root: Path) -> None:
    for name in (LUNA16_TABLE, SARCOMA_TABLE):
        if not (data_root / name).is_file():
            raise InputError("data-root", f"{data_root} must hold {name}, the table of real lesions; it is not there")


def _control_record(control: Control, operating_point: float) -> dict[str, Any]:
    """The control over all insertions that changed a voxel, and by lesion type."""
    types = np.array(control.types)
    rows = {"all": np.ones(len(types), bool)} | {name: types == name for name in sorted(set(control.types))}
    return {
        "operating_point": operating_point,
        "insertions": {
            name: _control_row(control.before[chosen], control.after[chosen], operating_point)
            for name, chosen in rows.items()
        },
    }


def _control_row(before: np.ndarray, after: np.ndarray, operating_point: float) -> dict[str, float]:
    """Scores without and with the insertions, their rise, and how many reach the operating point."""
    rise = after - before
    return {
        "changed": len(before),
        "mean_score_before": float(before.mean()),
        "mean_score_after": float(after.mean()),
        "mean_rise": float(rise.mean()),
        "rise_95th_percentile": float(np.percentile(rise, 95)),
        "share_above_operating_point_before": float((before >= operating_point).mean()),
        "share_above_operating_point_after": float((after >= operating_point).mean()),
    }


def _real_lesions(detect: Detect, backgrounds: Sequence[Background], data_root: Path) -> str:
    """The LIDC nodule's rank and the sarcomas' placements, in Markdown."""
    by_id = {background.id: background for background in backgrounds}
    volume = read(by_id["lidc_0001"].path)
    nodules = read_luna16_annotations(data_root / LUNA16_TABLE, LUNA16_SERIES)
    lines = ["# Real lesions", "", "## LIDC-IDRI-0001", ""]
    found = detect(volume)
    for nodule in nodules:
        ranked = rank_at(found, volume, nodule.center_mm, nodule.diameter_mm / 2)
        place = f"nodule of {nodule.diameter_mm:.1f} mm"
        if ranked is None:
            lines.append(f"- {place}: no box within its radius, {len(found.scores)} boxes in all")
        else:
            lines.append(
                f"- {place}: rank {ranked.rank} of {ranked.boxes}, score {ranked.score:.3f}, "
                f"{ranked.distance_mm:.1f} mm from its centre"
            )
    boxes = read_sarcoma_boxes(data_root / SARCOMA_TABLE)
    trained = load_backgrounds(data_root, role="train")
    known = [background for background in trained if background.patient in boxes]
    size = median_size_mm([boxes[b.patient] for b in known], [read(b.path).spacing for b in known])
    images = [(b.patient, read(b.path), boxes[b.patient]) for b in backgrounds if b.patient in boxes]
    table = placements_markdown(sarcoma_placements(detect, images, size))
    return "\n".join([*lines, "", "## Soft-tissue sarcomas", "", table])
