"""From HU voxels to the network's images: resampling with the window, and grouping of slices."""

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lnsdk import _C, threads
from lnsdk.ops import _arguments

WINDOW = (-1024.0, 3071.0)
"""HU that map to 0 and to 255 (LENS, section VI-A)."""

AT_FIRST = (0.0, 0.0, 0.0)
"""Origin of an output that begins at the volume's first sample."""

NARROWEST_WINDOW = 0.1
"""HU: narrower windows would turn the rounding of their ends into grey levels."""

SAMPLE_TOLERANCE = 1e-6
"""In samples: so little past the last voxel still counts as on it, so that (n - 1) x 0.8 / 0.8 is n - 1 again."""

PLACES = 1e6
"""Parts of a voxel to which places are rounded, so that a sample between the same voxels has the same value wherever
counting began."""

SMALLEST_PART = 1 << 16
"""Voxels of the output below which a second thread is not worth starting."""

Scalar = TypeVar("Scalar", bound=np.generic)

Ranges: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Half-open index ranges along z, y, x."""

Axis: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""For each output sample of an axis: the voxel before it, the voxel after it, and the weight of the latter."""


@overload
def resample_window(
    voxels: NDArray[np.int16],
    spacing: Sequence[float],
    out_spacing: Sequence[float],
    window: tuple[float, float] = ...,
    *,
    dtype: type[np.float16],
    crop: Ranges | None = ...,
    out: NDArray[np.float16] | None = ...,
    origin: Sequence[float] = ...,
) -> NDArray[np.float16]: ...
@overload
def resample_window(
    voxels: NDArray[np.int16],
    spacing: Sequence[float],
    out_spacing: Sequence[float],
    window: tuple[float, float] = ...,
    dtype: type[np.float32] = ...,
    crop: Ranges | None = ...,
    out: NDArray[np.float32] | None = ...,
    origin: Sequence[float] = ...,
) -> NDArray[np.float32]: ...
def resample_window(
    voxels: NDArray[np.int16],
    spacing: Sequence[float],
    out_spacing: Sequence[float],
    window: tuple[float, float] = WINDOW,
    dtype: DTypeLike = np.float32,
    crop: Ranges | None = None,
    out: NDArray[Any] | None = None,
    origin: Sequence[float] = AT_FIRST,
) -> NDArray[Any]:
    """Resample a volume linearly to another spacing and map a window of HU to 0..255, in one pass.

    Output sample i along an axis lies at the volume's first sample + origin + i x out_spacing; there are
    floor(((n - 1) x spacing - origin) / out_spacing) + 1 of them. HU are interpolated first (along z, then y, then x,
    in float32), then clipped to the window, then scaled: ``(clip(hu, low, high) - low) * (255 / (high - low))``.

    Parameters
    ----------
    voxels : ndarray of int16, shape (z, y, x)
        HU. Copied first when the voxels of a row do not lie side by side.
    spacing, out_spacing : sequence of three floats
        Distance between samples along x, y, z in mm, of the volume and of the output.
    window : (float, float)
        HU that become 0 and 255; values outside are clipped.
    dtype : float32 or float16
        Type of the output.
    crop : ((z0, z1), (y0, y1), (x0, x1)), optional
        Half-open ranges of output indices to compute, inside the output. A part asked for alone has bitwise the values
        that it has in the whole. Only the voxels between which it lies are read: a slice of the output can be had as
        soon as the two slices around it have arrived.
    out : ndarray of dtype, optional
        Where to write the output; must have its shape and type, and the samples of a row side by side.
    origin : sequence of three floats
        Where the output's first sample lies, in mm along x, y, z from the volume's first sample: 0 or more, and not
        beyond the volume's last.

    Returns
    -------
    ndarray of dtype, shape (z, y, x)
        0 to 255; ``out`` itself when it was given.

    Raises
    ------
    TypeError
        When voxels are not int16, dtype is neither float32 nor float16, or out is not of that type.
    ValueError
        When a shape, spacing, window, crop or origin is wrong.
    """
    require_voxels(voxels)
    shape = grid_shape(voxels.shape, spacing, out_spacing, origin)
    ranges = crop if crop is not None else ((0, shape[0]), (0, shape[1]), (0, shape[2]))
    _require_ranges(ranges, shape)
    low, high, scale = map(float, _levels(window))
    shape_out = tuple(stop - start for start, stop in ranges)
    grid = _arguments.output(out, shape_out, _output_type(dtype), (voxels,), rows_only=True)
    if grid.size == 0:
        return grid

    ratios, shifts = _in_voxels(spacing, out_spacing, origin)
    z_axis, y_axis, x_axis = (_axis(*each) for each in zip(ranges, ratios, shifts, voxels.shape, strict=True))
    source = voxels if _arguments.has_contiguous_rows(voxels) else np.ascontiguousarray(voxels)
    target = grid.view(np.uint16) if grid.dtype == np.float16 else grid
    threads.over_range(
        lambda start, stop: _C.resample_rows(source, z_axis, y_axis, x_axis, (low, high, scale), target, start, stop),
        grid.shape[1],
        max(1, SMALLEST_PART // (grid.shape[0] * grid.shape[2])),
    )
    return grid


def _output_type(dtype: DTypeLike) -> np.dtype[Any]:
    if np.dtype(dtype) not in (np.float32, np.float16):
        raise TypeError(f"dtype must be float32 or float16, got {np.dtype(dtype)}")
    return np.dtype(dtype)


def grid_shape(
    shape: tuple[int, ...], spacing: Sequence[float], out_spacing: Sequence[float], origin: Sequence[float] = AT_FIRST
) -> tuple[int, int, int]:
    """Shape (z, y, x) of the whole output of :func:`resample_window` for a volume of this shape (z, y, x)."""
    if not len(spacing) == len(out_spacing) == len(origin) == 3:
        raise ValueError(
            f"spacing, out_spacing and origin must be x, y, z in mm, got {spacing}, {out_spacing} and {origin}"
        )
    counts = []
    for count, old, new, start in zip(shape[::-1], spacing, out_spacing, origin, strict=True):
        length = (count - 1) * _arguments.positive(old, "spacing")
        samples = (length - start) / _arguments.positive(new, "out_spacing") + SAMPLE_TOLERANCE
        if not (start >= 0 and samples >= 0):
            raise ValueError(f"origin must lie within the volume, 0 to {length:g} mm along each axis, got {origin}")
        counts.append(int(samples) + 1)
    return counts[2], counts[1], counts[0]


def _in_voxels(
    spacing: Sequence[float], out_spacing: Sequence[float], origin: Sequence[float]
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Distance of the output's samples and place of the first one, in voxels along z, y, x."""
    x, y, z = ((new / old, start / old) for old, new, start in zip(spacing, out_spacing, origin, strict=True))
    return (z[0], y[0], x[0]), (z[1], y[1], x[1])


def require_voxels(voxels: NDArray[np.int16]) -> None:
    """Refuse what is not an int16 volume with at least one voxel."""
    if getattr(voxels, "dtype", None) != np.int16:
        raise TypeError(f"voxels must be int16 HU, got {getattr(voxels, 'dtype', type(voxels).__name__)}")
    if voxels.ndim != 3 or 0 in voxels.shape:
        raise ValueError(f"voxels must have shape (z, y, x) with at least one voxel, got {voxels.shape}")


def _require_ranges(ranges: Ranges, shape: tuple[int, int, int]) -> None:
    if len(ranges) != 3:
        raise ValueError(f"crop must be ranges along z, y and x, got {ranges}")
    for name, (start, stop), count in zip("zyx", ranges, shape, strict=True):
        if not 0 <= start <= stop <= count:
            raise ValueError(f"crop along {name} must lie inside 0..{count}, got {start}..{stop}")


def _levels(window: tuple[float, float]) -> tuple[np.float32, np.float32, np.float32]:
    """Lower and upper HU of the window, and the grey levels per HU."""
    low, high = window
    if not (np.isfinite(low) and np.isfinite(high) and np.float32(low) < np.float32(high)):
        raise ValueError(f"window must be two finite HU, the lower first, got {window}")
    if high - low < NARROWEST_WINDOW:
        raise ValueError(f"window must be at least {NARROWEST_WINDOW} HU wide, got {window}")
    return np.float32(low), np.float32(high), np.float32(255 / (high - low))


def _axis(span: tuple[int, int], ratio: float, shift: float, count: int) -> Axis:
    """Where the output samples of a range lie between the ``count`` voxels: sample i at ``i * ratio + shift``."""
    exact = np.arange(*span) * ratio + shift
    positions = np.minimum(np.floor(exact * PLACES + 0.5) / PLACES, count - 1)
    before = positions.astype(np.int64)
    after = np.minimum(before + 1, count - 1)
    return before, after, (positions - before).astype(np.float32)


def group_slices(
    grid: NDArray[Scalar], centers: ArrayLike, images: int = 3, channels: int = 3, out: NDArray[Scalar] | None = None
) -> NDArray[Scalar]:
    """Collect the 2.5D input of each centre slice: images of neighbouring slices as channels (LENS, section IV-A).

    Image m of centre c holds the slices ``c + (m - images // 2) * channels + (k - channels // 2)`` for the channels k;
    slices beyond the ends are the first and the last slice again.

    Parameters
    ----------
    grid : ndarray, shape (z, y, x)
        Any type.
    centers : array_like of integers, shape (N,)
        Indices of slices of the grid.
    images, channels : int
        Images per centre and slices per image, both odd.
    out : ndarray of the grid's type, shape (N, images, channels, y, x), C-contiguous, optional
        Where to copy the slices, even when a view would do.

    Returns
    -------
    ndarray, shape (N, images, channels, y, x), type of the grid
        A read-only view of the grid when the centres are evenly spaced and no end is repeated, else a copy; ``out``
        itself when it was given.

    Raises
    ------
    TypeError
        When centers, images or channels are not integers, or out is not of the grid's type.
    ValueError
        When a shape is wrong, a centre lies outside the grid, or images or channels are even.
    """
    chosen = _checked_centers(grid.shape, centers, images, channels)
    first = -(images // 2) * channels - channels // 2
    slices = chosen[:, None] + np.arange(first, first + images * channels)
    if out is None and _evenly_inside(slices, len(grid)):
        return _view(grid, slices, images, channels)
    result = _arguments.output(out, (len(chosen), images, channels, *grid.shape[1:]), grid.dtype, (grid,))
    _copy_slices(grid, slices.clip(0, len(grid) - 1).ravel(), result.reshape(slices.size, *grid.shape[1:]))
    return result


def _checked_centers(shape: tuple[int, ...], centers: ArrayLike, images: int, channels: int) -> NDArray[np.int64]:
    """The centres as an array, once they and the numbers of images and channels fit a grid of this shape."""
    if len(shape) != 3 or shape[0] == 0:
        raise ValueError(f"grid must have shape (z, y, x) with at least one slice, got {shape}")
    chosen = _arguments.int64s(centers, "centers")
    if chosen.ndim != 1 or (len(chosen) and (chosen.min() < 0 or chosen.max() >= shape[0])):
        raise ValueError(f"centers must be a list of slices in 0..{shape[0] - 1}, got {chosen.tolist()}")
    for name, value in (("images", images), ("channels", channels)):
        if _arguments.positive_integer(value, name) % 2 == 0:
            raise ValueError(f"{name} must be odd, so that the centre slice lies in the middle, got {value}")
    return chosen


def _evenly_inside(slices: NDArray[np.int64], count: int) -> bool:
    """Whether the rows of slices are evenly spaced, with at least one row, and none lies outside 0..count - 1."""
    if len(slices) == 0 or slices.min() < 0 or slices.max() >= count:
        return False
    return len(slices) < 3 or len(np.unique(np.diff(slices[:, 0]))) == 1


def _view(grid: NDArray[Scalar], slices: NDArray[np.int64], images: int, channels: int) -> NDArray[Scalar]:
    step = int(slices[1, 0] - slices[0, 0]) if len(slices) > 1 else 1
    along_z, along_y, along_x = grid.strides
    return as_strided(
        grid[slices[0, 0] :],
        (len(slices), images, channels, *grid.shape[1:]),
        (step * along_z, channels * along_z, along_z, along_y, along_x),
        writeable=False,
    )


def _copy_slices(grid: NDArray[Scalar], slices: NDArray[np.int64], out: NDArray[Scalar]) -> None:
    """``out[i] = grid[slices[i]]``, several at once; NumPy copies without the GIL."""

    def copy(start: int, stop: int) -> None:
        for index in range(start, stop):
            np.copyto(out[index], grid[slices[index]])

    threads.over_range(copy, len(slices), max(1, SMALLEST_PART // max(1, grid[0].size)))
