"""From HU voxels to the network's images: resampling with the window, and grouping of slices."""

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lnsdk import threads
from lnsdk.ops import _arguments
from lnsdk.ops._jit import Kernel

WINDOW = (-1024.0, 3071.0)
"""HU that map to 0 and to 255 (LENS, section VI-A)."""

SAMPLE_TOLERANCE = 1e-6
"""In samples: so little past the last voxel still counts as on it, so that (n - 1) x 0.8 / 0.8 is n - 1 again."""

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
) -> NDArray[np.float32]: ...
def resample_window(
    voxels: NDArray[np.int16],
    spacing: Sequence[float],
    out_spacing: Sequence[float],
    window: tuple[float, float] = WINDOW,
    dtype: DTypeLike = np.float32,
    crop: Ranges | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Resample a volume linearly to another spacing and map a window of HU to 0..255, in one pass.

    Output sample i along an axis lies at the volume's first sample + i x out_spacing; there are
    floor((n - 1) x spacing / out_spacing) + 1 of them. HU are interpolated first (along z, then y, then x, in float32),
    then clipped to the window, then scaled: ``(clip(hu, low, high) - low) * (255 / (high - low))``.

    Parameters
    ----------
    voxels : ndarray of int16, shape (z, y, x)
        HU. Copied first when not C-contiguous.
    spacing, out_spacing : sequence of three floats
        Distance between samples along x, y, z in mm, of the volume and of the output.
    window : (float, float)
        HU that become 0 and 255; values outside are clipped.
    dtype : float32 or float16
        Type of the output.
    crop : ((z0, z1), (y0, y1), (x0, x1)), optional
        Half-open ranges of output indices to compute, inside the output. A part asked for alone has bitwise the values
        that it has in the whole.
    out : ndarray of dtype, C-contiguous, optional
        Where to write the output; must have its shape and type.

    Returns
    -------
    ndarray of dtype, shape (z, y, x)
        0 to 255; ``out`` itself when it was given.

    Raises
    ------
    TypeError
        When voxels are not int16, dtype is neither float32 nor float16, or out is not of that type.
    ValueError
        When a shape, spacing, window or crop is wrong.
    """
    require_voxels(voxels)
    shape = grid_shape(voxels.shape, spacing, out_spacing)
    ranges = crop if crop is not None else ((0, shape[0]), (0, shape[1]), (0, shape[2]))
    _require_ranges(ranges, shape)
    levels = _levels(window)
    grid = _output(out, tuple(stop - start for start, stop in ranges), np.dtype(dtype))

    source = np.ascontiguousarray(voxels)
    ratios = [new / old for new, old in zip(out_spacing, spacing, strict=True)][::-1]
    z_axis, y_axis, x_axis = (_axis(*each) for each in zip(ranges, ratios, voxels.shape, strict=True))
    rows = grid.reshape(len(grid) * grid.shape[1], grid.shape[2])
    step = max(1, SMALLEST_PART // max(1, rows.shape[1]))
    RESAMPLE.compile()

    def fill(start: int, stop: int) -> None:
        if rows.dtype == np.float32:
            RESAMPLE(source, z_axis, y_axis, x_axis, levels, rows[start:stop], start)
            return
        buffer = np.empty((min(step, stop - start), rows.shape[1]), np.float32)  # numba has no float16, NumPy converts
        for row in range(start, stop, step):
            part = buffer[: stop - row]
            RESAMPLE(source, z_axis, y_axis, x_axis, levels, part, row)
            rows[row : row + len(part)] = part

    if rows.size:
        threads.over_range(fill, len(rows), step)
    return grid


def grid_shape(shape: tuple[int, ...], spacing: Sequence[float], out_spacing: Sequence[float]) -> tuple[int, int, int]:
    """Shape (z, y, x) of the whole output of :func:`resample_window` for a volume of this shape (z, y, x)."""
    if len(spacing) != 3 or len(out_spacing) != 3:
        raise ValueError(f"spacing and out_spacing must be x, y, z in mm, got {spacing} and {out_spacing}")
    counts = [
        int(
            (count - 1) * _arguments.positive(old, "spacing") / _arguments.positive(new, "out_spacing")
            + SAMPLE_TOLERANCE
        )
        + 1
        for count, old, new in zip(shape[::-1], spacing, out_spacing, strict=True)
    ]
    return counts[2], counts[1], counts[0]


def require_voxels(voxels: NDArray[np.int16]) -> None:
    """Refuse what is not an int16 volume with at least one voxel."""
    if voxels.dtype != np.int16:
        raise TypeError(f"voxels must be int16 HU, got {voxels.dtype}")
    if voxels.ndim != 3 or 0 in voxels.shape:
        raise ValueError(f"voxels must have shape (z, y, x) with at least one voxel, got {voxels.shape}")


def _require_ranges(ranges: Ranges, shape: tuple[int, int, int]) -> None:
    for name, (start, stop), count in zip("zyx", ranges, shape, strict=True):
        if not 0 <= start <= stop <= count:
            raise ValueError(f"crop along {name} must lie inside 0..{count}, got {start}..{stop}")


def _levels(window: tuple[float, float]) -> tuple[np.float32, np.float32, np.float32]:
    """Lower and upper HU of the window, and the grey levels per HU."""
    low, high = window
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"window must be two finite HU, the lower first, got {window}")
    return np.float32(low), np.float32(high), np.float32(255 / (high - low))


def _output(out: NDArray[Any] | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype not in (np.float32, np.float16):
        raise TypeError(f"dtype must be float32 or float16, got {dtype}")
    if out is None:
        return np.empty(shape, dtype)
    if out.dtype != dtype:
        raise TypeError(f"out must be {dtype} like the output, got {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out must have the shape of the output, {shape}, got {out.shape}")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError("out must be C-contiguous and writable")
    return out


def _axis(span: tuple[int, int], ratio: float, count: int) -> Axis:
    """Where the output samples of a range lie between the ``count`` voxels, ``ratio`` voxels apart."""
    positions = np.minimum(np.arange(*span) * ratio, count - 1)
    before = positions.astype(np.int64)
    after = np.minimum(before + 1, count - 1)
    return before, after, (positions - before).astype(np.float32)


def _resample_rows(
    voxels: NDArray[np.int16],
    z_axis: Axis,
    y_axis: Axis,
    x_axis: Axis,
    levels: tuple[np.float32, np.float32, np.float32],
    out: NDArray[np.float32],
    first_row: int,
) -> None:
    """Fill ``out`` with rows of the output, counted over z and y, the first of them being ``first_row``."""
    low, high, scale = levels
    rows_per_slice = len(y_axis[0])
    x_before, x_after, x_weight = x_axis
    first, last = x_before[0], x_after[-1] + 1
    line = np.empty(last, np.float32)
    for row in range(len(out)):
        k = (first_row + row) // rows_per_slice
        j = (first_row + row) % rows_per_slice
        z0, z1, zw = z_axis[0][k], z_axis[1][k], z_axis[2][k]
        y0, y1, yw = y_axis[0][j], y_axis[1][j], y_axis[2][j]
        a, b, c, d = voxels[z0, y0], voxels[z1, y0], voxels[z0, y1], voxels[z1, y1]
        for i in range(first, last):
            front = np.float32(a[i]) + zw * (np.float32(b[i]) - np.float32(a[i]))
            back = np.float32(c[i]) + zw * (np.float32(d[i]) - np.float32(c[i]))
            line[i] = front + yw * (back - front)
        for i in range(len(x_weight)):
            left = line[x_before[i]]
            value = left + x_weight[i] * (line[x_after[i]] - left)
            out[row, i] = (min(max(value, low), high) - low) * scale


RESAMPLE = Kernel(
    _resample_rows,
    "void(Array(int16, 3, 'C', True), {axis}, {axis}, {axis}, UniTuple(float32, 3), float32[:, ::1], int64)".format(
        axis="Tuple((Array(int64, 1, 'C', True), Array(int64, 1, 'C', True), Array(float32, 1, 'C', True)))"
    ),
)


def group_slices(grid: NDArray[Scalar], centers: ArrayLike, images: int = 3, channels: int = 3) -> NDArray[Scalar]:
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

    Returns
    -------
    ndarray, shape (N, images, channels, y, x), type of the grid
        A read-only view of the grid when the centres are evenly spaced and no end is repeated, else a copy.

    Raises
    ------
    TypeError
        When centers, images or channels are not integers.
    ValueError
        When a shape is wrong, a centre lies outside the grid, or images or channels are even.
    """
    if grid.ndim != 3 or len(grid) == 0:
        raise ValueError(f"grid must have shape (z, y, x) with at least one slice, got {grid.shape}")
    chosen = _arguments.int64s(centers, "centers")
    if chosen.ndim != 1 or (len(chosen) and (chosen.min() < 0 or chosen.max() >= len(grid))):
        raise ValueError(f"centers must be a list of slices in 0..{len(grid) - 1}, got {chosen.tolist()}")
    for name, value in (("images", images), ("channels", channels)):
        if _arguments.positive_integer(value, name) % 2 == 0:
            raise ValueError(f"{name} must be odd, so that the centre slice lies in the middle, got {value}")

    first = -(images // 2) * channels - channels // 2
    slices = chosen[:, None] + np.arange(first, first + images * channels)
    step = int(chosen[1] - chosen[0]) if len(chosen) > 1 else 1
    clamped = slices.clip(0, len(grid) - 1)
    if len(chosen) == 0 or not np.array_equal(slices, clamped) or (np.diff(chosen) != step).any():
        copies: NDArray[Scalar] = grid[clamped.reshape(-1, images, channels)]
        return copies
    along_z, along_y, along_x = grid.strides
    return as_strided(
        grid[slices[0, 0] :],
        (len(chosen), images, channels, *grid.shape[1:]),
        (step * along_z, channels * along_z, along_z, along_y, along_x),
        writeable=False,
    )
