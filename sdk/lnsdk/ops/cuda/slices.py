"""From HU voxels to the network's images, on the device: :mod:`lnsdk.ops.slices` once more."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numba import cuda
from numpy.typing import ArrayLike, NDArray

from lnsdk.ops.cuda import _device
from lnsdk.ops.cuda._arithmetic import dadd, ddiv, dmul, fadd, fmul, fsub, greater, lesser
from lnsdk.ops.cuda._device import DeviceArray, Kernel, OnDevice, Stream, blocks
from lnsdk.ops.slices import (
    AT_FIRST,
    PLACES,
    WINDOW,
    Ranges,
    _checked_centers,
    _in_voxels,
    _levels,
    _require_ranges,
    grid_shape,
    require_voxels,
)

RESAMPLE_BLOCK = (32, 8)
"""Threads along x and y: a warp writes 32 neighbours of a row."""

RESAMPLE_SLICES = 16
"""Slices that a thread computes: its place along x and y, in double, is computed once for all of them."""

COPY_BLOCK = 256
"""Threads along a slice that is copied."""

LARGEST_GRID = 65535
"""Blocks that CUDA allows along y."""

Place: TypeAlias = tuple[Any, Any, np.float32]
"""The voxel before an output sample, the voxel after it, and the weight of the latter."""


def resample_window(
    voxels: OnDevice,
    spacing: Sequence[float],
    out_spacing: Sequence[float],
    window: tuple[float, float] = WINDOW,
    dtype: type[np.float32 | np.float16] = np.float32,
    crop: Ranges | None = None,
    out: OnDevice | None = None,
    origin: Sequence[float] = AT_FIRST,
    *,
    stream: Stream = 0,
) -> DeviceArray:
    """Resample a volume on the device linearly to another spacing and map a window of HU to 0..255, in one pass.

    The values are bit for bit those of :func:`lnsdk.ops.resample_window`. The limit is memory: 2 bytes read per voxel
    and 4 (float32) or 2 (float16) written per sample; the eight voxels around a sample come from the caches.

    Parameters
    ----------
    voxels : int16 on the device, shape (z, y, x), C-contiguous
        HU.
    spacing, out_spacing : sequence of three floats
        Distance between samples along x, y, z in mm, of the volume and of the output.
    window : (float, float)
        HU that become 0 and 255; values outside are clipped.
    dtype : float32 or float16
        Type of the output.
    crop : ((z0, z1), (y0, y1), (x0, x1)), optional
        Half-open ranges of output indices to compute, inside the output.
    out : dtype on the device, C-contiguous, optional
        Where to write the output; must have its shape and type.
    origin : sequence of three floats
        Where the output's first sample lies, in mm along x, y, z from the volume's first sample.
    stream : numba's stream or a handle
        Where the work is queued.

    Returns
    -------
    device array of dtype, shape (z, y, x)
        0 to 255; ``out`` itself when it was given.

    Raises
    ------
    BackendUnavailable
        When there is no GPU, driver or CUDA compiler; the message says which.
    TypeError
        When voxels are not int16 on the device, dtype is neither float32 nor float16, or out is not of that type.
    ValueError
        When a shape, spacing, window, crop or origin is wrong, or an array is not C-contiguous.
    """
    stream = _device.stream_of(stream)
    source = _device.array(voxels, "voxels", stream)
    require_voxels(source)
    shape = grid_shape(tuple(source.shape), spacing, out_spacing, origin)
    ranges = crop if crop is not None else ((0, shape[0]), (0, shape[1]), (0, shape[2]))
    _require_ranges(ranges, shape)
    levels = _levels(window)
    kind = np.dtype(dtype).name
    if kind not in RESAMPLE:
        raise TypeError(f"dtype must be float32 or float16, got {kind}")
    result, grid = _device.output(out, "out", [stop - start for start, stop in ranges], kind, stream)
    if grid.size:
        starts = tuple(start for start, _ in ranges)
        ratios, shifts = _in_voxels(spacing, out_spacing, origin)
        depth, height, width = grid.shape
        counts = (
            blocks(width, RESAMPLE_BLOCK[0]),
            blocks(height, RESAMPLE_BLOCK[1]),
            blocks(depth, RESAMPLE_SLICES),
        )
        RESAMPLE[kind].launch(counts, RESAMPLE_BLOCK, stream, source, starts, ratios, shifts, levels, grid)
    return result


def _place_of(index: int, ratio: float, shift: float, count: int) -> Place:
    """Where an output sample lies between the voxels of an axis: the arithmetic of :func:`lnsdk.ops.slices._axis`."""
    exact = dadd(dmul(np.float64(index), ratio), shift)
    position = lesser(ddiv(np.float64(math.floor(dadd(dmul(exact, PLACES), 0.5))), PLACES), np.float64(count - 1))
    before = np.int64(position)
    return before, lesser(before + 1, np.int64(count - 1)), np.float32(dadd(position, -np.float64(before)))


def _between(a: np.float32, b: np.float32, weight: np.float32) -> Any:
    return fadd(a, fmul(weight, fsub(b, a)))


place_of, between = cuda.jit(device=True)(_place_of), cuda.jit(device=True)(_between)


def _in_plane(voxels: NDArray[np.int16], along_z: Place, along_y: Place, x: int) -> Any:
    """HU at a place along z and y, in a column of voxels."""
    z0, z1, zw = along_z
    y0, y1, yw = along_y
    front = between(np.float32(voxels[z0, y0, x]), np.float32(voxels[z1, y0, x]), zw)
    back = between(np.float32(voxels[z0, y1, x]), np.float32(voxels[z1, y1, x]), zw)
    return between(front, back, yw)


in_plane = cuda.jit(device=True)(_in_plane)


def _resample(
    voxels: NDArray[np.int16],
    starts: tuple[int, int, int],
    ratios: tuple[float, float, float],
    shifts: tuple[float, float, float],
    levels: tuple[np.float32, np.float32, np.float32],
    out: NDArray[Any],
) -> None:
    """Fill ``RESAMPLE_SLICES`` slices of the output per block; a thread goes along z at its own x and y."""
    z_before = cuda.shared.array(RESAMPLE_SLICES, np.int64)
    z_after = cuda.shared.array(RESAMPLE_SLICES, np.int64)
    z_weight = cuda.shared.array(RESAMPLE_SLICES, np.float32)
    x, y = cuda.grid(2)
    first = cuda.blockIdx.z * RESAMPLE_SLICES
    thread = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    for k in range(thread, RESAMPLE_SLICES, cuda.blockDim.x * cuda.blockDim.y):
        z_before[k], z_after[k], z_weight[k] = place_of(starts[0] + first + k, ratios[0], shifts[0], voxels.shape[0])
    cuda.syncthreads()
    if x >= out.shape[2] or y >= out.shape[1]:
        return
    along_y = place_of(starts[1] + y, ratios[1], shifts[1], voxels.shape[1])
    x0, x1, xw = place_of(starts[2] + x, ratios[2], shifts[2], voxels.shape[2])
    low, high, scale = levels
    for k in range(lesser(RESAMPLE_SLICES, out.shape[0] - first)):
        along_z = (z_before[k], z_after[k], z_weight[k])
        hu = between(in_plane(voxels, along_z, along_y, x0), in_plane(voxels, along_z, along_y, x1), xw)
        out[first + k, y, x] = fmul(fsub(lesser(greater(hu, low), high), low), scale)


RESAMPLE = {
    name: Kernel(
        _resample,
        "void(int16[:, :, ::1], UniTuple(int64, 3), UniTuple(float64, 3), UniTuple(float64, 3), UniTuple(float32, 3), "
        f"{name}[:, :, ::1])",
    )
    for name in ("float32", "float16")
}


def group_slices(
    grid: OnDevice,
    centers: ArrayLike,
    images: int = 3,
    channels: int = 3,
    out: OnDevice | None = None,
    *,
    stream: Stream = 0,
) -> DeviceArray:
    """Collect the 2.5D input of each centre slice on the device, with the values of :func:`lnsdk.ops.group_slices`.

    Always a copy, as the network needs it: its limit is memory, images x channels slices written per centre. Each slice
    is read as often; neighbouring blocks copy the same part of it, so that most reads are answered by the cache.
    The centres stay on the host: each run of evenly spaced ones is one launch.

    Parameters
    ----------
    grid : on the device, shape (z, y, x), C-contiguous
        Any type.
    centers : array_like of integers, shape (N,), on the host
        Indices of slices of the grid.
    images, channels : int
        Images per centre and slices per image, both odd.
    out : type of the grid, on the device, C-contiguous, optional
        Where to write the output; must have its shape.
    stream : numba's stream or a handle
        Where the work is queued.

    Returns
    -------
    device array, shape (N, images, channels, y, x), type of the grid
        ``out`` itself when it was given.

    Raises
    ------
    BackendUnavailable
        When there is no GPU, driver or CUDA compiler; the message says which.
    TypeError
        When the grid is not on the device, centers, images or channels are not integers, or out has another type.
    ValueError
        When a shape is wrong, a centre lies outside the grid, images or channels are even, or an array is not
        C-contiguous.
    """
    stream = _device.stream_of(stream)
    source = _device.array(grid, "grid", stream)
    chosen = _checked_centers(tuple(source.shape), centers, images, channels)
    depth, height, width = source.shape
    result, groups = _device.output(out, "out", (len(chosen), images, channels, height, width), source.dtype, stream)
    if groups.size:
        per_center, size = images * channels, height * width
        bytes_at_once = math.gcd(
            size * source.dtype.itemsize, _device.address(source), _device.address(groups), max(COPY)
        )
        slices = source.reshape(depth, size).view(f"u{bytes_at_once}")
        planes = groups.reshape(len(chosen) * per_center, size).view(f"u{bytes_at_once}")
        parts = min(blocks(slices.shape[1], COPY_BLOCK), LARGEST_GRID)
        for begin, count, step in _even_runs(chosen.tolist()):
            first = chosen[begin] - images // 2 * channels - channels // 2
            COPY[bytes_at_once].launch(
                (count * per_center, parts),
                COPY_BLOCK,
                stream,
                slices,
                first,
                step,
                per_center,
                begin * per_center,
                planes,
            )
    return result


def _even_runs(values: list[int]) -> list[tuple[int, int, int]]:
    """Cut a list into runs of one step, each as (position of its first value, length, step)."""
    runs, begin = [], 0
    while begin < len(values):
        end, step = begin + 1, 1
        if end < len(values):
            step = values[end] - values[begin]
        while end < len(values) and values[end] - values[end - 1] == step:
            end += 1
        runs.append((begin, end - begin, step))
        begin = end
    return runs


def _copy_slices(
    slices: NDArray[Any], first: int, step: int, per_center: int, first_plane: int, planes: NDArray[Any]
) -> None:
    """Copy one slice into each plane: blocks lie along planes first, so that those of one centre follow each other."""
    plane = cuda.blockIdx.x
    z = first + plane // per_center * step + plane % per_center
    z = lesser(greater(z, 0), slices.shape[0] - 1)
    start = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    for word in range(start, slices.shape[1], cuda.gridDim.y * cuda.blockDim.x):
        planes[first_plane + plane, word] = slices[z, word]


COPY = {
    size: Kernel(_copy_slices, f"void(uint{8 * size}[:, ::1], int64, int64, int64, int64, uint{8 * size}[:, ::1])")
    for size in (1, 2, 4, 8)
}
"""By the bytes that a thread moves at once: as many as size and addresses of the slices allow."""
