"""Image files other than DICOM: NIfTI, MetaImage and NRRD, each a volume in HU."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lnsdk.errors import InputError
from lnsdk.io.files import DiskFile, Source
from lnsdk.io.itk import read_itk
from lnsdk.io.nifti import nifti_header, read_nifti
from lnsdk.io.series import choose_number, no_such_series, several_volumes
from lnsdk.volume import SPACING_RANGE_MM, Volume

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_IMAGE_IO = {".mha": "MetaImageIO", ".mhd": "MetaImageIO", ".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO"}
"""Suffix to the reader inside SimpleITK."""

DETACHED_HEADERS = (".mhd", ".nhdr")
DATA_FILE = re.compile(rb"^(?:ElementDataFile *=|data ?file:)(.+)$", re.MULTILINE | re.IGNORECASE)
"""The line of such a header that names the file with the pixels."""

HEADER_BYTES = 1 << 16
"""More than any such header has."""

SHEAR_TOLERANCE = 1e-3
"""Largest cosine between two axes that counts as a right angle (0.06 degrees)."""


def is_image_name(name: str) -> bool:
    """Whether a file's name says NIfTI, MetaImage or NRRD."""
    return name.lower().endswith((*NIFTI_SUFFIXES, *ITK_IMAGE_IO))


def pixel_files(source: Source) -> tuple[str, ...]:
    """Name of the file that holds the pixels of a MetaImage or NRRD header; none when the header's own file does."""
    if not source.name.lower().endswith(DETACHED_HEADERS):
        return ()
    with source.open() as file:
        found = DATA_FILE.search(file.read(HEADER_BYTES))
    return (Path(found[1].decode(errors="replace").strip()).name,) if found else ()


def read_images(sources: Sequence[Source], series: str | int | None = None) -> Volume:
    """Read the one image file that is meant.

    Parameters
    ----------
    sources
        Image files.
    series
        The file's number, from 1, in the list that the error for several volumes shows, or its name there.

    Raises
    ------
    InputError
        ``several-volumes``, ``no-such-series``, or why the file holds no CT volume.
    """
    if series is None and len(sources) == 1:
        return read_image(sources[0])
    if series is None:
        raise several_volumes([_summary(source) for source in sources])
    number = choose_number(series, len(sources))
    chosen = [source for source in sources if source.name == str(series)]
    if number is None and len(chosen) != 1:
        raise no_such_series(series, [_summary(source) for source in sources])
    return read_image(chosen[0] if number is None else sources[number])


def read_image(source: Source) -> Volume:
    """Read one NIfTI, MetaImage or NRRD file.

    Returns
    -------
    HU as int16 (z, y, x), rounded, in the file's own axis order; affine to LPS in mm.

    Raises
    ------
    InputError
        ``two-dimensional``, ``four-dimensional``, ``not-scalar``, ``nan``, ``bad-affine``, ``sheared-affine``,
        ``bad-nifti``, ``unreadable-image`` or ``truncated-file``.
    """
    is_nifti = source.name.lower().endswith(NIFTI_SUFFIXES)
    values, affine, warnings = read_nifti(source) if is_nifti else _read_itk(source)
    values = _three_dimensional(values, source)
    _check_affine(affine, source)
    voxels, more = _to_hu(values, source)
    return Volume(voxels=voxels, affine=affine, warnings=(*warnings, *more))


def _read_itk(source: Source) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64], tuple[str, ...]]:
    with _on_disk(source) as path:
        image_io = ITK_IMAGE_IO[path.suffix.lower()]
        try:
            image = read_itk(path, image_io)
        except RuntimeError as error:
            raise InputError(
                "unreadable-image", f"{source.name} breaks off or is damaged: copy or convert it again"
            ) from error
    if image.components != 1:
        raise InputError("not-scalar", f"{source.name} has {image.components} values per voxel: give a CT in HU")
    if image_io == "NrrdImageIO" and "NRRD_space" not in image.keys:
        return image.values, image.affine, ("the file does not say how the volume is oriented; LPS was assumed",)
    return image.values, image.affine, ()


@contextmanager
def _on_disk(source: Source) -> Iterator[Path]:
    """Give SimpleITK, which reads from disk only, a file; a zip's member is copied to a temporary folder."""
    if isinstance(source, DiskFile):
        yield source.path
        return
    suffix = Path(source.name).suffix.lower()
    if suffix in (".mhd", ".nhdr"):
        raise InputError("unreadable-image", f"{source.name} keeps its voxels in another file: unpack the zip first")
    with tempfile.TemporaryDirectory(prefix="lnsdk-") as folder:
        path = Path(folder, f"image{suffix}")
        with source.open() as packed, path.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
        yield path


def _three_dimensional(values: npt.NDArray[Any], source: Source) -> npt.NDArray[Any]:
    if values.size == 0:
        raise InputError("unreadable-image", f"{source.name} holds no voxels: convert it anew")
    while values.ndim > 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim < 3:
        raise InputError("two-dimensional", f"{source.name} is {values.ndim}-dimensional: give a volume of slices")
    if values.ndim > 3:
        raise InputError(
            "four-dimensional",
            f"{source.name} is {values.ndim}-dimensional, {values.shape[::-1]}: give one volume of it",
        )
    return values


def _check_affine(affine: npt.NDArray[np.float64], source: Source) -> None:
    if not np.isfinite(affine).all():
        raise InputError("bad-affine", f"{source.name} has NaN or infinity in its affine: convert it anew")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    smallest, largest = SPACING_RANGE_MM
    if lengths.min() < smallest or lengths.max() > largest:
        spacing = " x ".join(f"{mm:g}" for mm in lengths)
        raise InputError("bad-affine", f"{source.name} has voxels of {spacing} mm, which is no CT: convert it anew")
    cosines = (affine[:3, :3] / lengths).T @ (affine[:3, :3] / lengths) - np.eye(3)
    if np.abs(cosines).max() > SHEAR_TOLERANCE:
        angle = np.degrees(np.arcsin(np.abs(cosines).max()))
        raise InputError(
            "sheared-affine",
            f"{source.name} has axes {angle:.1f} degrees off a right angle: resample it to a grid without shear",
        )


def _to_hu(values: npt.NDArray[Any], source: Source) -> tuple[npt.NDArray[np.int16], list[str]]:
    warnings = []
    if np.issubdtype(values.dtype, np.floating):
        finite = np.isfinite(values)
        if not finite.all():
            bad = values.size - int(np.count_nonzero(finite))
            raise InputError(
                "nan", f"{source.name} has NaN or infinity in {bad} voxels: replace them, with -1024 for air"
            )
        values = np.rint(values)
    limits = np.iinfo(np.int16)
    if values.dtype != np.int16 and (values.min() < limits.min or values.max() > limits.max):
        outside = int(np.count_nonzero((values < limits.min) | (values > limits.max)))
        warnings.append(f"voxels outside the range of int16 were clipped: {outside}")
        values = values.clip(limits.min, limits.max)
    if values.min() >= 0:
        warnings.append("no voxel is below 0: these may be no HU")
    if len(values) == 1:
        warnings.append("a single slice")
    return values.astype(np.int16), warnings


def _summary(source: Source) -> str:
    """Describe a file in the list of volumes, as far as its header can be read."""
    if not source.name.lower().endswith(NIFTI_SUFFIXES):
        return source.name
    try:
        header = nifti_header(source)
    except InputError as error:
        return f"{source.name} ({error.reason})"
    sizes = " x ".join(str(size) for size in header.sizes)
    spacing = " x ".join(f"{mm:.2f}" for mm in np.linalg.norm(header.affine[:3, :3], axis=0))
    return f"{source.name}, {sizes} voxels of {spacing} mm"
