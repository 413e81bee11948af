"""``lnsdk train``: finds the training that was asked for."""

from collections.abc import Sequence

from lnsdk.cli import train_lens, train_lens_data, train_lens_table
from lnsdk.cli.console import Subcommand, run_subcommand

TRAININGS = {
    "lens": Subcommand(train_lens.main, "train the lesion detector, from cases to a verified bundle"),
    "lens-data": Subcommand(train_lens_data.main, "make its cases: simulated patients, or published data sets"),
    "lens-table": Subcommand(train_lens_table.main, "run the rows of the LENS paper's tables on simulated patients"),
}


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when the work was done."""
    examples = [
        "lnsdk train lens --preset edge --data data -o run",
        "lnsdk train lens-data --phantoms-only --patients 20 -o cases",
        "lnsdk train lens-table IV --scale edge -o tables",
    ]
    return run_subcommand("train", "Train a method.", TRAININGS, examples, arguments)
