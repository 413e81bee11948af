"""Reading: from files to a `lnsdk.Volume`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lnsdk.errors import InputError
from lnsdk.io.dicom import read_dicom
from lnsdk.io.files import PathLike, Source, open_sources
from lnsdk.io.images import is_image_name, pixel_files, read_images
from lnsdk.io.objects import DicomObject, read_object
from lnsdk.io.series import counted
from lnsdk.volume import Volume

__all__ = ["read"]


def read(path: PathLike | Sequence[PathLike], series: str | int | None = None) -> Volume:
    """Read a CT volume, whatever it lies in.

    Parameters
    ----------
    path
        A folder (sub-folders included), a zip, one file, or a list of these: DICOM, single-frame or multi-frame,
        uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000; or NIfTI, MetaImage or NRRD. Beside DICOM images of
        other formats are set aside.
    series
        Which volume, where there are several: its Series Instance UID, or its number, from 1, in the list that the
        error names.

    Returns
    -------
    HU as int16 (z, y, x), and the affine from voxel (x, y, z, 1) to DICOM LPS in mm. `Volume.warnings` says what was
    odd: a missing slice or a small irregularity (interpolated), duplicates (dropped), objects that are no slices (set
    aside), a single slice. For DICOM, z runs along the slice normal, row x column direction (PS3.3 C.7.6.2.1.1).

    Raises
    ------
    InputError
        When there is no CT volume or none that can be trusted; `InputError.reason` holds the code, and the message one
        line that says what was found, where, and what to do.
    """
    try:
        return _read(path, series)
    except OSError as error:  # a disk or share that fails while a file is read, or no room to unpack one
        raise InputError(
            "unreadable-path", f"reading broke off ({error.strerror or 'no reason given'}): check the disk or share"
        ) from error


def _read(path: PathLike | Sequence[PathLike], series: str | int | None) -> Volume:
    with open_sources(path) as sources:
        images = [source for source in sources if is_image_name(source.name)]
        objects, foreign = _read_objects([source for source in sources if not is_image_name(source.name)])
        if images and not any(item.kind == "CT image" for item in objects):
            pixels = {name for image in images for name in pixel_files(image)}
            foreign -= sum(source.name in pixels for source in sources if not is_image_name(source.name))
            return _with_warning(read_images(images, series), _set_aside(len(objects), foreign, 0))
        if objects:
            return _with_warning(read_dicom(objects, series), _set_aside(0, foreign, len(images)))
    raise InputError(
        "not-dicom",
        f"no DICOM, NIfTI, MetaImage or NRRD among {foreign} files: give a folder, zip or list that holds a CT series",
    )


def _read_objects(sources: Sequence[Source]) -> tuple[list[DicomObject], int]:
    """Read the headers; return the DICOM objects and the number of other files."""
    objects = [item for item in map(read_object, sources) if item is not None]
    return objects, len(sources) - len(objects)


def _set_aside(objects: int, foreign: int, images: int) -> str:
    kinds = [("DICOM object", objects), ("file of another kind", foreign), ("NIfTI, MetaImage or NRRD file", images)]
    words = counted(kinds)
    return f"set aside beside the volume: {words}" if words else ""


def _with_warning(volume: Volume, warning: str) -> Volume:
    return replace(volume, warnings=(*volume.warnings, warning)) if warning else volume
