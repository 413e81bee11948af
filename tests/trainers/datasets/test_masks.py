"""LiTS and NIH-LN: tiny CTs with label volumes in their formats."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from lnsdk.errors import InputError
from lnsdk.phantom.series import write_series
from lnsdk.trainers.datasets.lits import read_lits
from lnsdk.trainers.datasets.masks import connected, slice_boxes
from lnsdk.trainers.datasets.nih_ln import read_nih_ln
from tests.trainers.datasets.made import BLOCK_BOXES, assert_on_bright_voxels, blocks, body, image, on_grid, with_blocks


def write_lits(root: Path, number: int = 0, ct: str = "LPS", labels: str = "LPS", suffix: str = "nii") -> Path:
    """The blocks are tumours (2) in a liver (1)."""
    root.mkdir(exist_ok=True)
    segmentation = np.where(body() > -500, 1, 0).astype(np.int16)
    segmentation[blocks() > 0] = 2
    SimpleITK.WriteImage(image(with_blocks().voxels, ct), str(root / f"volume-{number}.{suffix}"))
    SimpleITK.WriteImage(image(segmentation, labels), str(root / f"segmentation-{number}.{suffix}"))
    return root


def write_nih_ln(root: Path, case: str = "MED_LYMPH_001", labels: str = "LPS", images: str = "CT Lymph Nodes") -> Path:
    """The blocks are nodes with the values 1 and 2."""
    write_series(with_blocks(), root / images / case / "study" / "series")
    mask = root / "MED_ABD_LYMPH_MASKS" / case / f"{case}_mask.nii.gz"
    mask.parent.mkdir(parents=True)
    SimpleITK.WriteImage(image(blocks(), labels), str(mask))
    return root


@pytest.mark.parametrize(
    ("ct", "labels"), [("LPS", "LPS"), ("RAS", "RAS"), ("LAI", "LAI"), ("PSR", "PSR"), ("RPI", "LPS"), ("LPS", "SAR")]
)
def test_lits_boxes_lie_on_the_bright_blocks(tmp_path: Path, ct: str, labels: str) -> None:
    (recording,) = read_lits(write_lits(tmp_path / "data", 7, ct, labels)).recordings
    case = on_grid(recording, tmp_path)
    assert case.labels.boxes[:, 0].tolist() == [2, 3, 4, 6, 7]
    assert case.labels.lesion.tolist() == [0, 0, 0, 1, 1]
    for row in case.labels.boxes:
        assert_on_bright_voxels(case, row)
    assert (case.name, case.expert, case.labels.types) == ("lits-7", "liver", ("liver_tumour", "liver_tumour"))


@pytest.mark.parametrize("labels", ["LPS", "RAS", "PIR"])
def test_nih_ln_boxes_lie_on_the_bright_blocks(tmp_path: Path, labels: str) -> None:
    (recording,) = read_nih_ln(write_nih_ln(tmp_path / "data", labels=labels)).recordings
    case = on_grid(recording, tmp_path)
    assert case.labels.boxes[:, 0].tolist() == [2, 3, 4, 6, 7]
    for row in case.labels.boxes:
        assert_on_bright_voxels(case, row)
    assert (case.name, case.expert) == ("nih_ln-MED_LYMPH_001", "lymph_node")


def test_truth_has_the_boxes_of_the_blocks(tmp_path: Path) -> None:
    (recording,) = read_lits(write_lits(tmp_path, suffix="nii.gz")).recordings
    truth = on_grid(recording, tmp_path).truth
    assert truth is not None
    blocks = np.array(list(BLOCK_BOXES.values()))
    np.testing.assert_allclose(truth.boxes[:, 3:] - truth.boxes[:, :3], (blocks[:, 3:] - blocks[:, :3]) * [2, 2, 1])
    np.testing.assert_allclose(truth.diameters, [10 * 1.6, 5 * 1.6], rtol=1e-6)


def test_parts_that_share_a_corner_are_one_lesion() -> None:
    mask = np.zeros((3, 6, 6), bool)
    mask[0, 1, 1] = mask[1, 2, 2] = True
    mask[1, 5, 5] = True
    labels = connected(mask)
    assert labels[0, 1, 1] == labels[1, 2, 2] != labels[1, 5, 5]
    assert labels.max() == 2


def test_slice_boxes_of_a_few_voxels() -> None:
    """Label 9 on slices 0 and 2 with a hole between them, label 4 on slice 2."""
    labels = np.zeros((3, 5, 6), np.int16)
    labels[0, 1, 2:5] = 9
    labels[2, 1:4, 0] = 9
    labels[2, 4, 5] = 4
    boxes, lesion, found = slice_boxes(labels)
    assert boxes.tolist() == [[2, 4.5, 3.5, 5.5, 4.5], [0, 1.5, 0.5, 4.5, 1.5], [2, -0.5, 0.5, 0.5, 3.5]]
    assert lesion.tolist() == [0, 1, 1]
    assert found == 2


def test_labels_without_a_lesion_make_a_recording_without_boxes(tmp_path: Path) -> None:
    write_lits(tmp_path)
    liver = SimpleITK.GetImageFromArray(np.ones((10, 64, 64), np.int16))
    liver.CopyInformation(image(body()))
    SimpleITK.WriteImage(liver, str(tmp_path / "segmentation-0.nii"))
    (recording,) = read_lits(tmp_path).recordings
    _, annotations = recording.load()
    assert annotations.boxes.shape == (0, 5)
    assert annotations.types == ()


def test_labels_of_another_shape_are_refused(tmp_path: Path) -> None:
    write_lits(tmp_path)
    SimpleITK.WriteImage(image(blocks(9)), str(tmp_path / "segmentation-0.nii"))
    (recording,) = read_lits(tmp_path).recordings
    with pytest.raises(InputError, match=r"segmentation-0\.nii has \(9, 64, 64\) voxels"):
        recording.load()


def test_labels_at_another_place_are_refused(tmp_path: Path) -> None:
    root = write_nih_ln(tmp_path)
    moved = image(blocks())
    moved.SetOrigin((-70.0, 30.0, -197.0))
    SimpleITK.WriteImage(moved, str(root / "MED_ABD_LYMPH_MASKS/MED_LYMPH_001/MED_LYMPH_001_mask.nii.gz"))
    (recording,) = read_nih_ln(root).recordings
    with pytest.raises(InputError, match=r"lies up to 1\.5 voxels from where its CT does") as raised:
        recording.load()
    assert raised.value.reason == "grid-mismatch"


def test_cts_without_a_voxel_size_are_left_out_and_said(tmp_path: Path) -> None:
    write_lits(tmp_path)
    plain = SimpleITK.GetImageFromArray(body())
    plain.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # the identity in NIfTI's own RAS
    for kind in ("volume", "segmentation"):
        SimpleITK.WriteImage(plain, str(tmp_path / f"{kind}-28.nii"))
    data = read_lits(tmp_path)
    assert [recording.name for recording in data.recordings] == ["lits-0"]
    (said,) = data.left_out
    assert said.startswith("1 CTs whose header holds the identity matrix instead of a voxel size (lits-28)")


def test_lits_pairs_must_be_complete(tmp_path: Path) -> None:
    write_lits(tmp_path)
    write_lits(tmp_path, 1)
    write_lits(tmp_path, 2)
    (tmp_path / "segmentation-1.nii").unlink()
    (tmp_path / "volume-2.nii").unlink()
    with pytest.raises(InputError, match=r"1 CTs without labels \(lits-1\); 1 labels without CT \(lits-2\)"):
        read_lits(tmp_path)
    data = read_lits(tmp_path, allow_missing=True)
    assert [recording.name for recording in data.recordings] == ["lits-0"]
    assert len(data.left_out) == 2


def test_lits_in_two_places_is_refused(tmp_path: Path) -> None:
    write_lits(tmp_path)
    write_lits(tmp_path, suffix="nii.gz")
    with pytest.raises(InputError, match="found more than once: lits-0"):
        read_lits(tmp_path)


def test_nih_ln_pairs_must_be_complete(tmp_path: Path) -> None:
    write_nih_ln(tmp_path)
    write_nih_ln(tmp_path, "ABD_LYMPH_002", images=".")
    (tmp_path / "MED_ABD_LYMPH_MASKS/ABD_LYMPH_002/ABD_LYMPH_002_mask.nii.gz").unlink()
    with pytest.raises(InputError, match=r"1 CTs without labels \(ABD_LYMPH_002\)"):
        read_nih_ln(tmp_path)
    data = read_nih_ln(tmp_path, allow_missing=True)
    assert [recording.patient for recording in data.recordings] == ["MED_LYMPH_001"]
    assert data.left_out == ("1 CTs without labels (ABD_LYMPH_002)",)


def test_missing_folders_and_files_are_refused(tmp_path: Path) -> None:
    for read in (read_lits, read_nih_ln):
        with pytest.raises(InputError, match="root must be the folder that holds"):
            read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no volume-N"):
        read_lits(tmp_path)
    with pytest.raises(InputError, match="MED_ABD_LYMPH_MASKS is no folder"):
        read_nih_ln(tmp_path)
    (tmp_path / "MED_ABD_LYMPH_MASKS").mkdir()
    with pytest.raises(InputError, match="found 0 DICOM folders and 0 masks"):
        read_nih_ln(tmp_path)
