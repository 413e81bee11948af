"""Where the body is: whether a volume shows more than air, and the part of each slice worth looking at."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lnsdk.ops import _arguments
from lnsdk.ops.slices import Ranges, require_voxels

Range = tuple[int, int]

AIR_HU = -950
"""Blocks whose mean is above this hold more than air: inflated lung lies at -900 to -700, noisy air at -1000."""

AIR_BLOCK_MM = 16.0
"""Side of these blocks in a slice: wide enough that the mean of noise in air stays near -1000."""

AIR_BLOCK_VOXELS = 8
"""Smallest side of these blocks in voxels, for the same reason."""

AIR_BLOCKS = 3
"""So many blocks that are no air make a body: one may be a streak or a tube."""

BODY_HU = -400
"""Between lung and soft tissue: above it lie fat, soft tissue and bone."""

BODY_SAMPLE_MM = 4.0
"""Distance of the samples, along y and x, that the body is searched in."""

BODY_THICKNESS = 3
"""In samples: what is thinner in the axial plane (table, tubes, streaks) is no body."""

BODY_MARGIN_MM = 8.0
"""Added around the body: the skin lies between samples."""


def is_air(voxels: NDArray[np.int16], spacing: Sequence[float]) -> bool:
    """Tell whether a volume holds nothing but air and its noise.

    Each slice is cut into blocks of 16 mm; air is a volume with fewer than 3 blocks whose mean is above -950 HU. A part
    of a lung without anything else in it is not air.

    Parameters
    ----------
    voxels : ndarray of int16, shape (z, y, x)
        HU.
    spacing : sequence of three floats
        Distance between voxels along x, y, z in mm.

    Raises
    ------
    TypeError
        When voxels are not int16.
    ValueError
        When a shape or spacing is wrong.
    """
    _, *spacings = _checked(voxels, spacing)
    sides = [
        min(size, max(AIR_BLOCK_VOXELS, round(AIR_BLOCK_MM / each)))
        for size, each in zip(voxels.shape[1:], spacings, strict=True)
    ]
    rows, columns = (size // side for size, side in zip(voxels.shape[1:], sides, strict=True))
    blocks = voxels[:, : rows * sides[0], : columns * sides[1]].reshape(-1, rows, sides[0], columns, sides[1])
    left = min(AIR_BLOCKS, len(voxels) * rows * columns)
    for slice_ in blocks:  # a body is in the first slices already
        left -= int(np.count_nonzero(slice_.mean(axis=(1, 3)) > AIR_HU))
        if left <= 0:
            return False
    return True


def body_box(voxels: NDArray[np.int16], spacing: Sequence[float]) -> Ranges:
    """Find the part of each slice that the body occupies, the same for all slices.

    Each axial slice is sampled every 4 mm; what is above -400 HU and at least 3 samples thick both ways is body. Where
    nothing is that thick, as inside a lung, all of the slice is kept. Lung is inside the box because the chest wall
    around it is: of a part cut out of a chest, lung beside thick tissue may lie outside.

    Parameters
    ----------
    voxels : ndarray of int16, shape (z, y, x)
        HU.
    spacing : sequence of three floats
        Distance between voxels along x, y, z in mm.

    Returns
    -------
    ((z0, z1), (y0, y1), (x0, x1))
        Half-open voxel ranges: all of z, and of y and x the body with a margin of 8 mm.

    Raises
    ------
    TypeError
        When voxels are not int16.
    ValueError
        When a shape or spacing is wrong.
    """
    extent = body_extent(voxels, spacing)
    depth, height, width = voxels.shape
    y_range, x_range = extent if extent is not None else ((0, height), (0, width))
    return (0, depth), y_range, x_range


def body_extent(voxels: NDArray[np.int16], spacing: Sequence[float]) -> tuple[Range, Range] | None:
    """Ranges of y and x that hold the body of every slice, as for `body_box`; None where no slice shows any.

    Those of a volume are the smallest that hold those of each of its slices.
    """
    spacings = _checked(voxels, spacing)
    steps = [max(1, int(BODY_SAMPLE_MM / each)) for each in spacings]
    body = _opened(voxels[:, :: steps[1], :: steps[2]] > BODY_HU, BODY_THICKNESS)
    if not body.any():
        return None
    y_range, x_range = (
        _range_of(np.flatnonzero(body.any(axis=others)) * steps[axis], spacings[axis], voxels.shape[axis])
        for axis, others in ((1, (0, 2)), (2, (0, 1)))
    )
    return y_range, x_range


def _checked(voxels: NDArray[np.int16], spacing: Sequence[float]) -> list[float]:
    """Return the spacing along z, y, x once both arguments are checked."""
    require_voxels(voxels)
    if len(spacing) != 3:
        raise ValueError(f"spacing must be x, y, z in mm, got {spacing}")
    return [_arguments.positive(each, "spacing") for each in spacing][::-1]


def _opened(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """What the squares of this size that lie in the mask, in its last two axes, cover of it."""
    border = size - 1
    padded = np.pad(mask, ((0, 0), (border, border), (border, border)))
    for axis in (1, 2):
        padded = _combined(padded, size, axis, np.logical_and)
    for axis in (1, 2):
        padded = _combined(padded, size, axis, np.logical_or)
    return padded


def _combined(mask: NDArray[np.bool_], size: int, axis: int, operator: np.ufunc) -> NDArray[np.bool_]:
    """Each run of ``size`` neighbours along the axis reduced to one value; the axis gets ``size - 1`` shorter."""
    runs = np.lib.stride_tricks.sliding_window_view(mask, size, axis)
    reduced: NDArray[np.bool_] = operator.reduce(runs, axis=-1)
    return reduced


def _range_of(occupied: NDArray[np.int64], spacing: float, count: int) -> tuple[int, int]:
    """From the first to the last of the occupied voxels, with the margin, inside 0..count."""
    margin = int(np.ceil(BODY_MARGIN_MM / spacing))
    return max(0, int(occupied[0]) - margin), min(count, int(occupied[-1]) + 1 + margin)
