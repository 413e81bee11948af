"""A table in Markdown: the rows' figures beside the paper's, and which of the paper's orderings hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnsdk.trainers.lens.tables.recipes import Ordering, Table
from lnsdk.trainers.lens.tables.results import RowResult

TAIL = 2.5
"""Percent on either side of an interval."""

RESAMPLING_SEED = 0
"""Of the draws of seeds."""

COUNTS = ("lesions", "boxes", "uncertain", "slices")
"""Counts of a label set in the order of Table IV."""

Results = Mapping[str, Sequence[RowResult]]
"""Label of a row to its results by seed."""


@dataclass(frozen=True)
class Verdict:
    """What the results say of an ordering.

    Attributes
    ----------
    ordering : Ordering
        The paper's statement.
    difference : float
        Mean over the seeds that both rows have.
    low, high : float
        95 % interval over test patients and seeds, both drawn with replacement, the same for both rows.
    seeds : int
        How many seeds both rows have.
    """

    ordering: Ordering
    difference: float
    low: float
    high: float
    seeds: int

    @property
    def word(self) -> str:
        """``holds`` only if the interval leaves out zero, and more than one seed says so."""
        if self.seeds < 2:
            return "one seed"
        if self.low > 0:
            return "holds"
        return "does not hold" if self.high < 0 else "not resolved"


def judge(ordering: Ordering, results: Results) -> Verdict | None:
    """Compare two rows, None while they have no seed in common."""
    better, worse = ({r.seed: r for r in results.get(label, ())} for label in (ordering.better, ordering.worse))
    seeds = sorted(better.keys() & worse.keys())
    if not seeds:
        return None
    draws = np.array([np.subtract(better[s].draws, worse[s].draws) for s in seeds])
    low, high = np.percentile(_over_seeds(draws), (TAIL, 100 - TAIL))
    difference = np.mean([better[s].mean_sensitivity - worse[s].mean_sensitivity for s in seeds])
    return Verdict(ordering, float(difference), float(low), float(high), len(seeds))


def _over_seeds(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over seeds drawn with replacement in every draw: (seeds, draws) to (draws,)."""
    count, size = draws.shape
    chosen = np.random.default_rng(RESAMPLING_SEED).integers(count, size=(count, size))
    return np.asarray(np.take_along_axis(draws, chosen, axis=0).mean(axis=0))


def table_markdown(number: str, table: Table, results: Results) -> str:
    """The table as Markdown; rows that were not run yet say so."""
    return "\n".join(
        [
            f"# Table {number}: {table.title}",
            "",
            f"On **simulated** patients, not the paper's data: {_scope(results)} Sensitivity in percent at false "
            "positives per volume (a hit is an IoBB of 0.3 or more in 3D), mean over seeds; average: mean over the "
            "seven points, with the standard deviation over seeds. The paper's figures are those on DeepLesion.",
            "",
            *_figures(table, results),
            "",
            *_orderings(table, results),
            "",
            *_counts(table, results),
        ]
    )


def _scope(results: Results) -> str:
    every = [result for rows in results.values() for result in rows]
    if not every:
        return "nothing was run yet."
    return f"{every[0].volumes} test volumes with {every[0].lesions} lesions."


def _figures(table: Table, results: Results) -> list[str]:
    points = next((r.false_positives for rows in results.values() for r in rows), ())
    header = ["Row", *(f"{point:g}" for point in points), "Average", "Paper", "Seeds", "ms/slice", "Parameters"]
    lines = [_line(header), _line(["---"] * len(header))]
    for row in table.rows:
        paper = "-" if np.isnan(row.paper) else f"{row.paper:.1f}"
        of_row = results.get(row.label, ())
        if not of_row:
            lines.append(_line([row.label, *[""] * len(points), "not run", paper, "0", "", ""]))
            continue
        sensitivity = 100 * np.mean([r.sensitivity for r in of_row], axis=0)
        means = 100 * np.array([r.mean_sensitivity for r in of_row])
        spread = f" ± {means.std(ddof=1):.1f}" if len(means) > 1 else ""
        speed = np.mean([r.milliseconds_per_slice for r in of_row])
        cells = [row.label, *(f"{value:.1f}" for value in sensitivity), f"{means.mean():.1f}{spread}", paper]
        lines.append(_line([*cells, str(len(of_row)), f"{speed:.1f}", f"{of_row[0].parameters / 1e6:.2f} M"]))
    return lines


def _orderings(table: Table, results: Results) -> list[str]:
    lines = [
        "Orderings of the paper. *holds*: the 95 % interval of the paired difference (test patients and seeds drawn "
        "with replacement) leaves out zero; *not resolved*: it does not; *one seed*: the interval is over patients "
        "alone.",
        "",
        _line(["Better", "than", "Paper", "Here", "95 % interval", "Seeds", "Verdict"]),
        _line(["---"] * 7),
    ]
    paper = {row.label: row.paper for row in table.rows}
    for ordering in table.orderings:
        stated = paper[ordering.better] - paper[ordering.worse]
        cells = [ordering.better, ordering.worse, "-" if np.isnan(stated) else f"{stated:+.1f}"]
        verdict = judge(ordering, results)
        if verdict is None:
            lines.append(_line([*cells, "", "", "0", "not run"]))
            continue
        here = f"{100 * verdict.difference:+.1f}"
        interval = f"{100 * verdict.low:+.1f} to {100 * verdict.high:+.1f}"
        lines.append(_line([*cells, here, interval, str(verdict.seeds), verdict.word]))
    return lines


def _counts(table: Table, results: Results) -> list[str]:
    """Sizes of the label sets, for the rows that differ in them."""
    rows = [(row.label, results[row.label][0].counts) for row in table.rows if results.get(row.label)]
    if len({tuple(sorted(counts.items())) for _, counts in rows}) < 2:
        return []
    lines = [
        "Labels of the universal set (first seed).",
        "",
        _line(["Row", "3D lesions", "2D boxes", "Uncertain 2D boxes", "Training slices"]),
        _line(["---"] * 5),
    ]
    return lines + [_line([label, *(f"{counts.get(name, 0):,}" for name in COUNTS)]) for label, counts in rows]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
