"""Intra-patient matching with an embedding whose distances are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.lens.mining.matching import (
    MinedVolume,
    by_patient,
    describe,
    key_rows,
    match_patient,
    nearest_annotations,
)
from lnsdk.trainers.lens.mining.tracklets import NOBODY, group, owners
from tests.trainers.lens.mining.toy import by_left_edge, case, found, square


def volume(of: GridCase, boxes: SliceBoxes) -> MinedVolume:
    tracklets = group(boxes)
    return MinedVolume(of, of.labels, tracklets, np.flatnonzero(owners(tracklets, of.labels) == NOBODY))


def annotated(name: str, x: float, study: str, lesion_type: str = "liver") -> MinedVolume:
    """A volume with one annotation and its tracklet."""
    return volume(case(name, Labels.of([square(5, x)], [0], [lesion_type]), study=study), found([square(5, x)]))


def bare(name: str, boxes: SliceBoxes, study: str = "2", series: str = "1") -> MinedVolume:
    return volume(case(name, Labels.of(), study=study, series=series), boxes)


def test_a_near_tracklet_of_another_study_becomes_a_lesion_of_the_annotations_type() -> None:
    second = bare("b", found([square(3, 12), square(4, 12), square(3, 40)]))
    labels, matches = match_patient([annotated("a", 10, "1"), second], by_left_edge, delta=3)
    assert len(labels[0].boxes) == 1
    assert labels[1].boxes.tolist() == [square(3, 12), square(4, 12)]
    assert labels[1].lesion.tolist() == [0, 0]
    assert labels[1].types == ("liver",)
    ((name, lesion, source, source_lesion, distance),) = [tuple(vars(match).values()) for match in matches]
    assert (name, lesion, source, source_lesion, distance) == ("b", 0, "a", 0, 2.0)


def test_of_a_long_tracklet_what_lies_about_its_centre_is_mined() -> None:
    second = bare("b", found([square(z, 12) for z in range(21)]))
    labels, _ = match_patient([annotated("a", 10, "1"), second], by_left_edge, delta=3)
    assert labels[1].boxes[:, 0].tolist() == [7, 8, 9, 10, 11, 12, 13]


@pytest.mark.parametrize(("delta", "count"), [(0, 0), (2, 0), (2.001, 1)])
def test_distance_must_lie_below_delta(delta: float, count: int) -> None:
    patient = [annotated("a", 10, "1"), bare("b", found([square(3, 12)]))]
    assert len(match_patient(patient, by_left_edge, delta)[1]) == count


def test_another_series_of_the_same_study_is_another_volume_and_the_same_series_is_not() -> None:
    boxes = found([square(3, 12)])
    patient = [annotated("a", 10, "1"), bare("b", boxes, "1", "2"), bare("c", boxes, "1", "1")]
    assert [match.case for match in match_patient(patient, by_left_edge, 5)[1]] == ["b"]


def test_a_tracklet_matches_its_nearest_annotation_once() -> None:
    patient = [annotated("a", 10, "1"), annotated("b", 16, "2", "lymph_node"), bare("c", found([square(3, 14)]), "3")]
    labels, matches = match_patient(patient, by_left_edge, 10)
    assert [(match.case, match.source) for match in matches] == [("c", "b")]
    assert labels[2].types == ("lymph_node",)


def test_of_annotations_at_the_same_distance_the_first_counts() -> None:
    patient = [annotated("a", 10, "1"), annotated("b", 14, "2"), bare("c", found([square(3, 12)]), "3")]
    assert [match.source for match in match_patient(patient, by_left_edge, 10)[1]] == ["a"]


def test_annotated_tracklets_are_not_matched() -> None:
    patient = [annotated("a", 10, "1"), annotated("b", 10, "2")]
    labels, matches = match_patient(patient, by_left_edge, 10)
    assert matches == []
    assert [len(of.boxes) for of in labels] == [1, 1]


def test_of_tracklets_that_are_nearest_to_an_annotation_the_nearest_is_taken() -> None:
    boxes = found([square(3, 13), square(8, 12)])
    labels, matches = match_patient([annotated("a", 10, "1"), bare("b", boxes)], by_left_edge, 5)
    assert labels[1].boxes.tolist() == [square(8, 12)]
    assert [match.distance for match in matches] == [2]
    other = annotated("c", 16, "3")
    labels, matches = match_patient([annotated("a", 10, "1"), bare("b", boxes), other], by_left_edge, 5)
    assert [(match.case, match.source, match.distance) for match in matches] == [("b", "a", 2)]
    labels, _ = match_patient([annotated("a", 10, "1"), bare("b", found([square(3, 14), square(8, 12)])), other],
                              by_left_edge, 5)  # fmt: skip
    assert sorted(labels[1].boxes.tolist()) == [square(3, 14), square(8, 12)]


def test_an_annotation_that_the_volume_knows_is_not_looked_for() -> None:
    """In b the annotation at x = 13 is nearer to a's than the tracklet at x = 14; at x = 12 the tracklet is."""
    for x, count in ((14, 0), (12, 1)):
        own = Labels.of([square(9, 13)], [0], ["bone"])
        known = volume(case("b", own, study="2"), found([square(3, x), square(9, 13)]))
        assert len(match_patient([annotated("a", 10, "1"), known], by_left_edge, 5)[1]) == count


@pytest.mark.parametrize(("x", "count"), [(11, 0), (17, 0), (18, 1)])
def test_a_tracklet_that_overlaps_what_is_known_is_nothing_new(x: float, count: int) -> None:
    """Slice 4 shows a lesion that an earlier strategy mined; at x = 17 the IoU with the tracklet is one third."""
    second = bare("b", found([square(3, 12), square(4, 12)]))
    second = MinedVolume(second.case, Labels.of([square(4, x)], [0], ["bone"]), second.tracklets, second.free)
    labels, matches = match_patient([annotated("a", 10, "1"), second], by_left_edge, 5)
    assert len(matches) == count
    assert len(labels[1].boxes) == 1 + 2 * count


def test_a_patient_with_one_volume_has_no_match_and_is_not_embedded() -> None:
    def refuse(grid: NDArray[np.float16], rows: NDArray[np.float32], /) -> NDArray[np.float32]:
        raise AssertionError("nothing to embed")

    one = annotated("a", 10, "1")
    assert nearest_annotations([one], refuse) == []
    assert nearest_annotations([bare("a", found([square(3)])), bare("b", found(), "3")], refuse) == []


def test_the_key_slice_is_the_one_with_the_largest_box() -> None:
    labels = Labels.of([square(3, size=5), square(4, size=8), square(5, size=8), square(9)], [1, 1, 1, 0], ["a", "b"])
    assert key_rows(labels).tolist() == [3, 1]
    assert key_rows(Labels.of()).tolist() == []


def test_volumes_without_a_patient_stand_alone() -> None:
    cases = [
        case(name, Labels.of(), patient=patient) for name, patient in (("a", ""), ("b", "x"), ("c", ""), ("d", "x"))
    ]
    groups = by_patient([volume(of, found()) for of in cases])
    assert [[member.case.name for member in members] for members in groups] == [["a"], ["b", "d"], ["c"]]


@pytest.mark.parametrize(
    ("answer", "message"),
    [(np.zeros((3, 2)), "one row per box"), (np.zeros(2), "one row per box"), (np.full((2, 1), np.nan), "finite")],
)
def test_a_wrong_embedding_is_refused(answer: NDArray[np.float32], message: str) -> None:
    rows = np.array([square(3), square(4)], np.float32)
    with pytest.raises(ValueError, match=message):
        describe(lambda grid, boxes, /: answer, case("a", Labels.of()), rows)


@pytest.mark.parametrize("delta", [-1.0, float("nan")])
def test_a_wrong_delta_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="delta must be a distance"):
        match_patient([], by_left_edge, delta)
