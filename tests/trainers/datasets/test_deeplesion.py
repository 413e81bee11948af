"""DeepLesion: key slices and 3D boxes of tiny sub-volumes in its format."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lnsdk.errors import InputError
from lnsdk.trainers.datasets.deeplesion import read_deeplesion, read_deeplesion_3d
from tests.trainers.datasets.made import BODY, BRIGHT, SPACING, assert_on_bright_voxels, body, brightness, on_grid

SERIES = "000001_02_03"
FIRST = 101
BOX = (19.5, 29.5, 29.5, 35.5)
"""Of the bright block, which lies on slices 105 to 107."""


def row(key_slice: int = 105, **changes: Any) -> dict[str, str]:
    """A row of DL_info.csv; pixels count from 1 there."""
    fields = {
        "File_name": f"{SERIES}_{key_slice:03d}.png",
        "Patient_index": "1",
        "Study_index": "2",
        "Series_ID": "3",
        "Key_slice_index": str(key_slice),
        "Measurement_coordinates": "25, 32, 30, 32, 27, 30, 27, 34",
        "Bounding_boxes": ", ".join(str(value + 1) for value in BOX),
        "Lesion_diameters_Pixel_": "10, 6",
        "Normalized_lesion_location": "0.4, 0.5, 0.6",
        "Coarse_lesion_type": "5",
        "Possibly_noisy": "0",
        "Slice_range": "101, 110",
        "Spacing_mm_px_": ", ".join(map(str, SPACING)),
        "Image_size": "64, 64",
        "DICOM_windows": "-1500, 500",
        "Patient_gender": "F",
        "Patient_age": "62",
        "Train_Val_Test": "1",
    }
    return fields | changes


def write_table(root: Path, rows: list[dict[str, str]]) -> Path:
    root.mkdir(exist_ok=True)
    (root / "Images_png").mkdir(exist_ok=True)
    with (root / "DL_info.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, row().keys())
        writer.writeheader()
        writer.writerows(rows)
    return root


def write_slices(root: Path, first: int = FIRST, series: str = SERIES, depth: int = 10) -> None:
    """Slices from head to feet with the block on the fifth to the seventh."""
    voxels: NDArray[np.int16] = body(depth)
    voxels[4:7, 30:36, 20:30] = BRIGHT
    folder = root / "Images_png" / series
    folder.mkdir(parents=True, exist_ok=True)
    for i, pixels in enumerate(voxels):
        Image.fromarray((pixels.astype(np.int32) + 32768).astype(np.uint16)).save(folder / f"{first + i:03d}.png")


def data_set(root: Path, *rows: dict[str, str]) -> Path:
    write_slices(root)
    return write_table(root, list(rows) or [row()])


def test_key_slice_box_lies_on_the_bright_voxels_of_its_slice_only(tmp_path: Path) -> None:
    """Slice 105 is the fifth of ten from the head, so the sixth from the feet; grid slices are as far apart."""
    (recording,) = read_deeplesion(data_set(tmp_path / "data")).recordings
    case = on_grid(recording, tmp_path)
    (found,) = case.labels.boxes
    assert found[0] == 5
    assert brightness(case.grid[5]).max() == pytest.approx(1, abs=1e-2)
    assert brightness(case.grid[6]).max() == 0
    assert_on_bright_voxels(case, found)
    assert case.labels.types == ("lung",)
    assert (case.expert, case.patient, case.study, case.series) == ("universal", "000001", "000001_02", "03")


def test_recording_tells_what_the_table_says(tmp_path: Path) -> None:
    (recording,) = read_deeplesion(data_set(tmp_path)).recordings
    volume, annotations = recording.load()
    assert recording.name == "deeplesion-000001_02_03_101-110"
    assert recording.split == "train"
    assert volume.spacing == pytest.approx(SPACING)
    assert volume.voxels[5, 32, 25] == BRIGHT
    assert volume.voxels[5, 20, 15] == BODY
    np.testing.assert_allclose(annotations.boxes, [[5, *BOX]])
    assert annotations.locations == ((0.4, 0.5, 0.6),)
    assert not annotations.whole


def test_runs_of_slices_are_sub_volumes_with_their_own_lesions(tmp_path: Path) -> None:
    write_slices(tmp_path)
    write_slices(tmp_path, first=201)
    rows = [row(), row(107), row(206, Slice_range="201, 210", Coarse_lesion_type="-1")]
    first, second = read_deeplesion(write_table(tmp_path, rows)).recordings
    assert [first.name[-7:], second.name[-7:]] == ["101-110", "201-210"]
    assert first.load()[1].boxes[:, 0].tolist() == [5, 3]
    assert second.load()[1].types == ("",)


def test_padding_of_a_box_ends_at_the_border_of_the_image(tmp_path: Path) -> None:
    (recording,) = read_deeplesion(data_set(tmp_path, row(Bounding_boxes="-3, 10, 12, 20"))).recordings
    np.testing.assert_allclose(recording.load()[1].boxes, [[5, -0.5, 9, 11, 19]])


def test_noisy_marks_and_missing_series_are_counted(tmp_path: Path) -> None:
    other = row(File_name="000009_01_01_005.png", Slice_range="1, 9")
    root = data_set(tmp_path, row(), row(Possibly_noisy="1"), other)
    with pytest.raises(InputError, match=r"1 marks of 1 series without images \(000009_01_01\)"):
        read_deeplesion(root)
    data = read_deeplesion(root, allow_missing=True)
    assert len(data.recordings[0].load()[1].boxes) == 1
    assert data.left_out == (
        "1 marks of 1 series without images (000009_01_01)",
        "1 marks that DL_info.csv calls possibly noisy, and 0 series without any other",
    )


@pytest.mark.parametrize("gone", [105, 103])
def test_missing_slice_is_named(tmp_path: Path, gone: int) -> None:
    root = data_set(tmp_path)
    (root / "Images_png" / SERIES / f"{gone}.png").unlink()
    with pytest.raises(InputError, match=rf"{SERIES} has no slice {gone}\.png") as raised:
        read_deeplesion(root)
    assert raised.value.reason == "missing-slice"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"File_name": "slice.png"}, "row 1: File_name must be like"),
        ({"Bounding_boxes": "1, 2, 3"}, "row 1: Bounding_boxes must be 4 numbers"),
        ({"Spacing_mm_px_": "0, 1, 1"}, "row 1: Spacing_mm_px_ must be"),
        ({"Coarse_lesion_type": "9"}, "row 1: Coarse_lesion_type must be one of"),
        ({"Train_Val_Test": ""}, "row 1: Train_Val_Test must be one of 1, 2, 3"),
    ],
)
def test_bad_rows_are_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_deeplesion(data_set(tmp_path, row() | changes))


def test_rows_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="differ in Spacing_mm_px_"):
        read_deeplesion(data_set(tmp_path, row(), row(Spacing_mm_px_="1, 1, 5")))


def test_missing_folders_table_columns_and_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="root must be the folder that holds"):
        read_deeplesion(tmp_path / "nowhere")
    (tmp_path / "Images_png").mkdir()
    with pytest.raises(InputError, match="cannot read"):
        read_deeplesion(tmp_path)
    (tmp_path / "DL_info.csv").write_text("File_name,Bounding_boxes\n")
    with pytest.raises(InputError, match="lacks the column Normalized_lesion_location"):
        read_deeplesion(tmp_path)
    with pytest.raises(InputError, match="has no rows"):
        read_deeplesion(write_table(tmp_path, []))


def test_box_outside_the_image_is_refused(tmp_path: Path) -> None:
    (recording,) = read_deeplesion(data_set(tmp_path, row(Bounding_boxes="70, 10, 80, 20"))).recordings
    with pytest.raises(InputError, match="outside the volume of 64 x 64 x 10 voxels"):
        recording.load()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((64, 64), np.uint8), "must be a grey PNG of 16 bits"),
        (np.zeros((32, 64), np.uint16), r"104\.png has \(32, 64\) pixels"),
    ],
)
def test_slices_of_another_kind_are_refused(tmp_path: Path, pixels: NDArray[Any], message: str) -> None:
    root = data_set(tmp_path)
    Image.fromarray(pixels).save(root / "Images_png" / SERIES / "104.png")
    (recording,) = read_deeplesion(root).recordings
    with pytest.raises(InputError, match=message):
        recording.load()


def test_damaged_slice_is_named(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    path = root / "Images_png" / SERIES / "104.png"
    path.write_bytes(path.read_bytes()[:100])
    (recording,) = read_deeplesion(root).recordings
    with pytest.raises(InputError, match=rf"{SERIES}/104\.png is damaged"):
        recording.load()


def boxes_file(root: Path, record: object) -> Path:
    path = root / "boxes.json"
    path.write_text(json.dumps(record))
    return path


def test_3d_boxes_lie_on_the_bright_voxels_of_every_slice(tmp_path: Path) -> None:
    root = data_set(tmp_path / "data")
    boxes = boxes_file(root, {f"{SERIES}_102-110": [[20.0, 30.0, 105.0, 29.0, 35.0, 107.0]]})
    (recording,) = read_deeplesion_3d(root, boxes, split="validation").recordings
    assert recording.split == "validation"
    case = on_grid(recording, tmp_path)
    assert case.labels.boxes[:, 0].tolist() == [3, 4, 5]
    for found in case.labels.boxes:
        assert_on_bright_voxels(case, found)
    assert [brightness(case.grid[z]).max() > 0.5 for z in range(9)] == [z in (3, 4, 5) for z in range(9)]


def test_3d_boxes_are_the_truth_and_key_slices_are_not(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    boxes = boxes_file(root, {f"{SERIES}_102-110": [[20, 30, 105, 29, 35, 107]], f"{SERIES}_101-104": []})
    empty, full = (on_grid(recording, tmp_path) for recording in read_deeplesion_3d(root, boxes).recordings)
    assert empty.truth is not None
    assert full.truth is not None
    assert len(empty.truth.boxes) == 0
    np.testing.assert_allclose(full.truth.diameters, [16.0])
    np.testing.assert_allclose(full.truth.boxes[:, [2, 5]], [[2.5, 5.5]])
    assert (full.truth.types, full.truth.labelled.tolist(), full.patient) == (("",), [True], "000001")
    (recording,) = read_deeplesion(root).recordings
    assert on_grid(recording, tmp_path).truth is None


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "must map names"),
        ({}, "must map names"),
        ({"x": [[1, 2, 3, 4, 5, 6]]}, "must be named like"),
        ({f"{SERIES}_101-110": [[1, 2, 3]]}, "a box must be x1"),
        ({f"{SERIES}_101-110": [[1, 2, 3, 4, 5, 6]]}, "must be slices 101 to 110"),
        ({"000009_01_01_101-110": []}, "has no row of this series"),
    ],
)
def test_bad_3d_boxes_are_refused(tmp_path: Path, record: object, message: str) -> None:
    root = data_set(tmp_path)
    with pytest.raises(InputError, match=message):
        read_deeplesion_3d(root, boxes_file(root, record))


def test_3d_boxes_of_missing_slices_are_refused(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    (recording,) = read_deeplesion_3d(root, boxes_file(root, {f"{SERIES}_101-111": []})).recordings
    with pytest.raises(InputError, match=rf"{SERIES}/111\.png is not there"):
        recording.load()


@pytest.mark.realdata
def test_published_3d_boxes_can_be_read(tmp_path: Path, data_dir: Path) -> None:
    boxes = data_dir / "oracles/lens/ground_truth.json"
    series = {name.rsplit("_", 1)[0] for name in json.loads(boxes.read_text())}
    root = write_table(tmp_path, [row(File_name=f"{name}_001.png") for name in series])
    with pytest.raises(InputError, match="no images of"):
        read_deeplesion_3d(root, boxes)
    (said,) = read_deeplesion_3d(root, boxes, allow_missing=True).left_out
    assert said.startswith("200 sub-volumes without images")
