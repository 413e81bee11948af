"""NIfTI-1 and NIfTI-2 files, read strictly.

The readers at hand repair silently what should be refused: ITK's turns NaN into 0, fills truncated files, and takes
the qform when the sform is sheared.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from lnsdk.errors import InputError
from lnsdk.io.files import MAX_UNPACKED_BYTES, Source

DATA_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
"""Data type codes of real, scalar voxels (nifti1.h, DT_UINT8 to DT_UINT64)."""

UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Codes of the unit of length (nifti1.h, NIFTI_UNITS_METER...) to mm; 0, unknown, is taken for mm."""

SAME_PLACE_MM = 0.5
"""sform and qform that differ by more than this at a corner of the volume are reported."""

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI's world runs right, anterior, superior; DICOM's left, posterior, superior."""


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """What a NIfTI header says.

    Parameters
    ----------
    sizes
        Number of voxels along x, y, z and any further axes.
    dtype
        Of the stored values.
    offset
        Where they start in the (unpacked) file.
    slope, inter
        Stored value to unit.
    affine
        float64 (4, 4): voxel (x, y, z, 1) to LPS in mm.
    warnings
        What had to be assumed about the affine.
    """

    sizes: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    affine: npt.NDArray[np.float64]
    warnings: tuple[str, ...]


def read_nifti(source: Source) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64], tuple[str, ...]]:
    """Read a ``.nii`` or ``.nii.gz`` file.

    Returns
    -------
    values, affine, warnings
        Values, scaled, (z, y, x), or with further axes in front; float64 (4, 4) voxel (x, y, z, 1) to LPS in mm, as the
        sform says, or else the qform.

    Raises
    ------
    InputError
        ``bad-nifti``, ``truncated-file`` or ``not-scalar``.
    """
    with _unpacked(source) as file:
        return _read(file, source)


def nifti_header(source: Source) -> NiftiHeader:
    """Read the header only; raises as `read_nifti` does."""
    with _unpacked(source) as file:
        return _header(file.read(540), source)


@contextmanager
def _unpacked(source: Source) -> Iterator[BinaryIO | gzip.GzipFile]:
    """Open a file, through gzip when its content is, and refuse what breaks off or is damaged while it is read."""
    try:
        with source.open() as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw) if zipped else raw as file:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError("truncated-file", f"{source.name} breaks off or is damaged: copy it again") from error


def _read(
    file: BinaryIO | gzip.GzipFile, source: Source
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64], tuple[str, ...]]:
    start = file.read(540)
    header = _header(start, source)
    size = header.offset + math.prod(header.sizes) * header.dtype.itemsize
    if size > MAX_UNPACKED_BYTES:
        raise InputError("bad-nifti", f"{source.name} claims {size / 2**30:.0f} GiB of voxels: give a CT volume")
    data = start + file.read(max(size - len(start), 0))
    if len(data) < size:
        raise InputError(
            "truncated-file", f"{source.name} breaks off, {size - len(data)} bytes are missing: copy it again"
        )
    values: npt.NDArray[Any] = np.frombuffer(data, header.dtype, math.prod(header.sizes), header.offset)
    values = values.reshape(header.sizes[::-1])
    if header.slope != 1 or header.inter != 0:
        values = values * header.slope + header.inter
    return values, header.affine, header.warnings


def _header(start: bytes, source: Source) -> NiftiHeader:
    for order in "<>":
        if len(start) >= 348 and start[:4] == struct.pack(f"{order}i", 348) and start[344:348] == b"n+1\0":
            return _parse(start, order, source, version=1)
        if len(start) >= 540 and start[:4] == struct.pack(f"{order}i", 540) and start[4:8] == b"n+2\0":
            return _parse(start, order, source, version=2)
    raise InputError("bad-nifti", f"{source.name} is no NIfTI file (.nii or .nii.gz, version 1 or 2): convert it anew")


def _parse(start: bytes, order: str, source: Source, version: int) -> NiftiHeader:
    """Read the fields of nifti1.h or nifti2.h that place and scale the voxels."""

    def field(form: str, first: int, second: int) -> tuple[Any, ...]:
        return struct.unpack_from(order + form, start, first if version == 1 else second)

    wide = version == 2
    dims = field("8q" if wide else "8h", 40, 16)
    pixdim = field("8d" if wide else "8f", 76, 104)
    (datatype,) = field("h", 70, 12)
    (offset,) = field("q" if wide else "f", 108, 168)
    slope, inter = field("2d" if wide else "2f", 112, 176)
    qform, sform = field("2i" if wide else "2h", 252, 344)
    quaternion = field("6d" if wide else "6f", 256, 352)
    rows = field("12d" if wide else "12f", 280, 400)
    (units,) = field("i" if wide else "b", 123, 500)
    if not 1 <= dims[0] <= 7 or min(dims[1 : dims[0] + 1]) < 1 or not (math.isfinite(offset) and offset >= 0):
        raise InputError("bad-nifti", f"{source.name} has a damaged header (dim {list(dims)}): convert it anew")
    if datatype not in DATA_TYPES:
        raise InputError(
            "not-scalar", f"{source.name} holds data type {datatype}, not one number per voxel: give a CT in HU"
        )
    scaled = math.isfinite(slope) and slope != 0
    affine, warnings = _affine(qform, sform, pixdim, quaternion, rows, dims)
    scale = np.diag([UNITS_MM.get(units & 7, 1.0)] * 3 + [1.0])
    return NiftiHeader(
        sizes=tuple(dims[1 : dims[0] + 1]),
        dtype=np.dtype(f"{order}{DATA_TYPES[datatype]}"),
        offset=int(offset),
        slope=slope if scaled else 1.0,
        inter=inter if scaled else 0.0,
        affine=RAS_TO_LPS @ scale @ affine,
        warnings=warnings,
    )


def _affine(
    qform: int,
    sform: int,
    pixdim: tuple[float, ...],
    quaternion: tuple[float, ...],
    rows: tuple[float, ...],
    dims: tuple[int, ...],
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Choose among the three methods of nifti1.h, voxel to RAS in the file's unit: sform, qform, neither."""
    from_sform = np.vstack([np.reshape(rows, (3, 4)), [0.0, 0.0, 0.0, 1.0]])
    from_qform = _quaternion_affine(pixdim, quaternion)
    if sform > 0 and qform > 0:
        corners = np.array([[x, y, z, 1] for x in (0, dims[1] - 1) for y in (0, dims[2] - 1) for z in (0, dims[3] - 1)])
        apart = float(np.linalg.norm(corners @ (from_sform - from_qform).T, axis=1).max())
        warning = f"sform and qform differ by up to {apart:.1f} mm; the sform was used"
        return from_sform, (warning,) if apart > SAME_PLACE_MM else ()
    if sform > 0:
        return from_sform, ()
    if qform > 0:
        return from_qform, ()
    plain = np.diag([*pixdim[1:4], 1.0])
    return plain, ("the file does not say how the volume is oriented; x was taken to run to the right, y to the front",)


def _quaternion_affine(pixdim: tuple[float, ...], quaternion: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Method 2 of nifti1.h: rotation by a unit quaternion, pixdim, and pixdim[0] as the sign of z."""
    b, c, d, *offsets = quaternion
    a = math.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * [pixdim[1], pixdim[2], pixdim[3] * (-1.0 if pixdim[0] < 0 else 1.0)]
    affine[:3, 3] = offsets
    return affine
