"""CT series that the tests write: small, noisy, and wrong in exactly one way where a test asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

ROWS, COLUMNS = 36, 40
STUDY, SERIES, FRAME = "1.2.826.0.1.3680043.9.1", "1.2.826.0.1.3680043.9.1.1", "1.2.826.0.1.3680043.9.1.2"
SPACING_ROWS, SPACING_COLUMNS, SPACING_SLICES = 0.7, 0.6, 2.5
ORIGIN = (-170.0, -150.0, -123.0)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
OTHER_UID = "1.2.826.0.1.3680043.9.2"
AFFINE = np.array(
    [
        [SPACING_COLUMNS, 0, 0, ORIGIN[0]],
        [0, SPACING_ROWS, 0, ORIGIN[1]],
        [0, 0, SPACING_SLICES, ORIGIN[2]],
        [0, 0, 0, 1],
    ]
)
"""Of the plain series: voxel (x, y, z, 1) to LPS in mm."""


def hounsfield(slices: int = 8, seed: int = 0) -> npt.NDArray[np.int16]:
    """Return the voxels (z, y, x) of the plain series, each voxel with a value of its own kind."""
    return np.random.default_rng(seed).integers(-1000, 1500, (slices, ROWS, COLUMNS)).astype(np.int16)


def ct_slice(hu: npt.NDArray[np.int16], index: int, **changes: Any) -> Dataset:
    """Return slice `index` of the plain series; a change of None removes the attribute."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = uid.CTImageStorage
    dataset.SOPInstanceUID = f"{SERIES}.{index + 1}"
    dataset.PatientName, dataset.PatientID = "Secret^Name", "secret-id"
    dataset.PatientBirthDate = "19500101"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = STUDY, SERIES, FRAME
    dataset.Modality, dataset.SeriesNumber, dataset.SeriesDescription = "CT", 4, "CHEST 2.5"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber = index + 1
    dataset.ImagePositionPatient = [ORIGIN[0], ORIGIN[1], ORIGIN[2] + index * SPACING_SLICES]
    dataset.ImageOrientationPatient = list(AXIAL)
    dataset.PixelSpacing = [SPACING_ROWS, SPACING_COLUMNS]
    dataset.SliceThickness, dataset.SpacingBetweenSlices = 5, 99  # both unlike the spacing, as in routine data
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    set_pixels(dataset, (hu + 1024).astype(np.uint16))
    change(dataset, changes)
    return dataset


def change(dataset: Dataset, changes: dict[str, Any]) -> None:
    """Set attributes, or remove those whose new value is None."""
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)


def set_pixels(dataset: Dataset, stored: npt.NDArray[Any], bits_stored: int | None = None) -> None:
    """Store pixels uncompressed."""
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = stored.dtype.itemsize * 8
    dataset.BitsStored = bits_stored or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(np.issubdtype(stored.dtype, np.signedinteger))
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"


def compress(dataset: Dataset, syntax: uid.UID, encode: Callable[[npt.NDArray[Any]], bytes]) -> None:
    """Replace the uncompressed pixels by compressed ones."""
    dtype = f"{'i' if dataset.PixelRepresentation else 'u'}{dataset.BitsAllocated // 8}"
    frames = np.frombuffer(dataset.PixelData, dtype).reshape(-1, dataset.Rows, dataset.Columns)
    dataset.PixelData = encapsulate([encode(frame) for frame in frames])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax


def series(slices: int = 8, **changes: Any) -> list[Dataset]:
    """Return the plain series, every slice changed in the same way."""
    return [ct_slice(hu, index, **changes) for index, hu in enumerate(hounsfield(slices))]


def save(folder: Path, datasets: Iterable[Dataset], names: Sequence[str] = ()) -> Path:
    """Write datasets as files; their names say nothing of their order."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, dataset in enumerate(datasets):
        name = names[number] if names else f"{number * 7919 % 104729:06d}.dcm"
        dataset.save_as(folder / name, enforce_file_format=True)
    return folder


def localizer(**changes: Any) -> Dataset:
    """Return a scout view in a series of its own."""
    dataset = ct_slice(hounsfield(1)[0], 90, **changes)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"{OTHER_UID}.1", f"{OTHER_UID}.1.1"
    dataset.ImageOrientationPatient = list(CORONAL)
    return dataset


def without_pixels(sop_class: uid.UID, modality: str) -> Dataset:
    """Return an object that refers to the series but holds no image, such as an SR or RTSTRUCT."""
    dataset = ct_slice(hounsfield(1)[0], 91)
    for keyword in ("PixelData", "Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, keyword)
    dataset.SOPClassUID, dataset.Modality = sop_class, modality
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"{OTHER_UID}.2", f"{OTHER_UID}.2.1"
    return dataset


def segmentation() -> Dataset:
    """Return something with pixels that is no CT slice: a SEG."""
    dataset = ct_slice(hounsfield(1)[0], 92)
    dataset.SOPClassUID, dataset.Modality = uid.SegmentationStorage, "SEG"
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"{OTHER_UID}.3", f"{OTHER_UID}.3.1"
    return dataset


def mr_slice() -> Dataset:
    """Return a slice of another modality."""
    dataset = ct_slice(hounsfield(1)[0], 94, SOPClassUID=uid.MRImageStorage, Modality="MR")
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"{OTHER_UID}.5", f"{OTHER_UID}.5.1"
    return dataset


def dose_report() -> Dataset:
    """Return a screen shot with modality CT and no position, as scanners add to the study."""
    dataset = ct_slice(hounsfield(1)[0], 93)
    dataset.SOPClassUID = uid.SecondaryCaptureImageStorage
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"{OTHER_UID}.4", f"{OTHER_UID}.4.1"
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, keyword)
    return dataset


def enhanced_ct(slices: int = 8, *, shared_values: bool = False) -> Dataset:
    """Return the plain series as one Enhanced CT object, its frames in reverse and with rescales of their own."""
    voxels = hounsfield(slices)
    dataset = ct_slice(voxels[0], 0)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(dataset, keyword)
    for keyword in ("RescaleSlope", "RescaleIntercept", "SpacingBetweenSlices"):
        delattr(dataset, keyword)
    dataset.SOPClassUID = uid.EnhancedCTImageStorage
    dataset.NumberOfFrames = slices
    order = list(reversed(range(slices)))
    intercepts = [-1024 if shared_values else -1000 - index for index in order]
    stored = [voxels[index].astype(np.int32) - intercept for index, intercept in zip(order, intercepts, strict=True)]
    set_pixels(dataset, np.stack(stored).astype(np.uint16))
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=list(AXIAL))]
    shared.PixelMeasuresSequence = [_item(PixelSpacing=[SPACING_ROWS, SPACING_COLUMNS], SliceThickness=5)]
    if shared_values:
        shared.PixelValueTransformationSequence = [_rescale(-1024)]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for index, intercept in zip(order, intercepts, strict=True):
        position = [ORIGIN[0], ORIGIN[1], ORIGIN[2] + index * SPACING_SLICES]
        frame = _item(PlanePositionSequence=[_item(ImagePositionPatient=position)])
        if not shared_values:
            frame.PixelValueTransformationSequence = [_rescale(intercept)]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return dataset


def _rescale(intercept: int) -> Dataset:
    return _item(RescaleSlope=1, RescaleIntercept=intercept, RescaleType="HU")


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item
