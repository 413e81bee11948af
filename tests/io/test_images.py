"""NIfTI, MetaImage and NRRD: geometry, values and axis orders."""

from __future__ import annotations

import gzip
import struct
import zipfile
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK

from lnsdk.errors import InputError
from lnsdk.io import read
from lnsdk.volume import AxisMap, Volume, to_lps_axes
from tests.io import samples

CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512}


def nifti(
    path: Path,
    values: npt.NDArray[Any],
    affine: npt.NDArray[np.float64] | None = None,
    *,
    order: str = "<",
    slope: float = 0.0,
    inter: float = 0.0,
    sform: int = 1,
    units: int = 2,
) -> Path:
    """Write values (..., z, y, x) as NIfTI-1 by the layout in nifti1.h, with the affine (to RAS) as sform."""
    affine = np.eye(4) if affine is None else affine
    header = bytearray(352)
    struct.pack_into(order + "i", header, 0, 348)
    dims = [values.ndim, *values.shape[::-1], *[1] * (7 - values.ndim)]
    struct.pack_into(order + "8h", header, 40, *dims)
    kind = values.dtype.str[1:]
    struct.pack_into(order + "2h", header, 70, CODES[kind], values.dtype.itemsize * 8)
    struct.pack_into(order + "8f", header, 76, 1.0, *np.nan_to_num(np.linalg.norm(affine[:3, :3], axis=0)), *[1.0] * 4)
    struct.pack_into(order + "3f", header, 108, 352.0, slope, inter)
    header[123] = units
    struct.pack_into(order + "2h", header, 252, 0, sform)
    struct.pack_into(order + "12f", header, 280, *affine[:3].ravel())
    header[344:348] = b"n+1\0"
    data = bytes(header) + values.astype(order + kind).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write(path: Path, volume: Volume) -> Path:
    """Write a volume through SimpleITK."""
    image = SimpleITK.GetImageFromArray(volume.voxels)
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.affine[:3, 3])
    image.SetDirection((volume.affine[:3, :3] / volume.spacing).ravel())
    SimpleITK.WriteImage(image, str(path))
    return path


def sample() -> Volume:
    return Volume(samples.hounsfield(), samples.AFFINE)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "mha", "mhd", "nrrd", "nhdr"])
def test_every_format_gives_the_same_volume(suffix: str, tmp_path: Path) -> None:
    volume = read(write(tmp_path / f"ct.{suffix}", sample()))
    assert np.array_equal(volume.voxels, samples.hounsfield())
    np.testing.assert_allclose(volume.affine, samples.AFFINE, atol=1e-5)
    assert volume.warnings == ()
    assert volume.sop_instance_uids == ()
    assert read(tmp_path).warnings == ()  # the file with a header's pixels is no file of another kind


@pytest.mark.parametrize("suffix", ["nii.gz", "mha", "nrrd"])
def test_oblique_volumes_and_left_handed_axes(suffix: str, tmp_path: Path) -> None:
    affine = np.eye(4)
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    affine[:3, :3], affine[:3, 3] = rotation * [0.6, 0.7, 2.5], samples.ORIGIN
    for flip in (1.0, -1.0):
        affine[:3, 0] *= flip
        volume = read(write(tmp_path / f"ct.{suffix}", Volume(samples.hounsfield(), affine)))
        np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
        assert np.array_equal(volume.voxels, samples.hounsfield())


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product([False, True], repeat=3)))
def test_all_48_orientations_come_back_to_lps_axes(
    axes: tuple[int, int, int], flips: tuple[bool, bool, bool], tmp_path: Path
) -> None:
    straight = sample()
    turn = AxisMap(axes, flips, straight.shape)
    affine = turn.geometry_to_target(straight.geometry).affine
    turned = Volume(turn.voxels_to_target(straight.voxels), affine)
    found = read(write(tmp_path / "ct.nii.gz", turned))
    np.testing.assert_allclose(found.affine, affine, atol=1e-4)
    assert np.array_equal(found.voxels, turned.voxels)
    back, axis_map = to_lps_axes(found)
    assert np.array_equal(back.voxels, straight.voxels)
    np.testing.assert_allclose(back.affine, straight.affine, atol=1e-4)
    box = np.array([[1, 2, 3, 4, 6, 5]], np.float32)
    np.testing.assert_allclose(axis_map.boxes_to_source(box), turn.boxes_from_source(box), atol=1e-4)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["i2", "i4", "f4", "f8"])
def test_nifti_types_and_byte_orders(kind: str, order: str, tmp_path: Path) -> None:
    path = nifti(tmp_path / "ct.nii", samples.hounsfield().astype(kind), np.diag([0.6, 0.7, 2.5, 1]), order=order)
    volume = read(path)
    assert np.array_equal(volume.voxels, samples.hounsfield())
    np.testing.assert_allclose(volume.affine, np.diag([-0.6, -0.7, 2.5, 1]), atol=1e-6)


def test_nifti_2(tmp_path: Path) -> None:
    values = samples.hounsfield()
    header = bytearray(544)
    struct.pack_into("<i8s2h", header, 0, 540, b"n+2\0\r\n\x1a\n", 4, 16)
    struct.pack_into("<8q", header, 16, 3, *values.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<8d", header, 104, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<q2d", header, 168, 544, 0, 0)
    struct.pack_into("<2i", header, 344, 0, 1)
    struct.pack_into("<12d", header, 400, *np.diag([0.6, 0.7, 2.5, 1])[:3].ravel())
    path = tmp_path / "ct.nii"
    path.write_bytes(bytes(header) + values.tobytes())
    volume = read(path)
    assert np.array_equal(volume.voxels, values)
    np.testing.assert_allclose(volume.affine, np.diag([-0.6, -0.7, 2.5, 1]))


def test_nifti_scaling_is_applied_and_rounded(tmp_path: Path) -> None:
    stored = (samples.hounsfield().astype(np.int32) + 1024).astype(np.uint16)
    volume = read(nifti(tmp_path / "ct.nii", stored, slope=0.5, inter=-1000.25))
    assert np.array_equal(volume.voxels, np.rint(stored * 0.5 - 1000.25))


def test_nifti_unit_of_length(tmp_path: Path) -> None:
    volume = read(nifti(tmp_path / "ct.nii", samples.hounsfield(), np.diag([0.001, 0.001, 0.002, 1]), units=1))
    assert volume.spacing == pytest.approx((1, 1, 2))


def test_nifti_without_orientation_is_reported(tmp_path: Path) -> None:
    volume = read(nifti(tmp_path / "ct.nii", samples.hounsfield(), np.diag([0.6, 0.7, 2.5, 1]), sform=0))
    assert volume.spacing == pytest.approx((0.6, 0.7, 2.5))
    assert "does not say how the volume is oriented" in volume.warnings[0]


def test_nifti_with_two_places_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.nii", sample())
    data = bytearray(path.read_bytes())
    struct.pack_into("<f", data, 292, 40.0)  # srow_x[3]
    path.write_bytes(data)
    volume = read(path)
    assert volume.affine[0, 3] == pytest.approx(-40)
    assert "sform and qform differ by up to" in volume.warnings[0]


@pytest.mark.parametrize("suffix", ["nii", "mha", "nrrd"])
def test_trailing_axes_of_one_are_no_fourth_dimension(suffix: str, tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(samples.hounsfield()[None], isVector=False)
    affine = samples.AFFINE
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = np.eye(4)
    direction[:3, :3] = affine[:3, :3] / spacing
    image.SetSpacing([*spacing, 1.0])
    image.SetOrigin([*affine[:3, 3], 0.0])
    image.SetDirection(direction.ravel())
    SimpleITK.WriteImage(image, str(tmp_path / f"ct.{suffix}"))
    volume = read(tmp_path / f"ct.{suffix}")
    assert np.array_equal(volume.voxels, samples.hounsfield())
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)


def test_values_that_may_be_no_hu_are_reported(tmp_path: Path) -> None:
    volume = read(nifti(tmp_path / "labels.nii", np.ones((3, 8, 8), np.uint8)))
    assert volume.warnings == ("no voxel is below 0: these may be no HU",)


def test_values_beyond_int16_are_clipped_and_reported(tmp_path: Path) -> None:
    values = samples.hounsfield().astype(np.int32)
    values[0, 0, :2] = [10**6, -(10**6)]
    volume = read(nifti(tmp_path / "ct.nii", values))
    assert volume.voxels[0, 0, :2].tolist() == [32767, -32768]
    assert volume.warnings == ("voxels outside the range of int16 were clipped: 2",)


def test_nrrd_without_space_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "ct.nrrd"
    values = samples.hounsfield()
    sizes = " ".join(map(str, values.shape[::-1]))
    header = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {sizes}\nspacings: 1 1 2\nendian: little\nencoding: raw\n\n"
    path.write_bytes(header.encode() + values.tobytes())
    volume = read(path)
    assert volume.spacing == pytest.approx((1, 1, 2))
    assert volume.warnings == ("the file does not say how the volume is oriented; LPS was assumed",)


def test_sheared_meta_image_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.mha", sample())
    straight = b"TransformMatrix = 1 0 0 0 1 0 0 0 1"
    assert straight in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(straight, b"TransformMatrix = 1 0 0 0 1 0 0 .3 1"))
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.reason == "sheared-affine"


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_colour_images_are_refused(suffix: str, tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / f"rgb.{suffix}"))
    with pytest.raises(InputError) as caught:
        read(tmp_path / f"rgb.{suffix}")
    assert caught.value.reason == "not-scalar"


@pytest.mark.parametrize("suffix", ["nii.gz", "mha", "nrrd"])
def test_image_in_a_zip(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"ct.{suffix}", sample())
    with zipfile.ZipFile(tmp_path / "ct.zip", "w") as archive:
        archive.write(path, f"deep/ct.{suffix}")
    assert np.array_equal(read(tmp_path / "ct.zip").voxels, samples.hounsfield())


def test_a_name_that_two_files_share_is_no_choice(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "ct.mha", sample())
    with pytest.raises(InputError) as caught:
        read(tmp_path, series="ct.mha")
    assert caught.value.reason == "no-such-series"
    assert read(tmp_path, series=2).shape[0] == 8


def test_several_images_are_listed_and_chosen_by_number_or_name(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii", samples.hounsfield(3), np.diag([0.6, 0.7, 2.5, 1]))
    write(tmp_path / "b.mha", sample())
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(
        InputError, match=r"1\) a.nii, 40 x 36 x 3 voxels of 0.60 x 0.70 x 2.50 mm; 2\) b.mha"
    ) as caught:
        read(tmp_path)
    assert caught.value.reason == "several-volumes"
    assert read(tmp_path, series=1).shape[0] == 3
    assert read(tmp_path, series="b.mha").shape[0] == 8
    assert read(tmp_path, series="b.mha").warnings == ("set aside beside the volume: file of another kind (1)",)
    with pytest.raises(InputError) as caught:
        read(tmp_path, series=3)
    assert caught.value.reason == "no-such-series"
