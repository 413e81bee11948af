"""Writes an evaluation as JSON, Markdown tables and a picture; each says whether its lesions are simulated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from lnsdk.metrics import HIT_OVERLAP
from lnsdk.report.curve import Line, Panel, draw_curves, fraction
from lnsdk.trainers.common.evaluation import Evaluation, Row

SIMULATED: Final = "simulated lesions"
RECORDED: Final = "annotated lesions of recorded CTs"
"""What every table, figure and file says that it was measured on."""

EXPERT_NOTE: Final = (
    "Rows of an expert rank the boxes that all experts found together by that expert's score alone; they do not show "
    "what the expert would find by itself."
)
"""Stands under every table with experts' rows."""

_NAMES: Final = {"iobb": "IoBB", "iou": "IoU"}


class ReportFiles(NamedTuple):
    """Where a report was written.

    Attributes
    ----------
    json, markdown, picture : Path
        Its three files.
    """

    json: Path
    markdown: Path
    picture: Path


def write_report(evaluation: Evaluation, folder: Path, title: str, data: str = SIMULATED) -> ReportFiles:
    """Write ``froc.json``, ``froc.md`` and ``froc.png`` into a folder.

    Parameters
    ----------
    evaluation : Evaluation
        What to write.
    folder : Path
        Made when missing.
    title : str
        What was evaluated.
    data : str
        `SIMULATED` or `RECORDED`.

    Returns
    -------
    ReportFiles
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = ReportFiles(folder / "froc.json", folder / "froc.md", folder / "froc.png")
    files.json.write_text(json.dumps(as_json(evaluation, title, data), indent=1) + "\n", encoding="utf-8")
    files.markdown.write_text(as_markdown(evaluation, title, data), encoding="utf-8")
    draw_picture(evaluation, files.picture, title, data)
    return files


def as_json(evaluation: Evaluation, title: str, data: str = SIMULATED) -> dict[str, Any]:
    """All rows with their curves' values at the false positives asked for."""
    return {
        "title": title,
        "data": data,
        "overlap_of_a_hit": HIT_OVERLAP,
        "volumes": dict(evaluation.volumes),
        "lesions": evaluation.lesions,
        "insertion_seeds": list(evaluation.seeds),
        "bootstraps_over_patients": evaluation.bootstraps,
        "patients": evaluation.patients,
        "experts": list(evaluation.experts),
        "threshold_at_one_false_positive_per_volume": _number(evaluation.overall.threshold_at(1.0)),
        "rows": [
            {
                "table": row.table,
                "label": row.label,
                "ranking": row.ranking,
                "overlap": row.overlap,
                "volumes": row.froc.volumes,
                "lesions": row.froc.lesions,
                "false_positives_per_volume": row.froc.false_positives.tolist(),
                "sensitivity": _numbers(row.froc.sensitivity),
                "interval_95": [_numbers(ends) for ends in row.froc.interval],
                "mean_sensitivity": _number(row.froc.mean_sensitivity),
                "mean_interval_95": _numbers(row.froc.mean_interval),
            }
            for row in evaluation.rows
        ],
    }


def as_markdown(evaluation: Evaluation, title: str, data: str = SIMULATED) -> str:
    """One table per way of telling lesions apart, sensitivity at each number of false positives per volume."""
    lines = [
        f"# {title} ({data})",
        "",
        f"{_what(evaluation, data)} Sensitivity at false positives per volume; a hit has a 3D overlap of at least "
        f"{HIT_OVERLAP}. The last column is the mean's 95 % interval from {evaluation.bootstraps} resamples of the "
        f"{evaluation.patients} patients and phantoms behind the volumes. Groups of lesions share the false positives "
        "of all detections.",
    ]
    for table, rows in _tables(evaluation.rows):
        lines += ["", f"## By {table} ({data})", "", *_table(rows, data)]
        if any(row.ranking != "fused" for row in rows):
            lines += ["", EXPERT_NOTE]
    return "\n".join(lines) + "\n"


def draw_picture(evaluation: Evaluation, path: Path, title: str, data: str = SIMULATED) -> None:
    """Draw the curves of the fused detector and the experts, and those of the lesion types, as a PNG."""
    panels = (
        ("by ranking", [row for row in evaluation.rows if row.table == "ranking" and row.overlap == "iobb"]),
        ("by lesion type, fused", [row for row in evaluation.rows if row.table == "lesion type"]),
    )
    draw_curves(
        path,
        [
            Panel(f"{data}, {name}", [Line(_label(row), row.froc, main=row.label == "fused") for row in rows])
            for name, rows in panels
        ],
        f"{title} ({data}: {evaluation.lesions} in {sum(evaluation.volumes.values())} volumes)",
        hit=f"3D IoBB of at least {HIT_OVERLAP}",
    )


def _what(evaluation: Evaluation, data: str) -> str:
    """What the volumes and lesions are."""
    real, phantom = evaluation.volumes["real"], evaluation.volumes["phantom"]
    if data != SIMULATED:
        return f"{evaluation.lesions} lesions that others annotated in {real + phantom} recorded CTs."
    return (
        f"All lesions are simulated: {evaluation.lesions} in {real + phantom} volumes, {real} with a real CT as "
        f"background and {phantom} with a phantom; insertion seeds {', '.join(map(str, evaluation.seeds))}."
    )


def _label(row: Row) -> str:
    """Label of a row; the experts' rows say what they rank."""
    ranks_itself = row.table == "ranking" and row.ranking != "fused"
    return f"fused boxes ranked by expert {row.ranking}" if ranks_itself else row.label


def _tables(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    tables: dict[str, list[Row]] = {}
    for row in rows:
        tables.setdefault(row.table, []).append(row)
    return list(tables.items())


def _table(rows: Sequence[Row], data: str) -> list[str]:
    points = [fraction(value) for value in rows[0].froc.false_positives]
    lines = [
        f"| {data} | overlap | volumes | lesions | {' | '.join(points)} | mean | 95 % interval |",
        "|" + "---|" * (len(points) + 6),
    ]
    for row in rows:
        curve = row.froc
        cells = [_label(row), _NAMES[row.overlap], str(curve.volumes), str(curve.lesions)]
        cells += [f"{value:.3f}" for value in curve.sensitivity]
        cells += [f"**{curve.mean_sensitivity:.3f}**", "{:.3f} to {:.3f}".format(*curve.mean_interval)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _numbers(values: Any) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: float) -> float | None:
    """Rounded; None, which JSON knows, for what is not finite."""
    return round(float(value), 6) if np.isfinite(value) else None
