"""Input that must be refused: each with its reason and one line that says what, where and what to do."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames

from lnsdk.errors import InputError
from lnsdk.io import read
from lnsdk.io.files import MAX_UNPACKED_BYTES
from tests.io import samples
from tests.io.test_dicom import ENCODERS, jpeg_ls_frame, zip_folder
from tests.io.test_images import nifti, sample, write

Make = Callable[[Path], Path]
"""Writes input under a folder and returns the path to read."""


def empty_folder(folder: Path) -> Path:
    return folder


def missing_path(folder: Path) -> Path:
    return folder / "nowhere"


def text_files(folder: Path) -> Path:
    (folder / "readme.txt").write_text("no image\n" * 100)
    (folder / "a.dcm").write_text("no image either")
    return folder


def truncated_uncompressed(folder: Path) -> Path:
    path = samples.save(folder, samples.series(), [f"{n}.dcm" for n in range(8)]) / "3.dcm"
    path.write_bytes(path.read_bytes()[:-500])
    return folder


def truncated_in_the_header(folder: Path) -> Path:
    path = samples.save(folder, samples.series(), [f"{n}.dcm" for n in range(8)]) / "3.dcm"
    path.write_bytes(path.read_bytes()[:705])
    return folder


def truncated_compressed(folder: Path) -> Path:
    datasets = samples.series(3)
    for dataset in datasets:
        samples.compress(dataset, uid.JPEGLSLossless, lambda frame: jpeg_ls_frame(folder, frame))
    path = samples.save(folder, datasets, ["0.dcm", "1.dcm", "2.dcm"]) / "2.dcm"
    path.write_bytes(path.read_bytes()[:-500])
    return folder


def empty_dicom_file(folder: Path) -> Path:
    samples.save(folder, samples.series())
    (folder / "copy_failed.dcm").touch()
    return folder


def no_pixel_data(folder: Path) -> Path:
    datasets = samples.series()
    del datasets[2].PixelData
    return samples.save(folder, datasets)


def two_volumes(folder: Path) -> Path:
    samples.save(folder / "a", samples.series())
    return samples.save(folder / "b", samples.series(3, SeriesInstanceUID=samples.OTHER_UID, SeriesNumber=2)).parent


def several_missing(folder: Path) -> Path:
    return samples.save(folder, [dataset for i, dataset in enumerate(samples.series(10)) if i not in (3, 6, 7)])


def duplicate_positions(folder: Path) -> Path:
    again = samples.ct_slice(samples.hounsfield()[5], 2, SOPInstanceUID=f"{samples.SERIES}.99", InstanceNumber=99)
    return samples.save(folder, [*samples.series(), again])


def two_acquisitions(folder: Path) -> Path:
    again = [
        samples.ct_slice(hu, index, SOPInstanceUID=f"{samples.SERIES}.9{index}", InstanceNumber=100 + index)
        for index, hu in enumerate(samples.hounsfield(seed=1))
    ]
    return samples.save(folder, [*samples.series(), *again])


def mixed_orientation(folder: Path) -> Path:
    datasets = samples.series()
    datasets[5].ImageOrientationPatient = list(samples.CORONAL)
    return samples.save(folder, datasets)


def gantry_tilt(folder: Path) -> Path:
    datasets = samples.series()
    for index, dataset in enumerate(datasets):
        x, y, z = samples.ORIGIN
        dataset.ImagePositionPatient = [x, y + 0.6 * index, z + 2.5 * index]
    return samples.save(folder, datasets)


def shifted_slice(folder: Path) -> Path:
    datasets = samples.series()
    x, y, z = datasets[4].ImagePositionPatient
    datasets[4].ImagePositionPatient = [x + 9, y, z]
    return samples.save(folder, datasets)


def irregular_spacing(folder: Path) -> Path:
    datasets = samples.series()
    for index in range(4, 8):
        x, y, z = samples.ORIGIN
        datasets[index].ImagePositionPatient = [x, y, z + 2.5 * index + 1.2]
    return samples.save(folder, datasets)


def mr(folder: Path) -> Path:
    return samples.save(folder, samples.series(Modality="MR", SOPClassUID=uid.MRImageStorage))


def two_pixel_spacings(folder: Path) -> Path:
    datasets = samples.series()
    for dataset in datasets[6:]:
        dataset.PixelSpacing = [0.8, 0.8]
    return samples.save(folder, datasets)


def two_matrix_sizes(folder: Path) -> Path:
    datasets = samples.series()
    samples.set_pixels(datasets[7], np.zeros((16, 16), np.uint16))
    return samples.save(folder, datasets)


def two_frames_of_reference(folder: Path) -> Path:
    datasets = samples.series()
    datasets[0].FrameOfReferenceUID = samples.OTHER_UID
    return samples.save(folder, datasets)


def only_localizers(folder: Path) -> Path:
    second = samples.localizer(InstanceNumber=2)
    second.SOPInstanceUID = f"{samples.OTHER_UID}.1.2"
    return samples.save(folder, [samples.localizer(), second])


def only_reports(folder: Path) -> Path:
    return samples.save(folder, [samples.without_pixels(uid.ComprehensiveSRStorage, "SR"), samples.segmentation()])


def no_positions(folder: Path) -> Path:
    return samples.save(folder, samples.series(ImagePositionPatient=None))


def one_without_position(folder: Path) -> Path:
    datasets = samples.series()
    del datasets[2].ImagePositionPatient
    return samples.save(folder, datasets)


def skewed_orientation(folder: Path) -> Path:
    return samples.save(folder, samples.series(ImageOrientationPatient=[1, 0, 0, 0.5, 0.866, 0]))


def wrong_number_in_header(folder: Path) -> Path:
    path = samples.save(folder, samples.series(), [f"{n}.dcm" for n in range(8)]) / "3.dcm"
    path.write_bytes(path.read_bytes().replace(b"-123.0", b"-12x.0").replace(b"-115.5", b"-11x.5"))
    return folder


def unreadable_syntax(folder: Path) -> Path:
    datasets = samples.series(3)
    for dataset in datasets:
        samples.compress(dataset, uid.MPEG4HP41, lambda frame: b"\0" * 100)
    return samples.save(folder, datasets)


def damaged_compression(folder: Path) -> Path:
    datasets = samples.series(3)
    for dataset in datasets:
        samples.compress(dataset, uid.JPEG2000Lossless, lambda frame: b"\0" * 100)
    return samples.save(folder, datasets)


def effective_atomic_number(folder: Path) -> Path:
    return samples.save(folder, samples.series(RescaleType="Z_EFF"))


def float_pixels(folder: Path) -> Path:
    return samples.save(folder, [in_floats(dataset, "FloatPixelData", "<f4") for dataset in samples.series()])


def double_float_pixels(folder: Path) -> Path:
    return samples.save(folder, [in_floats(dataset, "DoubleFloatPixelData", "<f8") for dataset in samples.series()])


def in_floats(dataset: Dataset, keyword: str, dtype: str) -> Dataset:
    """Replace the pixels by floating-point ones; 32 bits allocated would pass for integers."""
    values = np.frombuffer(dataset.PixelData, "<u2").astype(dtype)
    del dataset.PixelData
    setattr(dataset, keyword, values.tobytes())
    dataset.BitsAllocated = dataset.BitsStored = 32
    dataset.HighBit = 31
    return dataset


def slope_of_zero(folder: Path) -> Path:
    return samples.save(folder, samples.series(RescaleSlope=0))


def missing_frames(folder: Path) -> Path:
    dataset = samples.enhanced_ct(4)
    samples.compress(dataset, uid.JPEGLSLossless, lambda frame: jpeg_ls_frame(folder, frame))
    dataset.PixelData = encapsulate(list(generate_frames(dataset.PixelData, number_of_frames=4))[:3])
    return samples.save(folder, [dataset])


def frames_without_place(folder: Path) -> Path:
    dataset = samples.series(1)[0]
    samples.set_pixels(dataset, np.zeros((4, 16, 16), np.uint16))
    dataset.NumberOfFrames = 4
    return samples.save(folder, [dataset])


def nan_nifti(folder: Path) -> Path:
    values = samples.hounsfield().astype(np.float32)
    values[1, 2, 3] = np.nan
    return nifti(folder / "nan.nii.gz", values)


def flat_nifti(folder: Path) -> Path:
    return nifti(folder / "flat.nii", samples.hounsfield()[0])


def nifti_over_time(folder: Path) -> Path:
    return nifti(folder / "time.nii.gz", np.stack([samples.hounsfield()] * 2))


def non_finite_affine(folder: Path) -> Path:
    affine = np.eye(4)
    affine[0, 3] = np.nan
    return nifti(folder / "affine.nii", samples.hounsfield(), affine)


def sheared_nifti(folder: Path) -> Path:
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    affine[1, 2] = 0.8
    return nifti(folder / "sheared.nii", samples.hounsfield(), affine)


def truncated_nifti(folder: Path) -> Path:
    path = nifti(folder / "short.nii", samples.hounsfield())
    path.write_bytes(path.read_bytes()[:-100])
    return path


def truncated_gzip(folder: Path) -> Path:
    path = nifti(folder / "short.nii.gz", samples.hounsfield())
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def one_damaged_gzip_of_two(folder: Path) -> Path:
    nifti(folder / "a.nii.gz", samples.hounsfield())
    (folder / "b.nii.gz").write_bytes(b"\x1f\x8bno gzip at all")
    return folder


def text_as_nifti(folder: Path) -> Path:
    (folder / "text.nii").write_text("no image")
    return folder / "text.nii"


def text_as_nrrd(folder: Path) -> Path:
    (folder / "text.nrrd").write_text("no image")
    return folder / "text.nrrd"


def zip_with_parent_path(folder: Path) -> Path:
    return write_zip(folder / "evil.zip", "../evil.dcm")


def zip_with_absolute_path(folder: Path) -> Path:
    return write_zip(folder / "evil.zip", "/etc/evil.dcm")


def zip_with_windows_path(folder: Path) -> Path:
    return write_zip(folder / "evil.zip", "study\\..\\..\\evil.dcm")


def write_zip(path: Path, name: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"evil")
    return path


def zip_bomb(folder: Path) -> Path:
    path = folder / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.dcm", bytes(10**6))
        info = archive.getinfo("0.dcm")
        info.file_size = MAX_UNPACKED_BYTES  # the directory at the end is written from this
        info.extra = b""
    return path


def damaged_zip(folder: Path) -> Path:
    path = write_zip(folder / "damaged.zip", "0.dcm")
    path.write_bytes(path.read_bytes()[:20])
    return path


BAD: list[tuple[Make, str, str]] = [
    (empty_folder, "empty-folder", "holds no files"),
    (missing_path, "missing-path", "nowhere does not exist"),
    (text_files, "not-dicom", "among 2 files"),
    (truncated_uncompressed, "truncated-file", "3.dcm breaks off in its pixels, 500 bytes are missing"),
    (truncated_in_the_header, "truncated-file", "3.dcm breaks off in its header"),
    (truncated_compressed, "truncated-file", "2.dcm breaks off inside its compressed pixels"),
    (empty_dicom_file, "truncated-file", "copy_failed.dcm is empty"),
    (no_pixel_data, "no-pixel-data", "instance number 3 at z = -118.00 mm has no pixel data"),
    (two_volumes, "several-volumes", "1) 'CHEST 2.5', 3 slices of 0.60 x 0.70 x 2.50 mm, series number 2"),
    (several_missing, "missing-slice", "3 slices are missing: slices are 2.50 mm apart, but 5.00 mm between"),
    (duplicate_positions, "duplicate-position", "instance number 3 at z = -118.00 mm and with instance number 99"),
    (two_acquisitions, "duplicate-position", "lie in the same place but differ"),
    (mixed_orientation, "mixed-orientation", "1 of 8 slices are oriented unlike the others: instance number 6"),
    (gantry_tilt, "gantry-tilt", "tilted by 13.5 degrees"),
    (shifted_slice, "shifted-slices", "instance number 5 at z = -113.00 mm is displaced within its plane by 9.00 mm"),
    (irregular_spacing, "irregular-spacing", "2.50 mm apart, but 3.70 mm between instance number 4"),
    (mr, "not-ct", "no CT but MR image (8)"),
    (two_pixel_spacings, "pixel-spacing", "0.7 x 0.6 mm (6 of 8 slices), 0.8 x 0.8 mm (2 of 8 slices)"),
    (two_matrix_sizes, "matrix-size", "40 x 36 pixels (7 of 8 slices), 16 x 16 pixels (1 of 8 slices)"),
    (two_frames_of_reference, "frame-of-reference", "2 frames of reference"),
    (only_localizers, "only-localizers", "found only localizer (2)"),
    (only_reports, "no-volume", "SEG (1), SR (1)"),
    (no_positions, "no-position", "none of the 8 CT images says where it lies"),
    (one_without_position, "no-position", "instance number 3 has no Image Position (Patient)"),
    (skewed_orientation, "bad-orientation", "no right angle"),
    (wrong_number_in_header, "bad-header", "ImagePositionPatient is"),
    (unreadable_syntax, "unsupported-syntax", "MPEG-4 AVC/H.264"),
    (damaged_compression, "undecodable", "cannot be decompressed"),
    (effective_atomic_number, "not-hu", "Z_EFF"),
    (float_pixels, "not-hu", "instance number 1 at z = -123.00 mm has floating-point pixels"),
    (double_float_pixels, "not-hu", "has floating-point pixels"),
    (slope_of_zero, "bad-header", "rescale slope 0 and intercept -1024"),
    (missing_frames, "undecodable", "cannot be decompressed"),
    (frames_without_place, "bad-header", "has 4 frames but says where 1 of them lie"),
    (nan_nifti, "nan", "NaN or infinity in 1 voxels"),
    (flat_nifti, "two-dimensional", "flat.nii is 2-dimensional"),
    (nifti_over_time, "four-dimensional", "(40, 36, 8, 2)"),
    (non_finite_affine, "bad-affine", "NaN or infinity in its affine"),
    (sheared_nifti, "sheared-affine", "14.9 degrees off a right angle"),
    (truncated_nifti, "truncated-file", "100 bytes are missing"),
    (truncated_gzip, "truncated-file", "breaks off or is damaged"),
    (one_damaged_gzip_of_two, "several-volumes", "2) b.nii.gz (truncated-file)"),
    (text_as_nifti, "bad-nifti", "is no NIfTI file"),
    (text_as_nrrd, "unreadable-image", "text.nrrd breaks off or is damaged"),
    (zip_with_parent_path, "unsafe-zip", "'evil.dcm' under a path that points outside the zip"),
    (zip_with_absolute_path, "unsafe-zip", "'evil.dcm' under a path"),
    (zip_with_windows_path, "unsafe-zip", "points outside the zip"),
    (zip_bomb, "zip-bomb", "would unpack to 8192 MiB"),
    (damaged_zip, "bad-zip", "is not a readable zip"),
]


@pytest.mark.parametrize(("make", "reason", "words"), BAD, ids=[make.__name__ for make, _, _ in BAD])
def test_refused_with_reason_and_one_line(make: Make, reason: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(make(tmp_path))
    message = str(caught.value)
    assert caught.value.reason == reason, message
    assert words in message
    assert "\n" not in message
    assert "ecret" not in message


def test_choice_that_matches_nothing_lists_what_there_is(tmp_path: Path) -> None:
    samples.save(tmp_path, samples.series())
    for series in ("9.9.9", 2, 0, "x"):
        with pytest.raises(InputError, match=f"no volume matches series '{series}'.*CHEST 2.5") as caught:
            read(tmp_path, series=series)
        assert caught.value.reason == "no-such-series"


def test_choosing_what_is_no_ct(tmp_path: Path) -> None:
    other = samples.mr_slice()
    samples.save(tmp_path, [*samples.series(), other])
    with pytest.raises(InputError, match=r"holds MR image \(1\)") as caught:
        read(tmp_path, series=str(other.SeriesInstanceUID))
    assert caught.value.reason == "not-ct"


def test_path_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal is simulated, because an administrator may read everything."""

    def refuse(path: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="check its permissions") as caught:
        read(tmp_path)
    assert caught.value.reason == "unreadable-path"


@pytest.mark.parametrize("broken", ["3.dcm", "5.dcm"])
@pytest.mark.parametrize("when", ["opened", "read"])
def test_a_file_that_the_system_does_not_let_read(
    when: str, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it happens: headers are read before pixels, so the second opening is the decoder's."""
    samples.save(tmp_path, samples.series(), [f"{n}.dcm" for n in range(8)])
    ordinary = Path.open
    for opening in (1, 2):
        opened: list[Path] = []

        def refuse(path: Path, *arguments: Any, opening: int = opening, opened: list[Path] = opened) -> Any:
            opened.append(path)
            if path.name != broken or sum(each.name == broken for each in opened) != opening:
                return ordinary(path, *arguments)
            if when == "opened":
                raise PermissionError(13, "Permission denied", str(path))
            return Failing()

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(InputError) as caught:
            read(tmp_path)
        assert caught.value.reason == "unreadable-path"
        assert str(tmp_path) not in str(caught.value)
        expected = f"{broken} cannot be opened (Permission denied)" if when == "opened" else "(Input/output error)"
        assert expected in str(caught.value)


class Failing(io.RawIOBase):
    """A file on a share that went away."""

    def read(self, size: int = -1) -> bytes:
        raise OSError(5, "Input/output error")

    def seek(self, offset: int, whence: int = 0) -> int:
        return offset


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize(
    "make",
    [
        truncated_uncompressed, truncated_in_the_header, truncated_compressed, empty_dicom_file, wrong_number_in_header,
        damaged_compression, unreadable_syntax, nan_nifti, truncated_gzip, one_damaged_gzip_of_two, text_as_nrrd,
    ],
)  # fmt: skip
def test_messages_hold_no_folder_inside_what_was_given(make: Make, packed: bool, tmp_path: Path) -> None:
    """Archives name folders after patients."""
    inside = tmp_path / "study" / "Secret^Name"
    inside.mkdir(parents=True)
    make(inside)
    path = tmp_path / "study"
    if packed:
        with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
            for file in inside.iterdir():
                archive.write(file, f"Secret^Name/{file.name}")
        path = tmp_path / "study.zip"
    with pytest.raises(InputError) as caught:
        read(path)
    assert "ecret" not in str(caught.value)


def test_damaged_member_of_a_zip_is_named_without_its_folder(tmp_path: Path) -> None:
    folder = samples.save(tmp_path / "in", samples.series(1), ["IM3.dcm"])
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        archive.write(folder / "IM3.dcm", "Secret^Name/IM3.dcm")
    data = bytearray((tmp_path / "study.zip").read_bytes())
    data[600] ^= 255
    (tmp_path / "study.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"study.zip:IM3.dcm cannot be unpacked") as caught:
        read(tmp_path / "study.zip")
    assert "ecret" not in str(caught.value)


def test_zip_never_writes_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = samples.save(tmp_path / "in", samples.series())
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    read(tmp_path / "series.zip")
    assert sorted(tmp_path.rglob("*")) == before


def damaged_files(folder: Path) -> list[tuple[str, bytes]]:
    """Return a good file of every encoding and format: suffix and bytes."""
    datasets = [samples.enhanced_ct(2)]
    for syntax, encode in ENCODERS.items():
        dataset = samples.series(1)[0]
        samples.compress(dataset, syntax, functools.partial(encode, folder))
        datasets.append(dataset)
    written = samples.save(folder / "good", datasets)
    found = [("dcm", path.read_bytes()) for path in sorted(written.iterdir())]
    found.append(("nii", nifti(folder / "good.nii", samples.hounsfield(2)).read_bytes()))
    found += [(suffix, write(folder / f"good.{suffix}", sample()).read_bytes()) for suffix in ("mha", "nrrd")]
    found.append(("zip", zip_folder(written, folder / "good.zip").read_bytes()))
    return found


def test_flipped_bytes_give_a_volume_or_a_reason(tmp_path: Path) -> None:
    """Nothing but InputError may come out; a crash of a decoder would end the whole run."""
    rng = random.Random(7)
    for suffix, good in damaged_files(tmp_path):
        for _ in range(60):
            data = bytearray(good)
            for _ in range(rng.choice((1, 2, 8))):
                data[rng.randrange(min(len(data), 1500))] = rng.choice((0, 255, rng.randrange(256)))
            path = tmp_path / f"damaged.{suffix}"
            path.write_bytes(data)
            # pydicom warns about some of the values that it then reads all the same
            with contextlib.suppress(InputError), warnings.catch_warnings(action="ignore", category=UserWarning):
                read(path)
