"""Writing a volume as a DICOM CT series, one file per slice: what the demo reads back, and what tests need."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lnsdk._version import __version__
from lnsdk.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

INTERCEPT = -1024
"""RescaleIntercept of the stored values, HU."""


def write_series(volume: Volume, folder: str | Path, seed: int = 0) -> list[Path]:
    """Write a volume as a DICOM CT series (PS3.3 A.3), uncompressed.

    Parameters
    ----------
    volume
        The CT; its x and y axes become columns and rows of the slices. The axes must be perpendicular.
    folder
        Where to write; made when missing.
    seed
        Decides the UIDs: the same seed and volume give the same files.

    Returns
    -------
    The files, in the order of the volume's slices.

    Raises
    ------
    ValueError
        When the axes are not perpendicular, or HU do not fit 16 bits with an intercept of -1024.
    """
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-4):
        raise ValueError("volume.affine must have perpendicular axes; a DICOM series cannot hold sheared slices")
    if int(volume.voxels.max()) > 32767 + INTERCEPT:
        raise ValueError(f"volume.voxels must be at most {32767 + INTERCEPT} HU, got {int(volume.voxels.max())}")
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    study = _uid(volume, seed, "study")
    common = _common(volume, seed, study)
    normal = np.cross(directions[:, 0], directions[:, 1])
    files = []
    for index in range(len(volume.voxels)):
        path = out / f"{index + 1:04d}.dcm"
        _slice(volume, common, index, normal, seed).save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def _uid(volume: Volume, seed: int, *parts: object) -> str:
    """UID below 2.25 (PS3.5 B.2) from the seed and the voxels."""
    text = "/".join(map(str, ("lnsdk phantom", seed, volume.shape, volume.affine.tolist(), *parts)))
    digest = hashlib.sha256(text.encode() + np.ascontiguousarray(volume.voxels[0]).tobytes()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _common(volume: Volume, seed: int, study: str) -> Dataset:
    """Attributes that all slices share."""
    from pydicom import Dataset
    from pydicom.uid import CTImageStorage

    shared = Dataset()
    shared.SpecificCharacterSet = "ISO_IR 192"
    shared.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    shared.SOPClassUID = CTImageStorage
    shared.StudyDate = shared.SeriesDate = shared.ContentDate = "20000101"
    shared.StudyTime = shared.SeriesTime = shared.ContentTime = "000000"
    shared.AccessionNumber = ""
    shared.Modality = "CT"
    shared.Manufacturer = "lnsdk"
    shared.ManufacturerModelName = "phantom"
    shared.SoftwareVersions = __version__
    shared.ReferringPhysicianName = ""
    shared.StudyDescription = "Simulated CT, not a patient"
    shared.SeriesDescription = volume.description or "phantom"
    shared.PatientName = "PHANTOM^SIMULATED"
    shared.PatientID = f"PHANTOM-{seed}"
    shared.PatientBirthDate = ""
    shared.PatientSex = "O"
    shared.KVP = "120"
    shared.PatientPosition = "HFS"
    shared.StudyInstanceUID = study
    shared.SeriesInstanceUID = _uid(volume, seed, "series")
    shared.FrameOfReferenceUID = _uid(volume, seed, "frame of reference")
    shared.StudyID = "1"
    shared.SeriesNumber = 1
    shared.AcquisitionNumber = 1
    shared.PositionReferenceIndicator = ""
    shared.SamplesPerPixel = 1
    shared.PhotometricInterpretation = "MONOCHROME2"
    shared.Rows, shared.Columns = volume.voxels.shape[1:]
    shared.BitsAllocated, shared.BitsStored, shared.HighBit, shared.PixelRepresentation = 16, 16, 15, 1
    shared.RescaleIntercept, shared.RescaleSlope, shared.RescaleType = str(INTERCEPT), "1", "HU"
    shared.WindowCenter, shared.WindowWidth = "40", "400"
    x, y, z = volume.spacing
    shared.PixelSpacing = [_decimal(y), _decimal(x)]
    shared.SliceThickness = _decimal(z)
    axes = volume.affine[:3, :2] / np.linalg.norm(volume.affine[:3, :2], axis=0)
    shared.ImageOrientationPatient = [_decimal(v) for v in axes.T.ravel()]
    return shared


def _slice(volume: Volume, common: Dataset, index: int, normal: np.ndarray, seed: int) -> Dataset:
    """Return one slice as a complete DICOM object."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    image = Dataset()
    image.update(common)
    image.SOPInstanceUID = _uid(volume, seed, "slice", index)
    image.InstanceNumber = index + 1
    position = volume.affine[:3, 3] + index * volume.affine[:3, 2]
    image.ImagePositionPatient = [_decimal(v) for v in position]
    image.SliceLocation = _decimal(float(position @ normal))
    stored = volume.voxels[index].astype(np.int32) - INTERCEPT
    image.PixelData = stored.astype("<i2").tobytes()
    image["PixelData"].VR = "OW"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = image.SOPClassUID
    meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta = meta
    return image


def _decimal(value: float) -> str:
    """Return a decimal string (DS) of at most 16 characters."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value))
