"""The tables in Markdown, and what is said of an ordering."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lnsdk.errors import InputError
from lnsdk.trainers.lens.tables.recipes import TABLES, Ordering
from lnsdk.trainers.lens.tables.report import judge, table_markdown
from lnsdk.trainers.lens.tables.results import RowResult, read_result, result_path, write_result
from lnsdk.trainers.lens.tables.run import missing_rows, read_results, write_tables

ORDERING = Ordering("better", "worse")


def result(mean: float, seed: int = 0, spread: float = 0.0, row: str = "row", test: str = "t") -> RowResult:
    """Draws around the mean: patients in the same order for every row."""
    draws = mean + spread * np.random.default_rng(5).standard_normal(200)
    return RowResult(
        row, seed, test, {}, 30, 200, (0.125, 8.0), (mean / 2, mean), mean, tuple(draws), {}, 12.5, 150_000,
        {"lesions": 10, "boxes": 20, "uncertain": 0, "slices": 15},
    )  # fmt: skip


def test_ordering_holds_when_the_paired_difference_leaves_out_zero() -> None:
    """Patients vary by 0.1, but alike in both rows."""
    better = [result(0.5, seed, spread=0.1) for seed in (0, 1)]
    worse = [result(0.4, seed, spread=0.1) for seed in (0, 1)]
    verdict = judge(ORDERING, {"better": better, "worse": worse})
    assert verdict is not None
    assert verdict.word == "holds"
    assert verdict.difference == pytest.approx(0.1)
    assert (verdict.low, verdict.high) == pytest.approx((0.1, 0.1))
    turned = judge(Ordering("worse", "better"), {"better": better, "worse": worse})
    assert turned is not None
    assert turned.word == "does not hold"


def test_seeds_that_disagree_resolve_nothing() -> None:
    better = [result(0.6, 0), result(0.4, 1), result(0.5, 2)]
    worse = [result(0.4, 0), result(0.6, 1), result(0.5, 2)]
    verdict = judge(ORDERING, {"better": better, "worse": worse})
    assert verdict is not None
    assert verdict.word == "not resolved"
    assert verdict.low < 0 < verdict.high
    assert verdict.seeds == 3


def test_only_common_seeds_are_compared() -> None:
    verdict = judge(ORDERING, {"better": [result(0.9, 0), result(0.5, 1)], "worse": [result(0.4, 1)]})
    assert verdict is not None
    assert verdict.seeds == 1
    assert verdict.difference == pytest.approx(0.1)
    assert judge(ORDERING, {"better": [result(0.9, 0)], "worse": []}) is None


def test_results_of_other_test_volumes_are_left_out(tmp_path: Path) -> None:
    rows = TABLES["II"].rows[:2]
    for seed, test in ((0, "t"), (1, "t"), (2, "other")):
        write_result(tmp_path, result(0.5, seed, row=rows[0].name, test=test))
    assert [r.seed for r in read_results(tmp_path, rows)[rows[0].label]] == [0, 1]


def test_table_shows_figures_spread_paper_and_verdicts() -> None:
    table = TABLES["IV"]
    results = {
        "No mining": [result(0.30, 0), result(0.32, 1)],
        "+ Cross-slice": [replace(result(0.40, 0), counts={"lesions": 10, "boxes": 1234, "uncertain": 0, "slices": 1})],
    }
    text = table_markdown("IV", table, results)
    assert "**simulated**" in text
    assert "| No mining | 15.5 | 31.0 | 31.0 ± 1.4 | 36.8 | 2 | 12.5 | 0.15 M |" in text
    assert "| + Unlabelled |  |  | not run | 46.8 | 0 |  |  |" in text
    assert "| + Cross-slice | No mining | +0.9 | +10.0 | +10.0 to +10.0 | 1 | one seed |" in text
    assert "| + Unlabelled | + Cross-dataset | +2.2 |  |  | 0 | not run |" in text
    assert "| + Cross-slice | 10 | 1,234 | 0 | 1 |" in text


@pytest.mark.parametrize("number", TABLES)
def test_orderings_name_rows_of_their_table(number: str) -> None:
    labels = [row.label for row in TABLES[number].rows]
    assert len(labels) == len(set(labels))
    for ordering in TABLES[number].orderings:
        assert {ordering.better, ordering.worse} <= set(labels)


def test_rows_that_share_weights_share_a_training() -> None:
    recipes = {recipe for table in TABLES.values() for row in table.rows for recipe in row.recipes}
    assert len(recipes) == len({recipe.name for recipe in recipes}) == 25
    names = {row.name: (row.recipes, row.fused, row.reduced) for table in TABLES.values() for row in table.rows}
    for table in TABLES.values():
        for row in table.rows:
            assert names[row.name] == (row.recipes, row.fused, row.reduced)


def test_a_row_with_a_result_is_not_missing(tmp_path: Path) -> None:
    rows = TABLES["II"].rows
    write_result(tmp_path, result(0.5, seed=1, row=rows[0].name))
    assert [row for together in missing_rows(rows, 1, tmp_path) for row in together] == list(rows[1:])
    assert len(missing_rows(rows, 0, tmp_path)) == 6
    write_tables(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{rows[0].name}.seed1.json", "table_II.md"}
    assert read_results(tmp_path, rows)[rows[0].label] == [result(0.5, seed=1, row=rows[0].name)]


def test_damaged_result_is_named(tmp_path: Path) -> None:
    path = result_path(tmp_path, "row", 0)
    path.write_text('{"row": "row"}')
    with pytest.raises(InputError, match="is no result of a row"):
        read_result(path)
