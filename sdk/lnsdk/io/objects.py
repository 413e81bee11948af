"""DICOM objects: what one file says about itself, without its pixels."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from lnsdk.errors import InputError
from lnsdk.io.attributes import integer, item, items, numbers, string, strings, title
from lnsdk.io.files import Source

FLOAT_PIXEL_TAGS = (0x7FE00008, 0x7FE00009)
"""Float Pixel Data and Double Float Pixel Data (PS3.3 C.7.6.24, C.7.6.25)."""

PIXEL_TAGS = (*FLOAT_PIXEL_TAGS, 0x7FE00010)
"""The same and Pixel Data (PS3.3 C.7.6.3)."""

UNDEFINED_LENGTH = 0xFFFFFFFF
"""Length of an element that ends at a delimiter (PS3.5 7.1.1)."""

CT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
)
"""CT, Enhanced CT and Legacy Converted Enhanced CT Image Storage (PS3.4 B.5)."""

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Root of the Secondary Capture SOP Classes (PS3.4 B.5): screen shots, dose reports, saved pictures."""

MODALITIES_WITHOUT_SLICES = ("SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "SR", "PR", "KO", "DOC", "REG", "FID")
"""Modalities (PS3.3 C.7.3.1.1.1) whose objects never are slices, pixels or not."""

UNREADABLE = (
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    NotImplementedError,
    OSError,
    RecursionError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom raises on damaged headers (found by flipping bytes of good ones)."""

_KEYWORDS = (
    "ImageType", "SOPClassUID", "SOPInstanceUID", "Modality", "SeriesDescription", "SliceThickness",
    "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "FrameOfReferenceUID",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_TAGS: list[BaseTag | int] = [Tag(keyword) for keyword in _KEYWORDS]


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels of an object are stored (PS3.3 C.7.6.3).

    Parameters
    ----------
    rows, columns, frames
        Size of one frame in pixels, and the number of frames.
    samples, photometric
        1 and MONOCHROME1 or MONOCHROME2 for CT.
    bits_allocated, bits_stored, high_bit, signed
        Layout of one pixel.
    padding
        Lowest and highest stored value that mean "no pixel here" (PS3.3 C.7.5.1.1.2), or None.
    is_float
        Whether the pixels are floating-point numbers.
    transfer_syntax
        UID of the encoding (PS3.5 10).
    offset, length
        Where the pixel data start in the file and their bytes; `UNDEFINED_LENGTH` when they end at a delimiter.
        In a deflated file they count in the inflated data.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    padding: tuple[int, int] | None
    is_float: bool
    transfer_syntax: str
    offset: int
    length: int


@dataclass(frozen=True, eq=False)
class Plane:
    """Where one frame lies and how its stored values become HU; None where the file does not say.

    Parameters
    ----------
    position
        float64 (3,): centre of the first pixel, LPS in mm (ImagePositionPatient).
    orientation
        float64 (6,): direction cosines along a row, then along a column (ImageOrientationPatient).
    pixel_spacing
        Distance between rows, then between columns, in mm (PixelSpacing).
    thickness
        Nominal slice thickness in mm.
    slope, intercept, unit
        Stored value to output unit, and the unit's name (RescaleType).
    kinds
        ImageType, or FrameType of a multi-frame object.
    """

    position: npt.NDArray[np.float64] | None
    orientation: npt.NDArray[np.float64] | None
    pixel_spacing: tuple[float, ...] | None
    thickness: float | None
    slope: float | None
    intercept: float | None
    unit: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DicomObject:
    """What one DICOM file says about itself; text is empty and numbers are None where it says nothing.

    Parameters
    ----------
    source
        The file.
    pixels
        How its pixels are stored; None without pixel data.
    has_size
        Whether it states rows and columns, as every image does.
    has_modality_lut
        Whether stored values become HU by a table instead of slope and intercept.
    planes
        One per frame.
    """

    source: Source
    sop_class: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    series_number: int | None
    instance_number: int | None
    description: str
    modality: str
    has_size: bool
    has_modality_lut: bool
    pixels: PixelFormat | None
    planes: tuple[Plane, ...] = field(repr=False)

    @property
    def is_ct(self) -> bool:
        """Whether its modality, or without one its SOP class, says CT."""
        return self.modality == "CT" or (not self.modality and self.sop_class in CT_CLASSES)

    @property
    def _claims_ct_slices(self) -> bool:
        return self.sop_class in CT_CLASSES or (not self.sop_class and self.modality == "CT")

    @property
    def kind(self) -> str:
        """What it is, in words for a message: "CT image", "localizer", "SR", "MR image"..."""
        if self.modality in MODALITIES_WITHOUT_SLICES:
            return self.modality
        if not self.has_size and self.pixels is None and not self._claims_ct_slices:
            return UID(self.sop_class, config.IGNORE).name or self.modality or "object without pixels"
        if any("LOCALIZER" in kind or "SCOUT" in kind for plane in self.planes for kind in plane.kinds):
            return "localizer"
        if self.pixels is not None and self.pixels.samples != 1:
            return "colour picture"
        if self.sop_class.startswith(SECONDARY_CAPTURE) and any(plane.position is None for plane in self.planes):
            return "secondary capture"
        return "CT image" if self.is_ct else f"{self.modality or 'unnamed'} image"


def read_object(source: Source) -> DicomObject | None:
    """Read the header of a file.

    Parameters
    ----------
    source
        Any file.

    Returns
    -------
    The object, or None when the file is no DICOM.

    Raises
    ------
    InputError
        ``truncated-file`` or ``bad-header``.
    """
    with source.open() as file:
        start = file.read(132)
        if not _is_dicom(start):
            if source.size == 0 and source.name.lower().endswith((".dcm", ".dicom", ".ima")):
                raise InputError("truncated-file", f"{source.name} is empty: copy the series again")
            return None
        file.seek(0)
        return _read(file, source)


def _is_dicom(start: bytes) -> bool:
    """Tell DICOM by its prefix (PS3.10 7.1), or, without one, by an identifying-group element at its start."""
    if start[128:132] == b"DICM":
        return True
    if len(start) < 16 or start[:2] not in (b"\x08\x00", b"\x02\x00") or start[3:4] != b"\x00":
        return False
    length = int.from_bytes(start[4:8], "little")
    return start[4:6] in (b"UL", b"UI", b"CS", b"SH", b"LO", b"DA", b"TM") or length <= 64


class _Progress:
    """Follows the reading of a header, element by element, up to the pixel data."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.offset, self.length = 0, 0
        self.at_pixels, self.at_floats = False, False

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        """Note an element; pydicom calls this at the start of each value, and stops when it returns True."""
        self.offset, self.length = self.file.tell(), length
        self.at_pixels, self.at_floats = tag in PIXEL_TAGS, tag in FLOAT_PIXEL_TAGS
        return self.at_pixels

    @property
    def end(self) -> int:
        """Where the element seen last ends, as far as it says so."""
        return self.offset if self.length == UNDEFINED_LENGTH else self.offset + self.length

    def broke_off(self, size: int) -> bool:
        """Whether a file of this size ends before its pixel data do, or inside an element of its header."""
        inside_header = not self.at_pixels and self.length != UNDEFINED_LENGTH and self.end != size
        return self.end > size or inside_header

    def where(self, size: int) -> str:
        """Say where the file broke off."""
        return f"in its pixels, {self.end - size} bytes are missing" if self.at_pixels else "in its header"


def _read(file: BinaryIO, source: Source) -> DicomObject:
    progress = _Progress(file)
    try:
        dataset = read_partial(file, stop_when=progress, force=True, specific_tags=_TAGS)
    except UNREADABLE as error:
        raise InputError(
            "truncated-file", f"{source.name} is damaged, its header cannot be read: copy it again"
        ) from error
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian))
    if syntax != DeflatedExplicitVRLittleEndian and progress.broke_off(source.size):
        raise InputError("truncated-file", f"{source.name} breaks off {progress.where(source.size)}: copy it again")
    try:
        return _describe(dataset, source, syntax, progress)
    except UNREADABLE as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            "bad-header", f"{source.name} has a wrong header, {reason}: export the series again"
        ) from error


def _describe(dataset: Dataset, source: Source, syntax: str, progress: _Progress) -> DicomObject:
    has_size = integer(dataset, "Rows") is not None and integer(dataset, "Columns") is not None
    return DicomObject(
        source=source,
        sop_class=string(dataset, "SOPClassUID"),
        sop_instance_uid=string(dataset, "SOPInstanceUID"),
        series_uid=string(dataset, "SeriesInstanceUID"),
        study_uid=string(dataset, "StudyInstanceUID"),
        frame_of_reference_uid=string(dataset, "FrameOfReferenceUID"),
        series_number=integer(dataset, "SeriesNumber"),
        instance_number=integer(dataset, "InstanceNumber"),
        description=title(dataset, "SeriesDescription"),
        modality=string(dataset, "Modality").upper(),
        has_size=has_size,
        has_modality_lut="ModalityLUTSequence" in dataset,
        pixels=_pixel_format(dataset, syntax, progress) if has_size and progress.at_pixels else None,
        planes=_planes(dataset),
    )


def _pixel_format(dataset: Dataset, syntax: str, progress: _Progress) -> PixelFormat:
    bits_allocated = _integer_or(dataset, "BitsAllocated", 16)
    bits_stored = _integer_or(dataset, "BitsStored", bits_allocated)
    signed = integer(dataset, "PixelRepresentation") == 1
    return PixelFormat(
        rows=_integer_or(dataset, "Rows", 0),
        columns=_integer_or(dataset, "Columns", 0),
        frames=max(1, _integer_or(dataset, "NumberOfFrames", 1)),
        samples=_integer_or(dataset, "SamplesPerPixel", 1),
        photometric=string(dataset, "PhotometricInterpretation"),
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=_integer_or(dataset, "HighBit", bits_stored - 1),
        signed=signed,
        padding=_padding(dataset, bits_allocated, signed),
        is_float=progress.at_floats,
        transfer_syntax=syntax,
        offset=progress.offset,
        length=progress.length,
    )


def _padding(dataset: Dataset, bits: int, signed: bool) -> tuple[int, int] | None:
    first = integer(dataset, "PixelPaddingValue")
    if first is None:
        return None
    last = _integer_or(dataset, "PixelPaddingRangeLimit", first)
    low, high = sorted(_reinterpreted(value, bits, signed) for value in (first, last))
    return low, high


def _reinterpreted(value: int, bits: int, signed: bool) -> int:
    """Read a padding value as the pixels are read, whichever of US and SS it was written as."""
    value %= 1 << bits
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value


def _integer_or(dataset: Dataset, keyword: str, default: int) -> int:
    value = integer(dataset, keyword)
    return default if value is None else value


def _planes(dataset: Dataset) -> tuple[Plane, ...]:
    per_frame = items(dataset, "PerFrameFunctionalGroupsSequence")
    if not per_frame:
        return (_single_plane(dataset),)
    shared = item(dataset, "SharedFunctionalGroupsSequence")
    kinds = tuple(strings(dataset, "ImageType"))
    return tuple(_frame_plane(frame, shared, kinds) for frame in per_frame)


def _single_plane(dataset: Dataset) -> Plane:
    return _plane(dataset, dataset, dataset, dataset, tuple(strings(dataset, "ImageType")))


def _frame_plane(frame: Dataset, shared: Dataset | None, kinds: tuple[str, ...]) -> Plane:
    """Read one frame's functional groups, each per frame or else shared (PS3.3 C.7.6.16)."""

    def group(keyword: str) -> Dataset:
        return item(frame, keyword) or item(shared, keyword) or Dataset()

    frame_type = tuple(strings(group("CTImageFrameTypeSequence"), "FrameType"))
    return _plane(
        group("PlanePositionSequence"),
        group("PlaneOrientationSequence"),
        group("PixelMeasuresSequence"),
        group("PixelValueTransformationSequence"),
        frame_type or kinds,
    )


def _plane(
    position: Dataset, orientation: Dataset, measures: Dataset, values: Dataset, kinds: tuple[str, ...]
) -> Plane:
    slope, intercept, thickness = (
        numbers(dataset, keyword, 1)
        for dataset, keyword in ((values, "RescaleSlope"), (values, "RescaleIntercept"), (measures, "SliceThickness"))
    )
    return Plane(
        position=_array(numbers(position, "ImagePositionPatient", 3)),
        orientation=_array(numbers(orientation, "ImageOrientationPatient", 6)),
        pixel_spacing=numbers(measures, "PixelSpacing", 2),
        thickness=thickness[0] if thickness else None,
        slope=slope[0] if slope else None,
        intercept=intercept[0] if intercept else None,
        unit=string(values, "RescaleType").upper() or "HU",
        kinds=tuple(kind.upper() for kind in kinds),
    )


def _array(values: tuple[float, ...] | None) -> npt.NDArray[np.float64] | None:
    return None if values is None else np.array(values)
