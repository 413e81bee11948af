"""Steps between the trainings: whose boxes are whose, what is kept, and the labels of every row of the tables."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lnsdk.errors import InputError
from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.cases import GridCase, Origin, store, write_set
from lnsdk.trainers.common.labels import Labels, Truth
from lnsdk.trainers.common.patients import PatientSetPlan
from lnsdk.trainers.lens import run as lens_run
from lnsdk.trainers.lens import stages
from lnsdk.trainers.lens.embedding.train import EmbeddingSettings
from lnsdk.trainers.lens.fpr.settings import edge as reduction
from lnsdk.trainers.lens.inference import SliceRegions, VolumeRegions
from lnsdk.trainers.lens.mining.delta import DeltaChoice
from lnsdk.trainers.lens.organs import OrganSettings
from lnsdk.trainers.lens.settings import EDGE_RUNTIME, detector_settings, edge
from lnsdk.trainers.lens.stages import FoundBoxes, find_boxes
from lnsdk.trainers.lens.tables import experiment as tables
from lnsdk.trainers.lens.tables.experiment import MINED, Experiment, datasets, only_lesions
from lnsdk.trainers.lens.tables.experiment import test_digest as digest_of
from lnsdk.trainers.lens.tables.recipes import LabelSource, Recipe
from lnsdk.trainers.lens.tables.scale import Scale
from lnsdk.trainers.networks.lens import Lens
from tests.trainers.lens.tiny import TINY

SETTINGS = detector_settings(EDGE_RUNTIME, ("universal", "lung", "liver", "lymph_node"))

BOX, OTHER, THIRD = (10.0, 10.0, 20.0, 20.0), (30.0, 30.0, 40.0, 40.0), (44.0, 10.0, 54.0, 20.0)
"""An annotated lesion, one that only a specialist finds, and background that the universal expert finds."""


def case(name: str, annotated: bool, expert: str = "universal", study: str = "s1") -> GridCase:
    """Five slices; the annotation is on the middle one, the lesion on three."""
    rows = [[z, *BOX] for z in (1, 2, 3)]
    labels = Labels.of([[2, *BOX]], [0], ["liver"]) if annotated else Labels.of()
    truth = Truth.of([[10, 10, 0.5, 20, 20, 3.5]], ["liver"], [8], ["p-lesion-0"], [annotated], rows, [0, 0, 0])
    return GridCase(name, expert, np.zeros((5, 64, 64), np.float16), labels, truth, "p", study, name, fingerprint=name)


def regions(scores: Mapping[int, list[tuple[tuple[float, ...], list[float]]]]) -> VolumeRegions:
    """Regions by slice, with every expert's score; boxes stay where they are."""
    slices = []
    for z in range(5):
        found = scores.get(z, [])
        rois = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
        of_experts = np.array([each for _, each in found], np.float32).reshape(-1, 4)
        slices.append(SliceRegions(rois, of_experts, np.zeros((len(rois), 4, 4), np.float32)))
    return VolumeRegions(tuple(slices), (64, 64), 1.0)


FOUND = regions({
    **{z: [(BOX, [0.9, 0.1, 0.8, 0.1])] for z in (1, 3)},
    2: [(BOX, [0.9, 0.1, 0.8, 0.1]), (OTHER, [0.05, 0.05, 0.7, 0.05]), (THIRD, [0.9, 0.05, 0.05, 0.05])],
    4: [(OTHER, [0.05, 0.05, 0.6, 0.05])],
})  # fmt: skip
"""The lesion on three slices; a box of the liver expert alone on slices 2 and 4; one of the universal expert alone."""


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A network that finds `FOUND` everywhere; the cases that it looked at."""
    looked: list[str] = []

    def find(network: Lens, grid: np.ndarray, settings: object) -> VolumeRegions:
        looked.append(str(grid.shape))
        return FOUND

    monkeypatch.setattr(stages, "find_regions", find)
    return looked


def test_the_first_expert_is_no_specialist(stub: list[str]) -> None:
    found = find_boxes(Lens(4, TINY), [case("a", True)], SETTINGS)
    assert found.pooled["a"].expert_scores.shape[1] == 4
    assert found.specialists["a"].expert_scores.shape[1] == 3
    on_two = found.specialists["a"].slices == 2
    np.testing.assert_allclose(sorted(found.specialists["a"].scores[on_two]), [0.05, 0.7, 0.8], atol=1e-6)
    assert (found.pooled["a"].scores[found.pooled["a"].slices == 2] > 0.85).sum() == 2


def test_boxes_are_kept_for_the_same_weights_cases_and_settings(stub: list[str], tmp_path: Path) -> None:
    network, cases, keep = Lens(4, TINY), [case("a", True), case("b", False)], tmp_path / "x/found.npz"
    first = find_boxes(network, cases, SETTINGS, keep)
    again = find_boxes(network, cases, SETTINGS, keep)
    assert len(stub) == 2
    for name, boxes in first.pooled.items():
        for part in stages.PARTS:
            np.testing.assert_array_equal(getattr(boxes, part), getattr(again.pooled[name], part))
    assert again.specialists.keys() == first.specialists.keys()
    find_boxes(network, cases[:1], SETTINGS, keep)
    find_boxes(network, cases[:1], replace(SETTINGS, stack_iou=0.5), keep)
    find_boxes(Lens(4, TINY), cases[:1], replace(SETTINGS, stack_iou=0.5), keep)
    assert len(stub) == 5


def test_delta_is_kept_for_the_network_and_the_patients_it_was_chosen_with(stub: list[str], tmp_path: Path) -> None:
    annotated, matching = [case("c", True)], [case("a", True), case("b", False, study="s2")]
    network, short = Lens(4, TINY), EmbeddingSettings(steps=1, volumes=1, lesions=1, places=0)
    first = stages.make_embedding(tmp_path, annotated, matching, network, SETTINGS, short)
    assert first.delta is not None
    (tmp_path / "delta.png").unlink()
    again = stages.make_embedding(tmp_path, annotated, matching, network, SETTINGS, short)
    assert (again.delta, again.chosen_on) == (first.delta, first.chosen_on)
    assert len(stub) == 2
    assert not (tmp_path / "delta.png").exists()
    stages.make_embedding(tmp_path, annotated, matching, Lens(4, TINY), SETTINGS, short)
    other = stages.make_embedding(tmp_path, annotated, matching[:1], network, SETTINGS, short)
    assert len(stub) == 5
    assert other.chosen_on != first.chosen_on
    assert (tmp_path / "delta.png").exists()


def near(grid: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Embedding that is the place: boxes of the same place are the same lesion."""
    return np.asarray(rows[:, 1:3], np.float32)


@pytest.fixture
def experiment(stub: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """Two series of a patient, one of them annotated, and a case of every single-type set."""
    scale = Scale(PatientSetPlan(), edge(shape=TINY), EmbeddingSettings(), reduction(), OrganSettings())
    single = {name: (case(name, True, name),) for name in ("lung", "liver", "lymph_node")}
    cases = {"universal": (case("a", True), case("b", False, study="s2")), **single}
    monkeypatch.setattr(tables, "trained", lambda *_: Lens(4, TINY))
    monkeypatch.setattr(tables, "make_embedding", lambda *_: Embedded())
    monkeypatch.setattr(tables, "find_sigma", lambda *_: 0.5)
    return Experiment(tmp_path, scale, 0, cases, (), ())


class Embedded:
    """What `make_embedding` gives: callable, with its delta."""

    delta = DeltaChoice(1.0, 1.0, 1.0, 1, 1, 1, 0.9)

    def __call__(self, grid: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return near(grid, rows)


def boxes(dataset_cases: tuple[GridCase, ...], name: str) -> list[list[float]]:
    (found,) = [each for each in dataset_cases if each.name == name]
    return sorted(found.labels.boxes.tolist())


def test_labels_of_every_source(experiment: Experiment) -> None:
    """What each strategy adds, by hand."""
    sources: tuple[LabelSource, ...] = (*MINED, "none", "uncertain_as_truth", "truth")
    universal = {source: datasets(experiment, Recipe("universal", source))[0].cases for source in sources}
    key, three = [[2.0, *BOX]], [[float(z), *BOX] for z in (1, 2, 3)]
    assert (boxes(universal["none"], "a"), boxes(universal["none"], "b")) == (key, [])
    assert (boxes(universal["cross_slice"], "a"), boxes(universal["cross_slice"], "b")) == (three, [])
    assert (boxes(universal["intra_patient"], "a"), boxes(universal["intra_patient"], "b")) == (three, three)
    of_b = {source: next(each for each in cases if each.name == "b").labels for source, cases in universal.items()}
    assert of_b["intra_patient"].uncertain.tolist() == []
    assert of_b["cross_dataset"].uncertain.tolist() == [[2.0, *OTHER]]  # not slice 4, where nothing is labelled
    assert of_b["unlabelled"].uncertain.tolist() == [[2.0, *OTHER], [4.0, *OTHER]]
    assert of_b["uncertain_as_truth"].uncertain.tolist() == []
    assert boxes(universal["uncertain_as_truth"], "b") == sorted([*three, [2.0, *OTHER], [4.0, *OTHER]])
    assert (boxes(universal["truth"], "a"), boxes(universal["truth"], "b")) == (three, three)
    slices = {source: None if each.slices is None else each.slices.tolist() for source, each in of_b.items()}
    assert slices == {
        "none": [], "cross_slice": [], "intra_patient": [1, 2, 3], "cross_dataset": [1, 2, 3], "unlabelled": None,
        "uncertain_as_truth": None, "truth": None,
    }  # fmt: skip


def test_labels_are_made_again_for_other_cases(experiment: Experiment, stub: list[str]) -> None:
    datasets(experiment, Recipe("universal", "unlabelled"))
    looked = len(stub)
    datasets(experiment, Recipe("all", "intra_patient"))
    assert len(stub) == looked
    others = tuple(replace(each, fingerprint="other") for each in experiment.train["universal"])
    datasets(replace(experiment, train={**experiment.train, "universal": others}), Recipe("all", "intra_patient"))
    assert len(stub) == looked + 2


def test_data_sets_of_every_way_to_combine_them(experiment: Experiment) -> None:
    assert [each.name for each in datasets(experiment, Recipe("all"))] == ["universal", "lung", "liver", "lymph_node"]
    (pooled,) = datasets(experiment, Recipe("pooled"))
    assert [each.name for each in pooled.cases] == ["a", "b", "lung", "liver", "lymph_node"]
    (positive,) = datasets(experiment, Recipe("positive_pooled"))
    assert [len(each.labels.ignored) for each in positive.cases] == [0, 0, 1, 1, 1]
    (lung,) = datasets(experiment, Recipe("lung", "unlabelled"))
    assert [each.name for each in lung.cases] == ["lung"]


def test_positive_pooling_teaches_lesions_and_nothing_else() -> None:
    alone = only_lesions(case("a", True))
    assert alone.labels.boxes.tolist() == [[2.0, *BOX]]
    assert alone.labels.ignored.tolist() == [[-0.5, -0.5, -0.5, 63.5, 63.5, 4.5]]
    assert alone.labels.slices is not None
    assert len(alone.labels.slices) == 0
    assert alone.fingerprint != "a"


def test_digest_is_of_what_the_test_volumes_hold() -> None:
    first = digest_of([case("a", True)])
    assert digest_of([replace(case("b", True), fingerprint="other")]) == first
    moved = case("a", True)
    assert moved.truth is not None
    assert digest_of([replace(moved, truth=replace(moved.truth, boxes=moved.truth.boxes + 1))]) != first


def test_cases_that_cannot_give_a_delta_are_refused_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As published data sets: nobody says which lesions are the same."""
    unlabelled = replace(case("a", True), truth=None)
    store(unlabelled, tmp_path)
    write_set(tmp_path, {"train": ["a"], "validation": [], "matching": [], "test": []}, Origin(simulated=False))
    monkeypatch.setattr(lens_run, "train", lambda *_: pytest.fail("began to train"))
    monkeypatch.setattr(lens_run, "train_organs", lambda *_: pytest.fail("began to pretrain"))
    with pytest.raises(InputError, match="does not say which lesions are the same"):
        lens_run.run(lens_run.preset("edge", shape=TINY), None, tmp_path / "run", tmp_path)


def test_found_boxes_without_any(tmp_path: Path) -> None:
    """A network with one expert has no specialists; nothing found is kept as such."""
    none = SliceBoxes(
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 1), np.float32), np.zeros(0, np.int64)
    )
    stages._keep_found(tmp_path / "found.npz", "key", FoundBoxes({"a": none}, {}))
    read = stages._read_found(tmp_path / "found.npz", "key")
    assert read is not None
    assert read.specialists == {}
    assert read.pooled["a"].boxes.shape == (0, 4)
    assert stages._read_found(tmp_path / "found.npz", "another") is None
