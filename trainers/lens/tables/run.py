"""Runs the rows of the tables, keeps every result, and writes the tables anew after each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lnsdk.trainers.common.patients import generate
from lnsdk.trainers.lens.tables.experiment import open_experiment, run_rows
from lnsdk.trainers.lens.tables.recipes import TABLES, Recipe, Row
from lnsdk.trainers.lens.tables.report import Results, table_markdown
from lnsdk.trainers.lens.tables.results import read_result, result_path, write_result
from lnsdk.trainers.lens.tables.scale import SCALES


def run_tables(
    numbers: Sequence[str], scale: str, folder: Path, results: Path, seeds: Sequence[int] | None = None
) -> None:
    """Run the rows of some tables that have no result yet.

    Parameters
    ----------
    numbers : sequence of str
        Of `TABLES`.
    scale : str
        Of `SCALES`.
    folder : Path
        Receives the simulated set, the trainings and the labels. Whatever is there is not made again, and an
        interrupted training goes on.
    results : Path
        Receives a file for every row and seed, and the tables.
    seeds : sequence of int, optional
        Seeds to run; each table's own number of them by default.
    """
    generate(SCALES[scale].patients, folder / "cases")
    console = Console(stderr=True, soft_wrap=True)
    for number in numbers:
        for seed in range(TABLES[number].seeds) if seeds is None else seeds:
            experiment = open_experiment(folder, SCALES[scale], seed)
            for rows in missing_rows(TABLES[number].rows, seed, results):
                console.print(f"Table {number}, seed {seed}: {', '.join(row.label for row in rows)}")
                for result in run_rows(experiment, rows):
                    write_result(results, result)
                write_tables(results)


def missing_rows(rows: Sequence[Row], seed: int, results: Path) -> list[list[Row]]:
    """Rows without a result, those that share their recipes together."""
    missing = [row for row in rows if not result_path(results, row.name, seed).exists()]
    together: dict[tuple[Recipe, ...], list[Row]] = {}
    for row in missing:
        together.setdefault(row.recipes, []).append(row)
    return list(together.values())


def write_tables(results: Path) -> None:
    """Write every table from the results that there are."""
    for number, table in TABLES.items():
        found = read_results(results, table.rows)
        if any(found.values()):
            (results / f"table_{number}.md").write_text(table_markdown(number, table, found) + "\n")


def read_results(results: Path, rows: Sequence[Row]) -> Results:
    """Results of some rows by their labels, for all seeds that were run.

    Only results of one test set can be compared: those of the set that most of them have are taken.
    """
    every = {row.label: [read_result(path) for path in sorted(results.glob(f"{row.name}.seed*.json"))] for row in rows}
    tests = Counter(result.test for of_row in every.values() for result in of_row)
    common = max(tests, key=lambda test: tests[test], default="")
    return {label: [result for result in of_row if result.test == common] for label, of_row in every.items()}
