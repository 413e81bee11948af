"""DICOM: from objects to a volume in HU."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from lnsdk.errors import InputError
from lnsdk.io.objects import DicomObject
from lnsdk.io.pixels import Findings, check_quantity, hounsfield
from lnsdk.io.series import Slice, find_series
from lnsdk.io.stack import Stack, arrange
from lnsdk.volume import Volume

UID_FORM = re.compile("[0-9.]{1,64}")
"""Digits and dots, at most 64 (PS3.5 9.1)."""


Decode = Callable[[Sequence[Slice], Findings], Iterator[tuple[int, npt.NDArray[np.int16]]]]
"""From slices to the index and the HU of each, as `lnsdk.io.pixels.hounsfield`."""


def read_dicom(objects: Sequence[DicomObject], series: str | int | None = None, decode: Decode = hounsfield) -> Volume:
    """Build the CT volume that some DICOM objects hold.

    Parameters
    ----------
    objects
        In any order; what is no CT slice is set aside with a warning.
    series
        Series Instance UID or number in the list of volumes, where there are several.
    decode
        Gives the HU of slices.

    Returns
    -------
    The volume, its slices along the slice normal (row x column direction), HU as int16 (z, y, x).

    Raises
    ------
    InputError
        With the reason why there is no volume, or none that can be trusted.
    """
    chosen, warnings = find_series(objects, series)
    _check_frames(chosen.slices)
    warnings += check_quantity(chosen.slices)
    stack = arrange(chosen.slices)
    voxels, more = _decode(stack, decode)
    nearest = [above if weight > 0.5 else below for below, above, weight in stack.sources]
    first = chosen.slices[0].parent
    uids = [chosen.uid, first.study_uid, first.frame_of_reference_uid]
    kept = [stack.slices[index] for index in nearest]
    uids += [part.parent.sop_instance_uid for part in kept]
    multi_frame = any(part.pixels.frames > 1 for part in kept)
    (series_uid, study_uid, frame_of_reference_uid, *sop_instance_uids), odd = _valid_uids(uids)
    return Volume(
        voxels=voxels,
        affine=stack.affine,
        warnings=(*warnings, *stack.warnings, *more, *odd),
        series_uid=series_uid,
        study_uid=study_uid,
        frame_of_reference_uid=frame_of_reference_uid,
        sop_instance_uids=tuple(sop_instance_uids),
        frame_numbers=tuple(part.index + 1 for part in kept) if multi_frame else (),
        description=chosen.description,
    )


def _valid_uids(uids: Sequence[str]) -> tuple[list[str], list[str]]:
    """Empty what is no UID: files hold names there, and results must not; return the UIDs and warnings."""
    kept = [uid if UID_FORM.fullmatch(uid) else "" for uid in uids]
    wrong = len({uid for uid in uids if uid}) - len({uid for uid in kept if uid})
    return kept, [f"identifiers that are no DICOM UIDs were left out: {wrong}"] if wrong else []


def _check_frames(slices: Sequence[Slice]) -> None:
    for part in slices:
        frames, places = part.pixels.frames, len(part.parent.planes)
        if frames != places:
            raise InputError(
                "bad-header",
                f"the object with {part.label} has {frames} frames but says where {places} of them lie: "
                "export the original series",
            )


def _decode(stack: Stack, decode: Decode) -> tuple[npt.NDArray[np.int16], list[str]]:
    findings = Findings()
    form = stack.slices[0].pixels
    voxels = np.empty((len(stack.slices), form.rows, form.columns), np.int16)
    for index, hu in decode(stack.slices, findings):
        voxels[index] = hu
    warnings = _check_duplicates(stack, voxels, decode)
    return _on_grid(stack, voxels), warnings + findings.warnings


def _check_duplicates(stack: Stack, voxels: npt.NDArray[np.int16], decode: Decode) -> list[str]:
    """Refuse slices in one place that differ; there is no telling which of them is meant."""
    extra = [part for _, part in stack.duplicates]
    for number, hu in decode(extra, Findings()):
        index = stack.duplicates[number][0]
        if not np.array_equal(hu, voxels[index]):
            raise _different(stack.slices[index], extra[number])
    return [f"exact duplicates of slices were dropped: {len(extra)}"] if extra else []


def _different(first: Slice, second: Slice) -> InputError:
    return InputError(
        "duplicate-position",
        f"the slices with {first.label} and with {second.label} lie in the same place but differ: "
        "export each acquisition or reconstruction as its own series",
    )


def _on_grid(stack: Stack, voxels: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Bring the slices to the uniform grid: copies where a slice is there, linear interpolation where none is."""
    sources = stack.sources
    if sources == [(index, index, 0.0) for index in range(len(voxels))]:
        return voxels
    grid = np.empty((stack.count, *voxels.shape[1:]), np.int16)
    for target, (below, above, weight) in zip(grid, sources, strict=True):
        target[:] = np.rint(voxels[below] * (1 - weight) + voxels[above] * weight) if weight else voxels[below]
    return grid
