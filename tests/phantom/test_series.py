"""A volume written as a DICOM series is read back the same, by lnsdk and by others."""

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

import lnsdk
from lnsdk.phantom import Phantom, write_series
from lnsdk.volume import Volume


@pytest.fixture(scope="module")
def folder(chest: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("series") / "new"
    write_series(chest.volume, out, seed=3)
    return out


def test_lnsdk_reads_it_back(chest: Phantom, folder: Path) -> None:
    again = lnsdk.read(folder)
    assert np.array_equal(again.voxels, chest.volume.voxels)
    np.testing.assert_allclose(again.affine, chest.volume.affine, atol=1e-6)
    assert again.warnings == ()


def test_simpleitk_reads_the_same(chest: Phantom, folder: Path) -> None:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(image), chest.volume.voxels)
    assert image.GetOrigin() == pytest.approx(chest.volume.affine[:3, 3], abs=1e-6)
    assert image.GetSpacing() == pytest.approx(chest.volume.spacing, abs=1e-6)


def test_highdicom_sees_a_regular_volume(chest: Phantom, folder: Path) -> None:
    datasets = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    spacing, _ = highdicom.spatial.get_series_volume_positions(datasets)
    assert spacing == pytest.approx(chest.volume.spacing[2], abs=1e-4)


def test_it_says_that_it_is_no_patient_and_repeats_for_a_seed(chest: Phantom, folder: Path, tmp_path: Path) -> None:
    first = sorted(folder.iterdir())[0]
    assert str(pydicom.dcmread(first).PatientName) == "PHANTOM^SIMULATED"
    again = write_series(chest.volume, tmp_path / "a", seed=3)[0]
    other = write_series(chest.volume, tmp_path / "b", seed=4)[0]
    assert again.read_bytes() == first.read_bytes()
    assert pydicom.dcmread(other).SeriesInstanceUID != pydicom.dcmread(first).SeriesInstanceUID


def test_what_dicom_cannot_hold_is_refused(tmp_path: Path) -> None:
    sheared = np.eye(4)
    sheared[0, 2] = 0.3
    voxels = np.zeros((2, 4, 4), np.int16)
    with pytest.raises(ValueError, match="perpendicular axes"):
        write_series(Volume(voxels, sheared), tmp_path)
    with pytest.raises(ValueError, match="at most 31743 HU"):
        write_series(Volume(voxels + np.int16(32000), np.eye(4)), tmp_path)
