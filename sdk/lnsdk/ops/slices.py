"""From HU voxels to the network's images: resampling with the window, grouping of slices, and the box of the body."""

from collections.abc import Sequence
from typing import TypeAlias

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

Ranges: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Half-open index ranges along z, y, x."""

Axis: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""For each output sample of an axis: the voxel before it, the voxel after it, and the weight of the latter."""


def resample_window(
    voxels: NDArray[np.int16],
    spacing: Sequence[float],
    out_spacing: Sequence[float],
    window: tuple[float, float] = WINDOW,
    dtype: DTypeLike = np.float32,
    crop: Ranges | None = None,
    out: NDArray[np.float32] | NDArray[np.float16] | None = None,
) -> NDArray[np.float32] | NDArray[np.float16]:
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
        Type of the output; ignored when ``out`` is given.
    crop : ((z0, z1), (y0, y1), (x0, x1)), optional
        Half-open ranges of output indices to compute, inside the output. A part asked for alone has bitwise the values
        that it has in the whole.
    out : ndarray, C-contiguous float32 or float16, optional
        Where to write the output; must have its shape.

    Returns
    -------
    ndarray, shape (z, y, x)
        0 to 255; ``out`` itself when it was given.

    Raises
    ------
    TypeError
        When voxels are not int16, or dtype or out's type is neither float32 nor float16.
    ValueError
        When a shape, spacing, window or crop is wrong.
    """
    _require_voxels(voxels)
    shape = grid_shape(voxels.shape, spacing, out_spacing)
    ranges = crop if crop is not None else ((0, shape[0]), (0, shape[1]), (0, shape[2]))
    _require_ranges(ranges, shape)
    target = _output(out, tuple(stop - start for start, stop in ranges), dtype)
    low, high = _require_window(window)

    ratios = [float(new) / float(old) for new, old in zip(out_spacing, spacing, strict=True)][::-1]
    axes = [_axis(*each) for each in zip(ranges, ratios, voxels.shape, strict=True)]
    levels = (np.float32(low), np.float32(high), np.float32(255 / (high - low)))
    source = np.ascontiguousarray(voxels)
    RESAMPLE.compile()
    columns = target.shape[2]

    def resample_rows(start: int, stop: int) -> None:
        if target.dtype == np.float32:
            RESAMPLE(source, axes[0], axes[1], axes[2], levels, target.reshape(-1, columns)[start:stop], start)
        else:
            _resample_rows_as_half(source, axes, levels, target.reshape(-1, columns), start, stop)

    if target.size:
        threads.over_range(resample_rows, target.shape[0] * target.shape[1], max(1, SMALLEST_PART // columns))
    return target


def grid_shape(
    shape: tuple[int, ...], spacing: Sequence[float], out_spacing: Sequence[float]
) -> tuple[int, int, int]:
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


def _require_voxels(voxels: NDArray[np.int16]) -> None:
    if not isinstance(voxels, np.ndarray) or voxels.dtype != np.int16:
        raise TypeError(f"voxels must be an int16 array of HU, got {getattr(voxels, 'dtype', type(voxels).__name__)}")
    if voxels.ndim != 3 or 0 in voxels.shape:
        raise ValueError(f"voxels must have shape (z, y, x) with at least one voxel, got {voxels.shape}")


def _require_ranges(ranges: Ranges, shape: tuple[int, int, int]) -> None:
    if len(ranges) != 3 or any(len(each) != 2 for each in ranges):
        raise ValueError(f"crop must be ((z0, z1), (y0, y1), (x0, x1)), got {ranges}")
    for name, (start, stop), count in zip("zyx", ranges, shape, strict=True):
        if not 0 <= start <= stop <= count:
            raise ValueError(f"crop along {name} must lie inside 0..{count}, got {start}..{stop}")


def _require_window(window: tuple[float, float]) -> tuple[float, float]:
    low, high = window
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"window must be two finite HU, the lower first, got {window}")
    return float(low), float(high)


def _output(
    out: NDArray[np.float32] | NDArray[np.float16] | None, shape: tuple[int, ...], dtype: DTypeLike
) -> NDArray[np.float32] | NDArray[np.float16]:
    kind = np.dtype(dtype) if out is None else out.dtype
    if kind not in (np.float32, np.float16):
        raise TypeError(f"the output must be float32 or float16, got {kind}")
    if out is None:
        return np.empty(shape, kind)
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


def _resample_rows_as_half(
    source: NDArray[np.int16],
    axes: list[Axis],
    levels: tuple[np.float32, np.float32, np.float32],
    out: NDArray[np.float16] | NDArray[np.float32],
    start: int,
    stop: int,
) -> None:
    """Rows of the output through a small float32 buffer: numba has no float16 on CPUs, NumPy converts it."""
    step = max(1, SMALLEST_PART // out.shape[1])
    buffer = np.empty((min(step, stop - start), out.shape[1]), np.float32)
    for row in range(start, stop, step):
        part = buffer[: min(step, stop - row)]
        RESAMPLE(source, axes[0], axes[1], axes[2], levels, part, row)
        out[row : row + len(part)] = part


def group_slices(
    grid: NDArray[np.floating], centers: ArrayLike, images: int = 3, channels: int = 3
) -> NDArray[np.floating]:
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
        A read-only view of the grid where the centres are evenly spaced and no slice is repeated at an end, else a copy.

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
    if chosen.ndim != 1 or (len(chosen) and not (0 <= chosen.min() and chosen.max() < len(grid))):
        raise ValueError(f"centers must be a list of slices in 0..{len(grid) - 1}, got {centers}")
    for name, value in (("images", images), ("channels", channels)):
        if _arguments.positive_integer(value, name) % 2 == 0:
            raise ValueError(f"{name} must be odd, so that the centre slice lies in the middle, got {value}")

    first = -(images // 2) * channels - channels // 2
    slices = chosen[:, None] + np.arange(first, first + images * channels)
    step = int(chosen[1] - chosen[0]) if len(chosen) > 1 else 1
    if len(chosen) and 0 <= slices.min() and slices.max() < len(grid) and bool((np.diff(chosen) == step).all()):
        along_z, along_y, along_x = grid.strides
        return as_strided(
            grid[slices[0, 0] :],
            (len(chosen), images, channels, *grid.shape[1:]),
            (step * along_z, channels * along_z, along_z, along_y, along_x),
            writeable=False,
        )
    return grid[slices.clip(0, len(grid) - 1).reshape(-1, images, channels)]


BODY_HU = -400
"""Between lung or fat and air: above it lie soft tissue, fat and bone."""

BODY_SAMPLE_MM = 4.0
"""Distance of the samples, along each axis, that the body is searched in."""

BODY_THICKNESS = 3
"""In samples: what is thinner in the axial plane (table, tubes, streaks) is no body."""

BODY_MARGIN_MM = 8.0
"""Added around the body: the skin lies between samples."""


def body_box(voxels: NDArray[np.int16], spacing: Sequence[float]) -> Ranges | None:
    """Find the part of each slice that the body occupies, the same for all slices.

    The volume is sampled every 4 mm; in each axial slice, what is above -400 HU and at least 3 samples thick both ways is
    body. Where nothing is that thick, whatever is above -400 HU is.

    Parameters
    ----------
    voxels : ndarray of int16, shape (z, y, x)
        HU.
    spacing : sequence of three floats
        Distance between voxels along x, y, z in mm.

    Returns
    -------
    ((z0, z1), (y0, y1), (x0, x1)) or None
        Half-open voxel ranges: all of z, and of y and x the body with a margin of 8 mm. None when every voxel is air.

    Raises
    ------
    TypeError
        When voxels are not int16.
    ValueError
        When a shape or spacing is wrong.
    """
    _require_voxels(voxels)
    if len(spacing) != 3:
        raise ValueError(f"spacing must be x, y, z in mm, got {spacing}")
    steps = [max(1, int(BODY_SAMPLE_MM / _arguments.positive(each, "spacing"))) for each in spacing][::-1]
    tissue = voxels[:: steps[0], :: steps[1], :: steps[2]] > BODY_HU
    body = _opened(tissue, BODY_THICKNESS).any(axis=0)
    if not body.any():
        steps = [1, 1, 1]
        body = (voxels > BODY_HU).any(axis=0)
        if not body.any():
            return None
    y_range = _range_of(body.any(axis=1), steps[1], float(spacing[1]), voxels.shape[1])
    x_range = _range_of(body.any(axis=0), steps[2], float(spacing[0]), voxels.shape[2])
    return (0, len(voxels)), y_range, x_range


def _opened(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """The mask less everything in its last two axes that a square of this size does not fit into; edges extend it."""
    half = size // 2
    padded = np.pad(mask, ((0, 0), (2 * half, 2 * half), (2 * half, 2 * half)), mode="edge")
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


def _range_of(occupied: NDArray[np.bool_], step: int, spacing: float, count: int) -> tuple[int, int]:
    """Voxels from the first to the last occupied sample, with the margin, inside 0..count."""
    samples = np.flatnonzero(occupied)
    margin = int(np.ceil(BODY_MARGIN_MM / spacing))
    return max(0, int(samples[0]) * step - margin), min(count, int(samples[-1]) * step + 1 + margin)
