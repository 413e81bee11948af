"""The choice of sigma: the lowest score above which enough of the specialists' boxes are lesions."""

import numpy as np
import pytest

from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.labels import Labels, Truth
from lnsdk.trainers.lens.mining.sigma import choose_sigma
from tests.trainers.lens.mining.toy import case, found, square

LESION, ELSEWHERE = square(5), square(5, 40)
"""A true lesion that nobody labelled, and background."""

TRUTH = Truth.of([[10, 10, 4.5, 20, 20, 5.5]], ["liver"], [8.0], ["one"], [False], [LESION], [0])


def boxes(*scored: tuple[list[float], float]) -> SliceBoxes:
    made = found([box for box, _ in scored])
    return SliceBoxes(made.boxes, np.array([s for _, s in scored], np.float32), made.expert_scores, made.slices)


def test_sigma_is_the_lowest_score_that_keeps_the_precision() -> None:
    """By falling score: right, wrong, right, wrong, wrong; half are right down to the fourth."""
    specialists = {
        "a": boxes((LESION, 0.9), (ELSEWHERE, 0.7)),
        "b": boxes((ELSEWHERE, 0.8), (LESION, 0.75), (ELSEWHERE, 0.6)),
    }
    cases = [case("a", Labels.of(), TRUTH), case("b", Labels.of(), TRUTH)]
    choice = choose_sigma(cases, specialists)
    assert choice.sigma < 0.7
    assert choice.sigma == pytest.approx(0.7)
    assert (choice.precision, choice.recall) == (0.5, 1.0)
    assert (choice.chosen, choice.lesions, choice.boxes) == (4, 2, 5)
    strict = choose_sigma(cases, specialists, 0.9)
    assert strict.sigma == pytest.approx(0.9)
    assert strict.chosen == 1


def test_where_nothing_is_right_nothing_is_uncertain() -> None:
    choice = choose_sigma([case("a", Labels.of(), TRUTH)], {"a": boxes((ELSEWHERE, 0.99))})
    assert choice.sigma == 1.0
    assert choice.chosen == 0
    assert choose_sigma([case("a", Labels.of(), TRUTH)], {"a": boxes()}).sigma == 1.0
