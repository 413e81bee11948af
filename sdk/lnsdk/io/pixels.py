"""Pixels: the frames of DICOM objects, native or compressed, as HU.

Frames are decoded one after the other: with two threads, pyjpegls and openjpeg gained nothing (they hold the
interpreter's lock) and GDCM 0.2 s for 99 slices.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydicom import config, dcmread, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames

from lnsdk.errors import InputError
from lnsdk.io.itk import read_itk
from lnsdk.io.objects import UNDEFINED_LENGTH, DicomObject, PixelFormat, Plane
from lnsdk.io.series import Slice

Stored: TypeAlias = npt.NDArray[np.integer[Any]]
"""Stored values of a frame (rows, columns), as in the file, before rescaling."""

AIR_HU = -1024
"""Padded pixels are brought down to this, the bottom of the usual scale, unless they are lower already."""

LARGEST_SLOPE, LARGEST_INTERCEPT = 1e4, 1e6
"""Rescale values beyond these belong to no CT; within them 16 bits never overflow 32."""

NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
"""Transfer syntaxes that leave pixels uncompressed (PS3.5 A.1 to A.3, A.5)."""

OTHER_QUANTITIES = ("OD", "MGML", "Z_EFF", "ED", "EDW", "PCT")
"""Rescale types (PS3.3 C.11.1.1.2) of CT images whose values are no attenuation in HU."""

ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
"""Tags of a fragment and of the end of the fragments (PS3.5 A.4), little endian."""

START_OF_IMAGE, END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"
"""How a JPEG stream begins and ends (ITU T.81 table B.1)."""

START_OF_FRAME = (0xC0, 0xC1, 0xC3)
"""Markers of the JPEG processes that DICOM has: baseline, extended, lossless (ITU T.81 table B.1)."""


@dataclass
class Findings:
    """What was odd about pixel values, counted while slices are converted."""

    clipped: int = 0
    padding_inside: int = 0

    @property
    def warnings(self) -> list[str]:
        """The findings as sentences."""
        found = []
        if self.clipped:
            found.append(f"voxels outside the range of int16 were clipped: {self.clipped}")
        if self.padding_inside:
            found.append(
                "the pixel padding value occurs inside the image only and was taken for tissue "
                f"(slices: {self.padding_inside})"
            )
        return found


def check_quantity(slices: Sequence[Slice]) -> list[str]:
    """Make sure that the stored values become HU by slope and intercept.

    Returns
    -------
    Warnings about what had to be assumed.

    Raises
    ------
    InputError
        ``not-hu``, ``bad-header`` or ``no-pixel-data``.
    """
    for part in slices:
        if part.plane.unit in OTHER_QUANTITIES or (part.parent.has_modality_lut and part.plane.slope is None):
            what = f"values of type {part.plane.unit}" if part.plane.unit in OTHER_QUANTITIES else "a modality LUT"
            raise InputError("not-hu", f"the slice with {part.label} has {what} instead of HU: give a series in HU")
        if part.pixels.is_float:
            raise InputError(
                "not-hu",
                f"the slice with {part.label} has floating-point pixels, as maps computed from a CT have: "
                "give a series in HU",
            )
        _check_values(part)
        # MONOCHROME1 changes how values are shown, not what they are: rescaling comes first (PS3.3 N.2).
        if part.pixels.photometric not in ("MONOCHROME2", "MONOCHROME1", ""):
            raise InputError(
                "not-hu", f"the slice with {part.label} is {part.pixels.photometric}: give a series in shades of grey"
            )
    warnings = []
    units = {part.plane.unit for part in slices} - {"HU"}
    if units:
        warnings.append(f"values are of type {', '.join(sorted(units))}; they were taken for HU")
    if any(part.plane.slope is None or part.plane.intercept is None for part in slices):
        warnings.append("rescale slope or intercept is missing; 1 and 0 were taken")
    return warnings


def _check_values(part: Slice) -> None:
    form = part.pixels
    sizes_fit = min(form.rows, form.columns) > 0 and form.samples == 1
    slope = 1.0 if part.plane.slope is None else part.plane.slope
    intercept = 0.0 if part.plane.intercept is None else part.plane.intercept
    if not (0 < slope <= LARGEST_SLOPE and abs(intercept) <= LARGEST_INTERCEPT):
        raise InputError(
            "bad-header",
            f"the slice with {part.label} has rescale slope {slope:g} and intercept {intercept:g}, "
            "which cannot give HU: export the original series",
        )
    bits_fit = form.bits_allocated in (8, 16, 32) and 0 < form.bits_stored <= form.high_bit + 1 <= form.bits_allocated
    if not (sizes_fit and bits_fit):
        raise InputError(
            "bad-header",
            f"the slice with {part.label} has {form.columns} x {form.rows} pixels of {form.samples} sample(s), "
            f"{form.bits_allocated} bits allocated, {form.bits_stored} stored, high bit {form.high_bit}, "
            "which makes no sense: export the original series",
        )


def hounsfield(slices: Sequence[Slice], findings: Findings) -> Iterator[tuple[int, npt.NDArray[np.int16]]]:
    """Decode slices.

    Parameters
    ----------
    slices
        In any order.
    findings
        Counts what was odd.

    Yields
    ------
    index, hu
        A slice's index in `slices` and its values, int16 (rows, columns). Files are opened once each, so frames of one
        object come together.

    Raises
    ------
    InputError
        ``truncated-file``, ``unsupported-syntax`` or ``undecodable``.
    """
    by_object: dict[int, list[int]] = {}
    for index, part in enumerate(slices):
        by_object.setdefault(id(part.parent), []).append(index)
    for indices in by_object.values():
        wanted = {slices[index].index: index for index in indices}
        for frame, stored in _stored_frames(slices[indices[0]].parent, slices[indices[0]].pixels):
            if frame in wanted:
                index = wanted[frame]
                yield index, _to_hu(stored, slices[index].plane, slices[index].pixels.padding, findings)


def _to_hu(stored: Stored, plane: Plane, padding: tuple[int, int] | None, findings: Findings) -> npt.NDArray[np.int16]:
    slope = 1.0 if plane.slope is None else plane.slope
    intercept = 0.0 if plane.intercept is None else plane.intercept
    values: npt.NDArray[Any]
    if slope.is_integer() and intercept.is_integer() and stored.dtype.itemsize <= 2:
        values = stored.astype(np.int32) * np.int32(slope) + np.int32(intercept)
    else:
        values = np.rint(stored * slope + intercept)
    if padding is not None:
        _pad(values, stored, padding, findings)
    limits = np.iinfo(np.int16)
    clipped = values.clip(limits.min, limits.max)
    findings.clipped += int(np.count_nonzero(clipped != values))
    return clipped.astype(np.int16)


def _pad(values: npt.NDArray[Any], stored: Stored, padding: tuple[int, int], findings: Findings) -> None:
    """Turn padded pixels into air, in place, where they are padding: around the field of view, corners included.

    Some scanners name a value that also occurs in the image, 0 for example, which is water once rescaled.
    """
    padded = (stored >= padding[0]) & (stored <= padding[1])
    if not padded.any():
        return
    if padded[[0, 0, -1, -1], [0, -1, 0, -1]].any():
        np.minimum(values, AIR_HU, out=values, where=padded)
    else:
        findings.padding_inside += 1


def _stored_frames(item: DicomObject, form: PixelFormat) -> Iterator[tuple[int, Stored]]:
    data = _pixel_bytes(item, form)
    frames = _native(data, item, form) if form.transfer_syntax in NATIVE else _compressed(data, item, form)
    for index, values in enumerate(frames):
        if values.shape != (form.rows, form.columns):
            raise InputError(
                "undecodable",
                f"{item.source.name}: frame {index + 1} is {values.shape}, its header says {(form.rows, form.columns)} "
                "rows and columns: send the series again",
            )
        yield index, _aligned(values, form)


def _pixel_bytes(item: DicomObject, form: PixelFormat) -> bytes:
    with item.source.open() as file:
        if form.transfer_syntax == uid.DeflatedExplicitVRLittleEndian:
            return bytes(dcmread(file).PixelData)
        file.seek(form.offset)
        return file.read() if form.length == UNDEFINED_LENGTH else file.read(form.length)


def _native(data: bytes, item: DicomObject, form: PixelFormat) -> Iterator[Stored]:
    count = form.frames * form.rows * form.columns
    size = count * form.bits_allocated // 8
    if len(data) < size:
        raise InputError(
            "truncated-file",
            f"{item.source.name} breaks off, {size - len(data)} bytes of its pixels are missing: copy it again",
        )
    order = ">" if form.transfer_syntax == uid.ExplicitVRBigEndian else "<"
    dtype = np.dtype(f"{order}u{form.bits_allocated // 8}")
    frames = np.frombuffer(data, dtype, count).astype(dtype.newbyteorder("="), copy=False)
    yield from frames.reshape(form.frames, form.rows, form.columns)


def _compressed(data: bytes, item: DicomObject, form: PixelFormat) -> Iterator[Stored]:
    decode = DECODERS.get(form.transfer_syntax)
    if decode is None:
        name = uid.UID(form.transfer_syntax, config.IGNORE).name
        raise InputError(
            "unsupported-syntax",
            f"{item.source.name} is compressed as {name}, which cannot be read: "
            "export the series uncompressed, or as JPEG lossless, JPEG-LS or JPEG 2000",
        )
    _check_fragments(data, item)
    try:
        frames = list(generate_frames(data, number_of_frames=form.frames))
        if len(frames) != form.frames:
            raise ValueError(f"expected {form.frames} frames, got {len(frames)}")
        for frame in frames:
            yield decode(frame, form)
    except (RuntimeError, ValueError, NotImplementedError, EOFError, struct.error) as error:
        raise InputError(
            "undecodable", f"{item.source.name} cannot be decompressed, its pixels are damaged: send the series again"
        ) from error


def _check_fragments(data: bytes, item: DicomObject) -> None:
    """Refuse compressed pixels that break off: some decoders return half a picture without a word."""
    position = 0
    while data[position : position + 4] == ITEM:
        position += 8 + int.from_bytes(data[position + 4 : position + 8], "little")
    if position == 0 or position > len(data) or (position < len(data) and data[position : position + 4] != DELIMITER):
        raise InputError("truncated-file", f"{item.source.name} breaks off inside its compressed pixels: copy it again")


def _aligned(values: Stored, form: PixelFormat) -> Stored:
    """Keep the stored bits of each pixel only and give them their sign (PS3.5 8.1.1): the rest may hold overlays."""
    if values.dtype.itemsize * 8 < form.bits_allocated:
        kind = "i" if np.issubdtype(values.dtype, np.signedinteger) else "u"
        values = values.astype(f"{kind}{form.bits_allocated // 8}")
    bits = values.dtype.itemsize * 8
    native = form.transfer_syntax in NATIVE
    above = bits - 1 - (form.high_bit if native else form.bits_stored - 1)
    unsigned = values.view(f"u{values.dtype.itemsize}")
    shifted = unsigned << above if above > 0 else unsigned
    if form.signed:
        shifted = shifted.view(f"i{values.dtype.itemsize}")
    return shifted >> (bits - form.bits_stored) if bits > form.bits_stored else shifted


def _rle(frame: bytes, form: PixelFormat) -> Stored:
    from pydicom.pixels.decoders.base import RLELosslessDecoder

    options: dict[str, Any] = {
        "rows": form.rows,
        "columns": form.columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": form.bits_allocated,
        "bits_stored": form.bits_stored,
        "pixel_representation": int(form.signed),
        "pixel_keyword": "PixelData",
    }
    values, _ = RLELosslessDecoder.as_array(encapsulate([frame]), index=0, raw=True, **options)
    return values


def _jpeg_ls(frame: bytes, form: PixelFormat) -> Stored:
    import jpeg_ls

    data, info = jpeg_ls.decode_buffer(frame)
    values: Stored = np.frombuffer(data, "u1" if info["bits_per_sample"] <= 8 else "<u2")
    return values.reshape(info["height"], info["width"])


def _jpeg_2000(frame: bytes, form: PixelFormat) -> Stored:
    from openjpeg.utils import decode

    values: Stored = decode(frame)
    return values


def _gdcm(frame: bytes, form: PixelFormat) -> Stored:
    """Decode with GDCM, which reads files only: one with this frame and nothing else is written and removed again."""
    _check_jpeg(frame, form)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.UID(form.transfer_syntax)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid.CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid.generate_uid()
    dataset.Rows, dataset.Columns = form.rows, form.columns
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = (
        form.bits_allocated,
        form.bits_stored,
        form.bits_stored - 1,
    )
    dataset.PixelRepresentation = int(form.signed)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    with tempfile.TemporaryDirectory(prefix="lnsdk-") as folder:
        path = Path(folder, "frame.dcm")
        dataset.save_as(path, enforce_file_format=True)
        values: Stored = read_itk(path, "GDCMImageIO").values
    return values.reshape(values.shape[-2:])


def _check_jpeg(frame: bytes, form: PixelFormat) -> None:
    """Compare a JPEG's own header with the object's: GDCM crashes the process on some that differ (seen by fuzzing)."""
    expected = (form.rows, form.columns, 1)
    found = _jpeg_frame_header(frame)
    if found is None or found[1:] != expected or found[0] > form.bits_allocated:
        raise ValueError(f"a JPEG frame must be {expected} rows, columns and components, got {found}")
    if END_OF_IMAGE not in frame[-4:]:
        raise ValueError("a JPEG frame must end with FF D9")


def _jpeg_frame_header(frame: bytes) -> tuple[int, int, int, int] | None:
    """Return precision, rows, columns and components from the frame header (ITU T.81 B.2.2), or None without one."""
    if frame[:2] != START_OF_IMAGE:
        return None
    position = 2
    while position + 10 <= len(frame) and frame[position] == 0xFF:
        if frame[position + 1] in START_OF_FRAME:
            precision, rows, columns, components = struct.unpack_from(">BHHB", frame, position + 4)
            return precision, rows, columns, components
        position += 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    return None


DECODERS: Mapping[str, Callable[[bytes, PixelFormat], Stored]] = {
    uid.RLELossless: _rle,
    uid.JPEGBaseline8Bit: _gdcm,
    uid.JPEGExtended12Bit: _gdcm,
    uid.JPEGLossless: _gdcm,
    uid.JPEGLosslessSV1: _gdcm,
    uid.JPEGLSLossless: _jpeg_ls,
    uid.JPEGLSNearLossless: _jpeg_ls,
    uid.JPEG2000Lossless: _jpeg_2000,
    uid.JPEG2000: _jpeg_2000,
    uid.HTJ2KLossless: _jpeg_2000,
    uid.HTJ2KLosslessRPCL: _jpeg_2000,
    uid.HTJ2K: _jpeg_2000,
}
"""Transfer syntax UID to the function that decodes one frame of it."""
