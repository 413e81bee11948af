"""DICOM series that load: geometry, values, encodings, and what is set aside or repaired with a warning."""

from __future__ import annotations

import random
import warnings
import zipfile
from pathlib import Path
from typing import Any

import jpeg_ls
import numpy as np
import numpy.typing as npt
import openjpeg.utils
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from lnsdk.io import read
from tests.io import samples


def test_plain_series(tmp_path: Path) -> None:
    volume = read(samples.save(tmp_path, samples.series()))
    assert np.array_equal(volume.voxels, samples.hounsfield())
    assert volume.voxels.dtype == np.int16
    np.testing.assert_allclose(volume.affine, samples.AFFINE, atol=1e-9)
    assert volume.spacing == pytest.approx((0.6, 0.7, 2.5))
    assert volume.warnings == ()
    assert (volume.series_uid, volume.study_uid, volume.frame_of_reference_uid) == (
        samples.SERIES,
        samples.STUDY,
        samples.FRAME,
    )
    assert volume.sop_instance_uids == tuple(f"{samples.SERIES}.{number}" for number in range(1, 9))
    assert volume.description == "CHEST 2.5"


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)))
def test_order_of_files_does_not_matter(order: list[int], tmp_path: Path) -> None:
    folder = tmp_path / "-".join(map(str, order))
    datasets = samples.series(6)
    for dataset, number in zip(datasets, random.Random(str(order)).sample(range(100), 6), strict=True):
        dataset.InstanceNumber = number
    volume = read(samples.save(folder, datasets, [f"{name}.dcm" for name in order]))
    assert np.array_equal(volume.voxels, samples.hounsfield(6))
    np.testing.assert_allclose(volume.affine, samples.AFFINE, atol=1e-9)


def test_list_of_files_single_file_and_sub_folders(tmp_path: Path) -> None:
    datasets = samples.series(4)
    samples.save(tmp_path / "a" / "deep", datasets[:2], ["1", "2"])
    samples.save(tmp_path / "b", datasets[2:], ["3.dcm", "4.ima"])
    assert np.array_equal(read(tmp_path).voxels, samples.hounsfield(4))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert np.array_equal(read(files).voxels, samples.hounsfield(4))
    assert read(str(tmp_path / "b" / "3.dcm")).shape == (1, samples.ROWS, samples.COLUMNS)


def test_zip_equals_folder(tmp_path: Path) -> None:
    folder = samples.save(tmp_path / "series", samples.series())
    packed = zip_folder(folder, tmp_path / "series.zip")
    assert np.array_equal(read(packed).voxels, read(folder).voxels)
    assert read(folder).frame_numbers == ()
    np.testing.assert_array_equal(read(packed).affine, read(folder).affine)


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    samples.save(tmp_path / "elsewhere/a", samples.series()[:4])
    (tmp_path / "study").mkdir()
    samples.save(tmp_path / "study/b", samples.series()[4:])
    (tmp_path / "study/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "study/again").symlink_to(tmp_path / "elsewhere/a")
    (tmp_path / "study/b/up").symlink_to(tmp_path / "study")
    (tmp_path / "study/broken").symlink_to(tmp_path / "nowhere")
    volume = read(tmp_path / "study")
    assert np.array_equal(volume.voxels, samples.hounsfield())
    assert volume.warnings == ()


def zip_folder(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, f"study/{file.name}")
        archive.writestr("__MACOSX/study/._x.dcm", b"clutter")
    return path


@pytest.mark.parametrize(
    "orientation",
    [
        samples.AXIAL,
        (-1, 0, 0, 0, -1, 0),
        (1, 0, 0, 0, -1, 0),
        samples.CORONAL,
        (0, 1, 0, 0, 0, -1),
        (0.8, 0.6, 0, 0, 0, -1),
    ],
)
def test_slices_run_along_their_normal(orientation: tuple[float, ...], tmp_path: Path) -> None:
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    datasets = samples.series(5, ImageOrientationPatient=list(orientation))
    for index, dataset in enumerate(datasets):
        dataset.ImagePositionPatient = [float(f"{x:.6f}") for x in normal * 3.0 * index + samples.ORIGIN]
    volume = read(samples.save(tmp_path, datasets))
    expected = np.eye(4)
    expected[:3, 0], expected[:3, 1] = row * samples.SPACING_COLUMNS, column * samples.SPACING_ROWS
    expected[:3, 2], expected[:3, 3] = normal * 3.0, samples.ORIGIN
    np.testing.assert_allclose(volume.affine, expected, atol=1e-5)
    assert np.array_equal(volume.voxels, samples.hounsfield(5))


@pytest.mark.parametrize("shared_values", [False, True])
def test_enhanced_multi_frame(shared_values: bool, tmp_path: Path) -> None:
    volume = read(samples.save(tmp_path, [samples.enhanced_ct(shared_values=shared_values)]))
    assert np.array_equal(volume.voxels, samples.hounsfield())
    np.testing.assert_allclose(volume.affine, samples.AFFINE, atol=1e-9)
    assert volume.sop_instance_uids == (f"{samples.SERIES}.1",) * 8
    assert volume.frame_numbers == (8, 7, 6, 5, 4, 3, 2, 1)


def test_legacy_converted_multi_frame_made_by_highdicom(tmp_path: Path) -> None:
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    datasets = samples.series(5)
    for dataset in datasets:
        samples.change(
            dataset,
            {"StudyDate": "20200101", "StudyTime": "120000", "StudyID": "1", "PatientSex": "O", "AccessionNumber": "1"}
            | {"ReferringPhysicianName": "", "PositionReferenceIndicator": "", "Manufacturer": "lnsdk", "KVP": 120},
        )
        dataset.AcquisitionNumber = 1
    converted = LegacyConvertedEnhancedCTImage(datasets, f"{samples.OTHER_UID}.9", 9, f"{samples.OTHER_UID}.9.1", 1)
    converted.save_as(tmp_path / "multi.dcm")
    volume = read(tmp_path)
    assert np.array_equal(volume.voxels, samples.hounsfield(5))
    np.testing.assert_allclose(volume.affine, samples.AFFINE, atol=1e-9)


def rle(tmp_path: Path, frame: npt.NDArray[Any]) -> bytes:
    from pydicom.pixels.encoders.base import RLELosslessEncoder

    options = {"rows": frame.shape[0], "columns": frame.shape[1], "bits_allocated": 16, "bits_stored": 16}
    options |= {"samples_per_pixel": 1, "number_of_frames": 1, "pixel_representation": int(frame.dtype.kind == "i")}
    return RLELosslessEncoder.encode(
        frame, photometric_interpretation="MONOCHROME2", encoding_plugin="pydicom", **options
    )


def jpeg_ls_frame(tmp_path: Path, frame: npt.NDArray[Any]) -> bytes:
    return bytes(jpeg_ls.encode_array(frame.view(np.uint16)))


def jpeg_2000(tmp_path: Path, frame: npt.NDArray[Any]) -> bytes:
    return bytes(openjpeg.utils.encode_array(frame, photometric_interpretation=2))


def jpeg_lossless(tmp_path: Path, frame: npt.NDArray[Any]) -> bytes:
    """Let GDCM write the frame as JPEG lossless and take it out of the file."""
    image = SimpleITK.GetImageFromArray(frame[None])
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(tmp_path / "gdcm.dcm"))
    writer.SetUseCompression(True)
    writer.SetCompressor("JPEG")
    writer.Execute(image)
    dataset = dcmread(tmp_path / "gdcm.dcm")
    (tmp_path / "gdcm.dcm").unlink()
    assert dataset.file_meta.TransferSyntaxUID == uid.JPEGLosslessSV1
    return next(generate_frames(dataset.PixelData, number_of_frames=1))


ENCODERS = {
    uid.RLELossless: rle,
    uid.JPEGLSLossless: jpeg_ls_frame,
    uid.JPEG2000Lossless: jpeg_2000,
    uid.JPEGLosslessSV1: jpeg_lossless,
}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", ENCODERS, ids=lambda syntax: syntax.keyword)
def test_lossless_compression_changes_nothing(syntax: uid.UID, signed: bool, tmp_path: Path) -> None:
    datasets = samples.series(3)
    for dataset, hu in zip(datasets, samples.hounsfield(3), strict=True):
        if signed:
            samples.set_pixels(dataset, hu)
            dataset.RescaleIntercept = 0
        samples.compress(dataset, syntax, lambda frame: ENCODERS[syntax](tmp_path, frame))
    volume = read(samples.save(tmp_path / "series", datasets))
    assert np.array_equal(volume.voxels, samples.hounsfield(3))


@pytest.mark.parametrize("syntax", ENCODERS, ids=lambda syntax: syntax.keyword)
def test_compressed_multi_frame(syntax: uid.UID, tmp_path: Path) -> None:
    dataset = samples.enhanced_ct(4)
    samples.compress(dataset, syntax, lambda frame: ENCODERS[syntax](tmp_path, frame))
    volume = read(samples.save(tmp_path / "series", [dataset]))
    assert np.array_equal(volume.voxels, samples.hounsfield(4))


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian, uid.ExplicitVRBigEndian]
)
def test_native_transfer_syntaxes(syntax: uid.UID, tmp_path: Path) -> None:
    datasets = samples.series(3)
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == uid.ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    assert np.array_equal(read(samples.save(tmp_path, datasets)).voxels, samples.hounsfield(3))


def test_file_without_preamble(tmp_path: Path) -> None:
    for index, dataset in enumerate(samples.series(3)):
        del dataset.file_meta
        dataset.save_as(tmp_path / f"{index}", implicit_vr=True, little_endian=True)
    assert np.array_equal(read(tmp_path).voxels, samples.hounsfield(3))


def test_files_without_sop_class_and_uids(tmp_path: Path) -> None:
    folder = samples.save(tmp_path, samples.series(3))
    for path in folder.iterdir():
        dataset = dcmread(path)
        samples.change(dataset, {"SOPClassUID": None, "SOPInstanceUID": None, "SeriesInstanceUID": None})
        dataset.save_as(path, enforce_file_format=False)
    volume = read(folder)
    assert np.array_equal(volume.voxels, samples.hounsfield(3))
    assert volume.series_uid == ""


def test_unused_high_bits_are_ignored(tmp_path: Path) -> None:
    datasets = samples.series(3)
    for dataset, hu in zip(datasets, samples.hounsfield(3), strict=True):
        samples.set_pixels(dataset, (hu + 1024).astype(np.uint16) | 0xA000, bits_stored=12)
    assert np.array_equal(read(samples.save(tmp_path, datasets)).voxels, samples.hounsfield(3))


def test_signed_values_of_twelve_bits(tmp_path: Path) -> None:
    datasets = samples.series(3, RescaleIntercept=0)
    for dataset, hu in zip(datasets, samples.hounsfield(3), strict=True):
        samples.set_pixels(dataset, hu & 0x0FFF, bits_stored=12)
        dataset.PixelRepresentation, dataset.RescaleIntercept = 1, 0
    assert np.array_equal(read(samples.save(tmp_path, datasets)).voxels, samples.hounsfield(3))


def test_rescale_differs_per_slice_and_rounds(tmp_path: Path) -> None:
    datasets = samples.series(3)
    expected = []
    for index, (dataset, hu) in enumerate(zip(datasets, samples.hounsfield(3), strict=True)):
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{0.5 + index * 0.25}", f"{-1000.5 - index}"
        expected.append(np.rint((hu + 1024.0) * (0.5 + index * 0.25) - 1000.5 - index))
    assert np.array_equal(read(samples.save(tmp_path, datasets)).voxels, np.array(expected))


def test_values_beyond_int16_are_clipped_and_reported(tmp_path: Path) -> None:
    datasets = samples.series(2, RescaleSlope=40)
    volume = read(samples.save(tmp_path, datasets))
    exact = (samples.hounsfield(2).astype(np.int64) + 1024) * 40 - 1024
    assert np.array_equal(volume.voxels, exact.clip(-(2**15), 2**15 - 1))
    count = int((exact > 2**15 - 1).sum())
    assert volume.warnings == (f"voxels outside the range of int16 were clipped: {count}",)


def padded(value: int, corner: bool) -> list[Dataset]:
    """Return two slices with a padding value, in a corner and inside, or inside only."""
    datasets = samples.series(2, PixelPaddingValue=value)
    for dataset in datasets:
        stored = np.full((samples.ROWS, samples.COLUMNS), 1024, np.uint16)
        stored[5, 5] = value
        if corner:
            stored[:2, :2] = value
        samples.set_pixels(dataset, stored)
    return datasets


def test_padding_around_the_image_becomes_air(tmp_path: Path) -> None:
    volume = read(samples.save(tmp_path, padded(63536, corner=True)))
    assert volume.voxels[0, 0, 0] == volume.voxels[1, 5, 5] == -1024
    assert volume.voxels[0, 10, 10] == 0
    assert volume.warnings == ()


def test_padding_below_air_stays_as_it_is(tmp_path: Path) -> None:
    datasets = padded(0, corner=True)
    for dataset in datasets:
        dataset.RescaleIntercept = -2000
    assert read(samples.save(tmp_path, datasets)).voxels[0, 0, 0] == -2000


def test_padding_value_inside_the_image_only_is_tissue(tmp_path: Path) -> None:
    volume = read(samples.save(tmp_path, padded(1100, corner=False)))
    assert volume.voxels[0, 5, 5] == 76
    assert "pixel padding value" in volume.warnings[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RescaleType": "US"}, "values are of type US; they were taken for HU"),
        ({"RescaleIntercept": None}, "rescale slope or intercept is missing"),
    ],
)
def test_assumptions_about_values_are_reported(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    volume = read(samples.save(tmp_path, samples.series(3, **changes)))
    assert len(volume.warnings) == 1
    assert words in volume.warnings[0]


def test_small_displacement_in_plane_is_reported(tmp_path: Path) -> None:
    datasets = samples.series()
    datasets[4].ImagePositionPatient[0] += 0.2
    volume = read(samples.save(tmp_path, datasets))
    np.testing.assert_allclose(volume.affine, samples.AFFINE, atol=1e-9)
    assert volume.warnings == ("slices are displaced within their plane by up to 0.20 mm; this was ignored",)


def test_a_missing_and_a_displaced_slice_are_both_reported(tmp_path: Path) -> None:
    datasets = [dataset for index, dataset in enumerate(samples.series(12)) if index != 3]
    x, y, z = datasets[7].ImagePositionPatient
    datasets[7].ImagePositionPatient = [x, y, z + 0.5]
    volume = read(samples.save(tmp_path, datasets))
    assert volume.shape[0] == 12
    missing, varies = volume.warnings
    assert missing.startswith(
        "one slice is missing and was interpolated: slices are 2.50 mm apart, but 5.00 mm between"
    )
    assert varies == "spacing varies from 2.00 to 3.00 mm; slices were resampled to 2.50 mm"


def test_what_is_no_uid_is_left_out_of_the_volume(tmp_path: Path) -> None:
    datasets = samples.series(3)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # pydicom's, of what is written
        for dataset in datasets:
            dataset.StudyInstanceUID = "DOE^JOHN"
            dataset.SeriesInstanceUID = "1." * 33 + "1"
        datasets[1].SOPInstanceUID = "slice 2"
        samples.save(tmp_path, datasets)
    volume = read(tmp_path, series="1." * 33 + "1")
    assert (volume.study_uid, volume.series_uid, volume.frame_of_reference_uid) == ("", "", samples.FRAME)
    assert volume.sop_instance_uids == (f"{samples.SERIES}.1", "", f"{samples.SERIES}.3")
    assert volume.warnings == ("identifiers that are no DICOM UIDs were left out: 3",)


def test_one_missing_slice_is_interpolated(tmp_path: Path) -> None:
    datasets = samples.series()
    del datasets[3]
    volume = read(samples.save(tmp_path, datasets))
    whole = samples.hounsfield()
    kept = [0, 1, 2, 4, 5, 6, 7]
    assert np.array_equal(volume.voxels[kept], whole[kept])
    assert np.array_equal(volume.voxels[3], np.rint(whole[2] / 2 + whole[4] / 2))
    np.testing.assert_allclose(volume.affine, samples.AFFINE, atol=1e-9)
    assert len(volume.sop_instance_uids) == 8
    assert len(volume.warnings) == 1
    assert "one slice is missing" in volume.warnings[0]
    assert "between instance number 3 at z = -118.00 mm and instance number 5 at z = -113.00 mm" in volume.warnings[0]


def test_small_irregularity_is_resampled(tmp_path: Path) -> None:
    datasets = samples.series()
    for dataset, hu in zip(datasets, range(8), strict=True):
        samples.set_pixels(dataset, np.full((samples.ROWS, samples.COLUMNS), 1024 + 100 * hu, np.uint16))
    datasets[3].ImagePositionPatient = [*samples.ORIGIN[:2], samples.ORIGIN[2] + 3 * 2.5 + 0.5]
    volume = read(samples.save(tmp_path, datasets))
    # At its place on the grid lies 5/6 of the way from slice 2 to the displaced slice 3.
    assert volume.voxels[:, 0, 0].tolist() == [0, 100, 200, 283, 400, 500, 600, 700]
    np.testing.assert_allclose(volume.affine, samples.AFFINE, atol=1e-9)
    assert volume.warnings == ("spacing varies from 2.00 to 3.00 mm; slices were resampled to 2.50 mm",)


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_uniform(tmp_path: Path) -> None:
    datasets = samples.series(9)
    for index, dataset in enumerate(datasets):
        dataset.ImagePositionPatient = [*samples.ORIGIN[:2], round(index * 0.625, 1)]
    volume = read(samples.save(tmp_path, datasets))
    assert volume.spacing[2] == pytest.approx(0.625)
    assert volume.warnings == ()


def test_exact_duplicates_are_dropped(tmp_path: Path) -> None:
    datasets = samples.series()
    again = samples.ct_slice(samples.hounsfield()[2], 2, SOPInstanceUID=f"{samples.SERIES}.99", InstanceNumber=99)
    volume = read(samples.save(tmp_path, [again, *datasets]))
    assert np.array_equal(volume.voxels, samples.hounsfield())
    assert volume.sop_instance_uids[2] == f"{samples.SERIES}.3"
    assert volume.warnings == ("exact duplicates of slices were dropped: 1",)


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (samples.localizer(), "localizer"),
        (samples.without_pixels(uid.ComprehensiveSRStorage, "SR"), "SR"),
        (samples.without_pixels(uid.RTStructureSetStorage, "RTSTRUCT"), "RTSTRUCT"),
        (samples.segmentation(), "SEG"),
        (samples.dose_report(), "secondary capture"),
        (samples.mr_slice(), "MR image"),
    ],
)
def test_what_is_no_slice_is_set_aside(other: Dataset, kind: str, tmp_path: Path) -> None:
    volume = read(samples.save(tmp_path, [other, *samples.series()]))
    assert np.array_equal(volume.voxels, samples.hounsfield())
    assert volume.warnings == (f"set aside what is no slice of the volume: {kind} (1)",)


def test_other_files_are_set_aside(tmp_path: Path) -> None:
    samples.save(tmp_path, samples.series())
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".DS_Store").write_bytes(b"clutter")
    (tmp_path / "mask.nii.gz").write_bytes(b"not looked at")
    volume = read(tmp_path)
    assert volume.warnings == (
        "set aside beside the volume: NIfTI, MetaImage or NRRD file (1), file of another kind (1)",
    )


def test_a_single_slice_has_its_thickness(tmp_path: Path) -> None:
    volume = read(samples.save(tmp_path, samples.series(1)))
    assert volume.spacing == pytest.approx((0.6, 0.7, 5.0))
    assert volume.warnings == ("a single slice; it was given its slice thickness of 5 mm",)


def test_choosing_among_several_volumes(tmp_path: Path) -> None:
    second = samples.series(3, SeriesInstanceUID=samples.OTHER_UID, SeriesNumber=2)
    samples.save(tmp_path / "a", samples.series())
    samples.save(tmp_path / "b", second)
    assert read(tmp_path, series=samples.SERIES).shape[0] == 8
    assert read(tmp_path, series=samples.OTHER_UID).shape[0] == 3
    assert read(tmp_path, series=1).shape[0] == 3
    assert read(tmp_path, series="2").shape[0] == 8


def test_nothing_personal_leaves(tmp_path: Path) -> None:
    datasets = samples.series()
    del datasets[3]
    volume = read(samples.save(tmp_path, [*datasets, samples.localizer()]))
    assert "ecret" not in repr(volume.warnings) + volume.description
