"""Precision and recall by hand."""

import numpy as np
import pytest

from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.labels import Labels, Truth
from lnsdk.trainers.lens.mining.matching import Match
from lnsdk.trainers.lens.mining.measure import (
    Quality,
    Tally,
    as_json,
    as_markdown,
    enclosing_box,
    measure_matches,
    measure_rows,
    measure_uncertain,
)
from lnsdk.trainers.lens.mining.truth import identity_of_annotation, lesions_of_boxes, lesions_of_rows, truth_of
from tests.trainers.lens.mining.toy import case, square


def truth(labelled: tuple[bool, ...] = (True, False), names: tuple[str, ...] = ("one", "two")) -> Truth:
    """Lesions at x = 10 and x = 40 on slices 4 to 6."""
    lefts = (10, 40)[: len(names)]
    return Truth.of(
        [[x, 10, 3.5, x + 10, 20, 6.5] for x in lefts],
        ["liver"] * len(names),
        [8.0] * len(names),
        names,
        labelled,
        [square(z, x) for x in lefts for z in (4, 5, 6)],
        [i for i in range(len(names)) for _ in range(3)],
    )


KEY = Labels.of([square(5)], [0], ["liver"])


def rates(quality: Quality) -> tuple[int, ...]:
    return tuple(quality.tally)


def test_rows_and_boxes_find_their_lesion() -> None:
    rows = np.array([square(4), square(4, 43), square(4, 45), square(7)], np.float32)
    assert lesions_of_rows(rows, truth()).tolist() == [0, 1, -1, -1]  # IoU 1, 7/13, 5/15, another slice
    boxes = np.array([[10, 10, 4.5, 20, 20, 5.5], [46, 10, 3.5, 56, 20, 6.5], [48, 10, 3.5, 58, 20, 6.5]], np.float32)
    assert lesions_of_boxes(boxes, truth()).tolist() == [0, 1, -1]  # IoBB 1, 0.4, 0.2
    assert lesions_of_rows(rows[:0], truth()).tolist() == []
    assert lesions_of_rows(rows, Truth.of()).tolist() == [-1] * 4


def test_annotations_have_the_identity_of_what_they_lie_on() -> None:
    labels = Labels.of([square(5, 41), square(5, 25)], [3, 4], ["liver"] * 5)
    assert identity_of_annotation(labels, 3, truth()) == "two"
    assert identity_of_annotation(labels, 4, truth()) is None
    assert identity_of_annotation(labels, 0, truth()) is None


def test_a_case_without_truth_is_refused() -> None:
    with pytest.raises(ValueError, match="recorded has no truth"):
        truth_of(case("recorded", Labels.of()))


def test_added_rows() -> None:
    """Two rows of lesion one to find (slices 4, 6); mined: one of them, lesion two's, and a wrong one."""
    of = case("a", KEY, truth())
    rows = [square(5), square(4, 11), square(6, 40), square(8)]
    after = Labels.of(rows, [0, 0, 0, 0], ["liver"])
    quality = measure_rows("rows", [of], {"a": KEY}, {"a": after})
    assert rates(quality) == (2, 3, 1, 2)
    assert quality.precision == pytest.approx(2 / 3)
    assert quality.recall == 0.5
    assert rates(measure_rows("rows", [of], {"a": KEY}, {"a": after}, every_lesion=True)) == (2, 3, 2, 5)


def test_added_rows_must_stand_behind_the_others() -> None:
    of = case("a", KEY, truth())
    with pytest.raises(ValueError, match="rows of before first"):
        measure_rows("rows", [of], {"a": KEY}, {"a": Labels.of([square(4)], [0], ["liver"])})


def test_nothing_mined_and_nothing_removed() -> None:
    quality = measure_rows("rows", [case("a", Labels.of(), Truth.of())], {"a": Labels.of()}, {"a": Labels.of()})
    assert rates(quality) == (0, 0, 0, 0)
    assert np.isnan([quality.precision, quality.recall, *quality.precision_interval]).all()
    assert as_json([quality], "t")["strategies"][0]["precision"] is None
    assert "| rows | - | 0 of 0 boxes | - |" in as_markdown([quality], "t")


def test_matches_hit_a_lesion_and_the_same_lesion() -> None:
    """Study 1 labels one, study 2 neither. Three matches: lesion one, lesion two, and nothing."""
    first = case("a", KEY, truth((True, False)), study="1")
    second = case("b", Labels.of(), truth((False, False)), study="2")
    rows = [square(4), square(5), square(5, 40), square(9, 25)]
    labels = {"a": KEY, "b": Labels.of(rows, [0, 0, 1, 2], ["liver"] * 3)}
    matches = [Match("b", lesion, "a", 0, 0.1) for lesion in range(3)]
    hit, same = measure_matches([first, second], labels, matches)
    assert rates(hit) == (2, 3, 1, 1)  # "two" is labelled nowhere, so it is not waited for
    assert rates(same) == (1, 3, 1, 1)
    none, nothing = measure_matches([first, second], {"a": KEY, "b": Labels.of()}, [])
    assert rates(none) == rates(nothing) == (0, 0, 0, 1)


def test_lesions_of_another_patient_or_the_same_series_are_not_waited_for() -> None:
    first = case("a", KEY, truth((True, False)), study="1")
    for patient, study in (("q", "2"), ("p", "1")):
        cases = [first, case("b", Labels.of(), truth((False, False)), patient=patient, study=study)]
        assert measure_matches(cases, {"a": KEY, "b": Labels.of()}, [])[0].tally.removed == 0


def test_uncertain_boxes() -> None:
    """Two boxes on unlabelled lesion two, one on labelled lesion one, one on nothing."""
    uncertain = [square(4, 40), square(5, 40), square(6), square(8)]
    labels = Labels.of([square(5)], [0], ["liver"], uncertain=uncertain)
    of = case("a", KEY, truth())
    assert rates(measure_uncertain("u", [of], {"a": labels})) == (3, 4, 1, 1)
    mined = Labels.of([square(5), square(4, 40)], [0, 1], ["liver"] * 2, uncertain=uncertain[:1])
    assert rates(measure_uncertain("u", [of], {"a": mined})) == (1, 1, 0, 0)
    hidden = case("a", Labels.of(), truth((False, False)))
    assert rates(measure_uncertain("u", [hidden], {"a": Labels.of()})) == (0, 0, 0, 2)


def test_intervals_come_from_patients() -> None:
    """One patient all right, one all wrong: every share from 0 to 1 is possible. Alike patients: no spread."""
    cases = [case("a", KEY, patient="p"), case("b", KEY, patient="p"), case("c", KEY, patient="q")]
    spread = Quality.of("s", ("boxes", "boxes"), cases, [Tally(5, 5, 1, 2), Tally(5, 5, 0, 0), Tally(0, 10, 1, 2)])
    assert spread.patients == 2
    assert spread.tally == Tally(10, 20, 2, 4)
    assert spread.precision_interval == (0.0, 1.0)
    assert spread.recall_interval == (0.5, 0.5)
    text = as_markdown([spread], "Title")
    assert "| s | 50.0 % [0.0, 100.0] | 10 of 20 boxes | 50.0 % [50.0, 50.0] | 2 of 4 boxes |" in text
    assert text.startswith("# Title\n\nMeasured on simulated lesions")
    assert as_json([spread], "t")["strategies"][0]["tally"] == {"right": 10, "mined": 20, "recovered": 2, "removed": 4}


def test_unnamed_patients_are_counted_by_case() -> None:
    cases: list[GridCase] = [case(name, KEY, patient="") for name in "ab"]
    assert Quality.of("s", ("b", "b"), cases, [Tally(1, 1, 1, 1)] * 2).patients == 2


def test_enclosing_box() -> None:
    labels = Labels.of([square(4), square(5, 12), square(9, 40)], [1, 1, 0], ["liver"] * 2)
    assert enclosing_box(labels, 1).tolist() == [11, 10, 3.5, 21, 20, 5.5]
