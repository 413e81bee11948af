"""``lnsdk train lens-table``: run the rows of the LENS paper's tables on simulated patients."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from lnsdk.cli.console import command_parser, natural, output_folder, trainers

TABLES = ("II", "III", "IV", "V")
"""Tables of the paper with rows to train."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when every row has its result."""
    options = _parser().parse_args(arguments)
    run_tables = trainers("lens.tables.run").run_tables
    folder = output_folder(options.output)
    results = output_folder(options.results or folder / "results")
    run_tables(options.table, options.scale, folder, results, options.seeds)
    for number in options.table:
        print((results / f"table_{number}.md").read_text())
    return 0


def _parser() -> ArgumentParser:
    parser = command_parser(
        "train lens-table",
        "Run the rows of the LENS paper's tables on simulated patients: each row's trainings, the mining of\n"
        "labels that they need, and their test. Rows that share weights share one training. Every row and\n"
        "seed leaves a result file; started again, rows with a result are not run again and an interrupted\n"
        "training goes on, so a table can grow over days. The tables (Markdown) show mean and spread over\n"
        "seeds, the paper's figures, and which of the paper's orderings hold.",
        [
            "lnsdk train lens-table IV --scale edge -o tables",
            "lnsdk train lens-table II V --seeds 0 -o tables --results results",
        ],
    )
    parser.add_argument("table", nargs="+", choices=TABLES, help="tables to run")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", required=True, help="folder of data and trainings")
    parser.add_argument("--results", type=Path, metavar="DIR", help="folder of results and tables (DIR/results)")
    parser.add_argument("--scale", choices=["edge"], default="edge", help="size of data and trainings (edge)")
    parser.add_argument(
        "--seeds", type=natural, nargs="+", metavar="S", help="seeds to run (default: 0 to 2; table III: 0)"
    )
    return parser
