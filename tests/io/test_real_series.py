"""Recorded CTs: affine, size and HU against SimpleITK and highdicom."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from pydicom import dcmread

from lnsdk.io import read
from lnsdk.volume import Volume

pytestmark = pytest.mark.realdata

SERIES = (
    "chest_acrin013",
    "chest_c3n00247",
    "chest_lungfcp",
    "chest_rider",
    "lidc/LIDC-IDRI-0001",
    "lidc/LIDC-IDRI-0002",
    *(f"sts/STS_{number:03d}" for number in range(1, 11)),
)
WITHOUT_SOP_CLASS = "totalseg_jpeg2000"
"""highdicom cannot read it."""


def slice_files(folder: Path) -> list[Path]:
    """Return the files of the series: those in the fullest folder; structure sets and masks lie in others."""
    holders = [path.parent for path in folder.rglob("*") if path.is_file()]
    return sorted(Counter(holders).most_common(1)[0][0].iterdir())


def itk_series(folder: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Read a series with SimpleITK: voxels (z, y, x) and affine."""
    reader = SimpleITK.ImageSeriesReader()
    holder = slice_files(folder)[0].parent
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(holder)))
    return itk_image(reader.Execute())


def itk_image(image: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image), affine


@pytest.mark.parametrize("name", SERIES)
def test_same_as_simpleitk_and_highdicom(name: str, data_dir: Path) -> None:
    folder = data_dir / "ct" / name
    volume = read(folder)
    assert_like_simpleitk(volume, folder)
    other = highdicom.get_volume_from_series([dcmread(path) for path in slice_files(folder)], dtype=np.float64)
    # highdicom's axes are slices against the normal, rows, columns.
    turned = other.affine[:, [2, 1, 0, 3]] @ np.array(
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, other.spatial_shape[0] - 1], [0, 0, 0, 1]]
    )
    np.testing.assert_allclose(volume.affine, turned, atol=1e-3)
    assert np.array_equal(volume.voxels, other.array[::-1])


def test_files_without_sop_class_same_as_simpleitk(data_dir: Path) -> None:
    folder = data_dir / "ct" / WITHOUT_SOP_CLASS
    assert_like_simpleitk(read(folder), folder)


def assert_like_simpleitk(volume: Volume, folder: Path) -> None:
    voxels, affine = itk_series(folder)
    assert np.array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-3)
    assert len(volume.sop_instance_uids) == len(voxels)


def test_nifti_same_as_simpleitk(data_dir: Path) -> None:
    paths = sorted((data_dir / "ct").rglob("*.nii.gz"))
    assert len(paths) == 16
    for path in paths:
        volume = read(path)
        voxels, affine = itk_image(SimpleITK.ReadImage(str(path)))
        assert np.array_equal(volume.voxels, np.rint(voxels)), path
        np.testing.assert_allclose(volume.affine, affine, atol=1e-3)
