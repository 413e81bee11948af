"""Recordings on the grid: which boxes they get there, and when they are made."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lnsdk.errors import InputError
from lnsdk.trainers.common.cases import read_grid_cases
from lnsdk.trainers.common.grid import GridFrame
from lnsdk.trainers.common.samples import Dataset
from lnsdk.trainers.datasets.lits import read_lits
from lnsdk.trainers.datasets.prepare import grid_rows, outdated, prepare_recordings, write_recording
from lnsdk.trainers.datasets.recording import Annotations, random_split
from tests.trainers.datasets.test_masks import write_lits


def grid(depth: int, scale_z: float) -> GridFrame:
    """Pixels of twice the grid's size, cropped by 10 and 20 samples."""
    return GridFrame(np.array([2.0, 2.0, scale_z]), ((0, depth), (20, 70), (10, 70)))


def test_key_slice_goes_to_the_nearest_grid_slice() -> None:
    """Slices of 3 mm on a grid of 2 mm: slice 3 lies at 4.5, slice 5 at 7.5, beyond the last grid slice 7."""
    boxes = [[1, 10, 12, 15, 20], [5, 10, 12, 15, 20]]
    rows = grid_rows(Annotations.of(boxes, [0, 0], ["", ""], whole=False), grid(8, 1.5))
    assert rows.boxes.tolist() == [[2, 10, 4, 20, 20], [7, 10, 4, 20, 20]]


def test_whole_lesion_is_interpolated_on_every_grid_slice_inside() -> None:
    """Slices 1 and 2 of 5 mm lie at 2.5 and 5 of the grid, the lesion from 1.25 to 6.25."""
    boxes = [[1, 10, 12, 14, 20], [2, 15, 12, 19, 20]]
    rows = grid_rows(Annotations.of(boxes, [0, 0], [""], whole=True), grid(9, 2.5)).boxes
    assert rows[:, 0].tolist() == [2, 3, 4, 5, 6]
    np.testing.assert_allclose(rows[:, 1], [10, 12, 16, 20, 20])
    np.testing.assert_allclose(rows[:, 3], [18, 20, 24, 28, 28])
    np.testing.assert_allclose(rows[:, [2, 4]], [[4, 20]] * 5)


def test_whole_lesion_between_two_grid_slices_is_on_the_nearest() -> None:
    """Slice 3 of 0.7 mm lies at 1.05 of the grid, slice 4 at 1.4, from 1.225 to 1.575."""
    rows = grid_rows(Annotations.of([[4, 10, 12, 14, 20]], [0], [""], whole=True), grid(9, 0.35))
    assert rows.boxes.tolist() == [[1, 10, 4, 18, 20]]


def test_boxes_beside_the_body_are_counted() -> None:
    boxes = [[1, 0, 12, 4, 20], [1, 10, 12, 14, 20], [1, 36, 12, 40, 20]]
    rows = grid_rows(Annotations.of(boxes, [0, 1, 2], [""] * 3, whole=True), grid(4, 1.0))
    assert rows.lesion.tolist() == [1]
    assert rows.outside == 2


def test_case_can_be_sampled(tmp_path: Path) -> None:
    (recording,) = read_lits(write_lits(tmp_path)).recordings
    write_recording(recording, tmp_path)
    dataset = Dataset("liver", read_grid_cases(tmp_path, [recording.name]))
    sample = dataset.draw(np.random.default_rng(0), 64, positive=True)
    assert len(sample.boxes) > 0


def test_case_is_made_again_when_its_files_or_annotations_change(tmp_path: Path) -> None:
    root = write_lits(tmp_path / "data")
    (recording,) = read_lits(root).recordings
    assert outdated([recording], tmp_path) == [recording]
    write_recording(recording, tmp_path)
    assert outdated([recording], tmp_path) == []
    moved = replace(recording, patient="another")
    assert outdated([moved], tmp_path) == [moved]
    write_lits(root, labels="RAS")
    assert outdated([recording], tmp_path) == [recording]


def test_recordings_are_prepared_once_in_processes(tmp_path: Path) -> None:
    root = write_lits(tmp_path / "data", 1)
    write_lits(root, 2)
    recordings = read_lits(root).recordings
    assert prepare_recordings(recordings, tmp_path / "cases") == ()
    first, second = read_grid_cases(tmp_path / "cases", ["lits-1", "lits-2"])
    np.testing.assert_array_equal(first.labels.boxes, second.labels.boxes)
    made = (tmp_path / "cases" / "lits-1.npy").stat().st_mtime_ns
    assert prepare_recordings(recordings, tmp_path / "cases") == ()
    assert (tmp_path / "cases" / "lits-1.npy").stat().st_mtime_ns == made


def test_names_must_differ(tmp_path: Path) -> None:
    recordings = read_lits(write_lits(tmp_path)).recordings
    with pytest.raises(ValueError, match="lits-0 occurs twice"):
        prepare_recordings(recordings * 2, tmp_path)


def test_unreadable_recording_leaves_no_case(tmp_path: Path) -> None:
    root = write_lits(tmp_path)
    (recording,) = read_lits(root).recordings
    (root / "volume-0.nii").write_bytes(b"")
    with pytest.raises(InputError):
        write_recording(recording, tmp_path)
    assert not (tmp_path / "lits-0.json").exists()


def test_split_hardly_changes_when_patients_are_added() -> None:
    few, many = random_split(map(str, range(100)), 0), random_split(map(str, range(105)), 0)
    assert list(few.values()).count("validation") == 20
    assert list(many.values()).count("validation") == 21
    assert sum(few[name] != many[name] for name in few) <= 4
