"""``lnsdk train``: finds the training that was asked for."""

from argparse import REMAINDER, ArgumentParser
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lnsdk.cli import train_lens, train_lens_data, train_lens_table
from lnsdk.cli.console import command_parser


class Training(NamedTuple):
    """What runs a training, and what it does."""

    main: Callable[[Sequence[str]], int]
    summary: str


TRAININGS = {
    "lens": Training(train_lens.main, "train the lesion detector, from cases to a verified bundle"),
    "lens-data": Training(train_lens_data.main, "make its cases: simulated patients, or published data sets"),
    "lens-table": Training(train_lens_table.main, "run the rows of the LENS paper's tables on simulated patients"),
}


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when the work was done."""
    given = _parser().parse_args(arguments)
    return TRAININGS[given.training].main(given.options)


def _parser() -> ArgumentParser:
    width = max(map(len, TRAININGS))
    summaries = "\n".join(f"  {name:<{width}}  {training.summary}" for name, training in TRAININGS.items())
    parser = command_parser(
        "train",
        f"Train a method.\n\ntrainings:\n{summaries}",
        [
            "lnsdk train lens --preset edge --data data -o run",
            "lnsdk train lens-data --phantoms-only --patients 20 -o cases",
            "lnsdk train lens-table IV --scale edge -o tables",
        ],
    )
    parser.add_argument("training", choices=TRAININGS, help="which training")
    parser.add_argument(
        "options", nargs=REMAINDER, help="its options: `lnsdk train TRAINING --help` shows them with examples"
    )
    return parser
