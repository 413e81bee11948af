"""Generating sets of patients: what is stored, kept, made again, counted and drawn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lnsdk.errors import InputError
from lnsdk.trainers.common.cases import GridCase, read_grid_cases, read_set
from lnsdk.trainers.common.labels import Labels, Truth
from lnsdk.trainers.common.patients import plan as planning
from lnsdk.trainers.common.patients import prepare
from lnsdk.trainers.common.patients.picture import LABELLED, UNLABELLED, draw_patient, most_telling
from lnsdk.trainers.common.patients.plan import PatientPlan, PatientSetPlan
from lnsdk.trainers.common.patients.prepare import generate, is_current, prepare_patient, stored_cases
from lnsdk.trainers.common.patients.summary import summarize
from tests.trainers.patients.small import patient, single_study


def case(series: str, labelled: bool, expert: str = "universal", identity: str = "a") -> GridCase:
    """A case of study and series such as 1-1 with a lesion of 10 px on slices 2 to 4."""
    rows = np.array([[z, 20, 20, 30, 30] for z in (2, 3, 4)], np.float32)
    truth = Truth.of([[20, 20, 1.5, 30, 30, 4.5]], ["liver"], [8], [identity], [labelled], rows, [0, 0, 0])
    labels = Labels.of(rows[1:2], [0], ["liver"]) if labelled else Labels.of()
    grid = np.full((6, 80, 90), 70.0, np.float16)
    return GridCase(f"p-{series}", expert, grid, labels, truth, "p", f"p-{series[0]}", f"p-{series}")


def in_this_process(title: str, task: Callable[[PatientPlan], None], items: Sequence[PatientPlan]) -> None:
    for item in items:
        task(item)


@pytest.fixture
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coarse phantoms, made in this process."""
    monkeypatch.setattr(planning, "PHANTOM_SIZE", 192)
    monkeypatch.setattr(planning, "PHANTOM_PIXELS_MM", (1.9, 2.1))
    monkeypatch.setattr(planning, "PHANTOM_SLICE_MM", 5.0)
    monkeypatch.setattr(planning, "PIXELS_MM", (1.8, 2.0))
    monkeypatch.setattr(prepare, "in_parallel", in_this_process)


@pytest.mark.usefixtures("small_sets")
def test_generated_set_holds_what_was_planned(tmp_path: Path) -> None:
    plan = PatientSetPlan(patients=1, single=1, validation=1, test=1)
    summary = generate(plan, tmp_path)
    patients = {count.name: count.patients for count in summary.experts}
    assert patients == {"universal": 1, "lung": 1, "liver": 1, "lymph_node": 1, "all": 2}
    assert len({c.patient for c in read_set(tmp_path, "train")}) == 4
    validation, matching = read_set(tmp_path, "validation"), read_set(tmp_path, "matching")
    assert len(validation) == 1
    assert {c.name for c in validation} <= {c.name for c in matching}
    assert {c.patient for c in matching} == {c.patient for c in validation}
    assert len(read_set(tmp_path, "test")) == 1
    assert (tmp_path / "summary.md").read_text() == summary.markdown()
    stored = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    assert len(stored) == sum(count.cases for count in summary.experts)
    assert generate(plan, tmp_path) == summary
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")} == stored


def test_patients_are_made_again_for_another_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = single_study(patient())
    assert not is_current(plan, tmp_path)
    prepare_patient(plan, tmp_path)
    assert is_current(plan, tmp_path)
    for change in ({"seed": 4}, {"lesions": 5}, {"reach_mm": 20.0}, {"studies": patient().studies}):
        assert not is_current(replace(plan, **change), tmp_path)
    cut = replace(plan, reach_mm=20.0)
    prepare_patient(cut, tmp_path)
    assert {path.stem for path in tmp_path.glob("*.npy")} == set(stored_cases(cut, tmp_path))
    (tmp_path / f"{stored_cases(cut, tmp_path)[0]}.npy").unlink()
    assert not is_current(cut, tmp_path)
    monkeypatch.setattr(prepare, "_own_code", lambda: "edited")
    assert not is_current(plan, tmp_path)


def test_interrupted_patient_is_not_taken_for_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = patient()

    def interrupted(_: PatientPlan) -> Iterator[GridCase]:
        yield case("1-1", True)
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "grid_cases", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_patient(plan, tmp_path)
    assert not is_current(plan, tmp_path)
    assert [c.name for c in read_grid_cases(tmp_path, ["p-1-1"])] == ["p-1-1"]  # what was stored is whole
    with pytest.raises(InputError, match="must hold a set of cases"):
        read_set(tmp_path, "train")


def test_summary_by_hand() -> None:
    cases = [case("1-1", True), case("1-2", False), case("2-1", False), case("3-1", False, identity="b")]
    (count,) = summarize(cases).experts
    assert (count.patients, count.studies, count.series, count.cases) == (1, 3, 4, 4)
    assert (count.lesions, count.sights, count.labelled) == (2, 4, 1)
    assert (count.again, count.other_series, count.matchable) == (1, 1, 2)
    assert "| universal | 1 | 3 | 4 | 4 | 2 | 4 | 1 (25 %) | 1 | 1 | 2 |" in summarize(cases).markdown()


def test_sub_volumes_of_a_series_count_a_lesion_once() -> None:
    whole = case("1-1", True)
    (count,) = summarize([replace(whole, name="p-1-1-0"), replace(whole, name="p-1-1-1")]).experts
    assert (count.series, count.cases, count.sights, count.labelled) == (1, 2, 1, 1)


def test_summary_needs_a_truth() -> None:
    with pytest.raises(ValueError, match="p-1-1 has none"):
        summarize([replace(case("1-1", True), truth=None)])


def test_picture_tells_labelled_from_unlabelled() -> None:
    """One study of two series above one of one series: green in the first picture, red in the others."""
    cases = [case("1-1", True), case("1-2", False), case("2-1", False)]
    picture = np.asarray(draw_patient(cases))[70:]  # below the legend
    green, red = (np.argwhere((picture == color).all(axis=2)) for color in (LABELLED, UNLABELLED))
    middle_row, middle_column = picture.shape[0] / 2, picture.shape[1] / 2
    assert len(green) > 50
    assert (green < (middle_row, middle_column)).all()
    assert (red[:, 1] > middle_column).any()
    assert (red[:, 0] > middle_row).any()
    assert not ((red[:, 0] < middle_row - 30) & (red[:, 1] < middle_column)).any()


def test_a_patient_without_both_is_not_drawn(tmp_path: Path) -> None:
    alike = [case("1-1", False), case("2-1", False)]
    assert most_telling([alike]) is None
    assert most_telling([]) is None
    with pytest.raises(ValueError, match="has none such"):
        draw_patient(alike)
    told = [case("1-1", True), case("2-1", False)]
    chosen = most_telling([alike, told])
    assert chosen is not None
    assert [c.name for c in chosen] == [c.name for c in told]
    assert isinstance(draw_patient(told), Image.Image)


def test_set_names_every_case(tmp_path: Path) -> None:
    (tmp_path / "set.json").write_text(json.dumps({"test": []}))
    assert read_set(tmp_path, "test") == []
