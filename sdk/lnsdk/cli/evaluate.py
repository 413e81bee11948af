"""``lnsdk evaluate``: finds the evaluation that was asked for."""

from argparse import REMAINDER, ArgumentParser
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lnsdk.cli import evaluate_froc, evaluate_lens, evaluate_luna16
from lnsdk.cli.console import command_parser


class Evaluation(NamedTuple):
    """What runs an evaluation, and what it does."""

    main: Callable[[Sequence[str]], int]
    summary: str


EVALUATIONS = {
    "lens": Evaluation(evaluate_lens.main, "run a detector on simulated test cases and on the real lesions at hand"),
    "froc": Evaluation(evaluate_froc.main, "compare a file of detected boxes with the lesions that are there"),
    "luna16": Evaluation(evaluate_luna16.main, "score a submission to LUNA16 by the rules of the challenge"),
}


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when the report was written."""
    given = _parser().parse_args(arguments)
    return EVALUATIONS[given.evaluation].main(given.options)


def _parser() -> ArgumentParser:
    width = max(map(len, EVALUATIONS))
    summaries = "\n".join(f"  {name:<{width}}  {evaluation.summary}" for name, evaluation in EVALUATIONS.items())
    parser = command_parser(
        "evaluate",
        f"Measure a detector: sensitivity over false positives.\n\nevaluations:\n{summaries}",
        [
            "lnsdk evaluate lens --data data -o report",
            "lnsdk evaluate froc predictions.json truth.json --overlap iobb --threshold 0.3 -o report",
            "lnsdk evaluate luna16 submission.csv --annotations annotations.csv "
            "--excluded annotations_excluded.csv --seriesuids seriesuids.csv -o report",
        ],
    )
    parser.add_argument("evaluation", choices=EVALUATIONS, help="which evaluation")
    parser.add_argument(
        "options", nargs=REMAINDER, help="its options: `lnsdk evaluate EVALUATION --help` shows them with examples"
    )
    return parser
