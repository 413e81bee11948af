"""What the gate found, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lnsdk.cli.console import plain_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lnsdk.verification import Report, Row

COLUMNS = ("engine", "", "matched", "alone", "voxel", "score", "sensitivity")

LEGEND = """\
matched: lesions of the reference that the engine gave, too
alone: lesions above the threshold that only one of them gave
voxel, score: largest difference of the matched
sensitivity: mean over 1/8 to 8 false positives per simulated CT, and its change
"""


def show_report(report: Report, console: Console) -> None:
    """Print a line for every engine that was compared, and why the others were not or failed."""
    if any(row.volumes for row in report.rows):
        console.print(_table(report))
        console.print(LEGEND)
    for row in report.rows:
        for reason in row.reasons:
            console.print(f"{row.choice} {row.state}: {reason}")


def gate_table(report: Report) -> str:
    """The same in Markdown."""
    rows = [f"## The same lesions? {_title(report)}", "", f"| {' | '.join(COLUMNS)} |", "|---|---|--:|--:|--:|--:|--:|"]
    rows += [f"| {' | '.join((str(row.choice), row.state, *_figures(row)))} |" for row in report.rows if row.volumes]
    reasons = [f"- {row.choice} {row.state}: {reason}" for row in report.rows for reason in row.reasons]
    return "\n".join([*rows, "", LEGEND, *reasons]) + "\n"


def _table(report: Report) -> Table:
    sides = ("left", "left", "right", "right", "right", "right", "right")
    table = plain_table(_title(report), list(zip(COLUMNS, sides, strict=True)))
    for row in report.rows:
        if row.volumes:
            table.add_row(str(row.choice), row.state, *_figures(row))
    return table


def _title(report: Report) -> str:
    known = f", {report.known_lesions} lesions known" if report.known_lesions else ""
    return f"{report.model.split()[0]}, threshold {report.operating_point:.3f}, {len(report.volumes)} CTs{known}"


def _figures(row: Row) -> list[str]:
    change = "" if row.sensitivity is None else f"{row.sensitivity:.3f} {row.sensitivity_change:+.3f}"
    gaps = [f"{value:.0e}" for value in (row.box_difference, row.score_difference)]
    return [f"{row.matched} of {row.lesions}", str(row.unmatched_above), *gaps, change]
