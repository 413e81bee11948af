"""The choice of delta from a list of distances, and the pairs behind it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lnsdk.trainers.common.labels import Labels, Truth
from lnsdk.trainers.lens.mining.delta import (
    DeltaChoice,
    Pairs,
    choose_delta,
    collect_pairs,
    draw_delta_curve,
    precision_recall,
)
from tests.trainers.lens.mining.toy import by_left_edge, case, found, square

DISTANCES = [0.1, 0.2, 0.3, 0.3, 0.5, 0.7]
SAME = [True, True, True, False, True, False]


def test_precision_and_recall_over_the_distance() -> None:
    curve = precision_recall(DISTANCES[::-1], SAME[::-1])
    assert curve.distances.tolist() == [0.1, 0.2, 0.3, 0.5, 0.7]
    np.testing.assert_allclose(curve.precision, [1, 1, 3 / 4, 4 / 5, 4 / 6])
    np.testing.assert_allclose(curve.recall, [1 / 4, 2 / 4, 3 / 4, 1, 1])
    assert curve.matched.tolist() == [1, 2, 4, 5, 6]


@pytest.mark.parametrize(("least", "distance", "matched"), [(0.9, 0.2, 2), (0.8, 0.5, 5), (0.5, 0.7, 6)])
def test_delta_is_the_largest_distance_that_keeps_the_precision(least: float, distance: float, matched: int) -> None:
    choice = choose_delta(DISTANCES, SAME, least)
    assert choice.delta > distance
    assert choice.delta == pytest.approx(distance)
    assert sum(d < choice.delta for d in DISTANCES) == choice.matched == matched
    assert choice.precision == sum(SAME[:matched]) / matched
    assert choice.recall == sum(SAME[:matched]) / 4
    assert (choice.same, choice.pairs, choice.least_precision) == (4, 6, least)
    assert DeltaChoice(**choice.record()) == choice


@pytest.mark.parametrize(("distances", "same"), [([], []), ([0.1, 0.2], [False, False]), ([0.1, 0.1], [True, False])])
def test_without_a_good_distance_nothing_matches(distances: list[float], same: list[bool]) -> None:
    choice = choose_delta(distances, same)
    assert choice.delta == 0
    assert choice.matched == 0
    assert choice.pairs == len(distances)
    assert np.isnan(choice.precision)


@pytest.mark.parametrize(
    ("distances", "same", "least", "message"),
    [
        ([0.1], [True, False], 0.9, "one value per pair"),
        ([-0.1], [True], 0.9, "finite and 0 or more"),
        ([np.nan], [True], 0.9, "finite and 0 or more"),
        ([0.1], [True], 0.0, "least_precision must be above 0"),
    ],
)
def test_wrong_arguments_are_refused(distances: list[float], same: list[bool], least: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_delta(distances, same, least)


def test_pairs_are_those_that_mining_would_match() -> None:
    """Study 1 annotates a lesion (x = 10); in study 2 the detector finds nothing at x = 12, and in study 3 the lesion.

    What study 2 annotates itself is not matched there.
    """
    lesions = Truth.of(
        [[10, 10, 4.5, 20, 20, 5.5], [40, 10, 4.5, 50, 20, 5.5]],
        ["liver"] * 2,
        [8.0] * 2,
        ["one", "two"],
        [True, True],
        [square(5), square(5, 40)],
        [0, 1],
    )
    labels = Labels.of([square(5)], [0], ["liver"])
    cases = [case("a", labels, lesions, study="1"), *(case(n, Labels.of(), lesions, study=n) for n in "23")]
    boxes = {"a": found(), "2": found([square(8, 12)]), "3": found([square(5, 11), square(5, 40)])}
    pairs = collect_pairs(cases, boxes, by_left_edge)
    assert pairs.distances.tolist() == [1, 2]
    assert pairs.same.tolist() == [True, False]
    both = [cases[0], case("2", labels, lesions, study="2"), cases[2]]
    assert collect_pairs(both, boxes, by_left_edge).distances.tolist() == [1]


@pytest.mark.parametrize("distances", [DISTANCES, []])
def test_the_curve_is_drawn(tmp_path: Path, distances: list[float]) -> None:
    pairs = Pairs(np.array(distances, float), np.array(SAME[: len(distances)], bool))
    draw_delta_curve(tmp_path / "delta.png", pairs, choose_delta(*vars(pairs).values()), "simulated patients")
    with Image.open(tmp_path / "delta.png") as picture:
        assert min(picture.size) > 300
