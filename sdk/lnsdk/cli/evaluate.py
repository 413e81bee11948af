"""``lnsdk evaluate``: finds the evaluation that was asked for."""

from collections.abc import Sequence

from lnsdk.cli import evaluate_froc, evaluate_lens, evaluate_luna16
from lnsdk.cli.console import Subcommand, run_subcommand

EVALUATIONS = {
    "lens": Subcommand(evaluate_lens.main, "run a detector on simulated test cases and on the real lesions at hand"),
    "froc": Subcommand(evaluate_froc.main, "compare a file of detected boxes with the lesions that are there"),
    "luna16": Subcommand(evaluate_luna16.main, "score a submission to LUNA16 by the rules of the challenge"),
}


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when the report was written."""
    examples = [
        "lnsdk evaluate lens --data data -o report",
        "lnsdk evaluate froc predictions.json truth.json --overlap iobb --threshold 0.3 -o report",
        "lnsdk evaluate luna16 submission.csv --annotations annotations.csv "
        "--excluded annotations_excluded.csv --seriesuids seriesuids.csv -o report",
    ]
    what = "Measure a detector: sensitivity over false positives."
    return run_subcommand("evaluate", what, EVALUATIONS, examples, arguments)
