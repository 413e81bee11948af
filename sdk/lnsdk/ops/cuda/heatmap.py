"""Vote heat maps on the device: :mod:`lnsdk.ops.heatmap` once more."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from lnsdk.ops import _arguments
from lnsdk.ops.cuda import _device
from lnsdk.ops.cuda._arithmetic import dadd, ddiv, dmul, greater, lesser
from lnsdk.ops.cuda._device import DeviceArray, Kernel, OnDevice, Stream, blocks

VOTE_BLOCK = 256
"""Threads along x."""

VOTE_ROWS = 16
"""Rows that a thread computes: the sum of a row is that of the row above unless a window begins or ends there."""


def vote_heatmap(
    votes: OnDevice,
    patch: int,
    stride: int,
    shape: Sequence[int],
    normalize: bool = False,
    out: OnDevice | None = None,
    *,
    stream: Stream = 0,
) -> DeviceArray:
    """Sum for each pixel the votes of the windows that cover it, bitwise as :func:`lnsdk.ops.vote_heatmap`.

    Its limit is memory, 4 bytes written per pixel, while few windows cover a pixel: their (patch / stride)^2 votes are
    added in double, which most GPUs do 64 times slower than single, once for all pixels of a column from one edge of a
    window to the next.

    Parameters
    ----------
    votes : float32 on the device, shape (rows, cols), C-contiguous
        One finite value per window.
    patch, stride : int
        Side of a window and distance between windows, in pixels.
    shape : (int, int)
        y, x: size of the map in pixels.
    normalize : bool
        Divide by the number of windows that cover the pixel, instead of multiplying by (stride / patch)^2.
    out : float32 on the device, C-contiguous, optional
        Where to write the map; must have its shape.
    stream : numba's stream or a handle
        Where the work is queued.

    Returns
    -------
    device array of float32, shape (y, x)
        0 where no window lies; ``out`` itself when it was given.

    Raises
    ------
    BackendUnavailable
        When there is no GPU, driver or CUDA compiler; the message says which.
    TypeError
        When votes or out are not float32 on the device, or patch or stride no integers.
    ValueError
        When a shape or size is wrong, or an array is not C-contiguous.
    """
    stream = _device.stream_of(stream)
    values = _device.float32(votes, "votes", (None, None), stream)
    side, step = _arguments.positive_integer(patch, "patch"), _arguments.positive_integer(stride, "stride")
    if len(shape) != 2 or any(size < 0 for size in shape):
        raise ValueError(f"shape must be y, x in pixels, got {shape}")
    result, target = _device.output(out, "out", shape, np.float32, stream)
    if target.size:
        counts = (blocks(target.shape[1], VOTE_BLOCK), blocks(target.shape[0], VOTE_ROWS))
        scale = 0.0 if normalize else (step / side) * (step / side)
        windows = values if values.size else target  # a kernel takes no empty array; this one is not read then
        VOTE.launch(counts, VOTE_BLOCK, stream, windows, *values.shape, side, step, scale, target)
    return result


def _vote(
    votes: NDArray[np.float32],
    rows: int,
    columns: int,
    patch: int,
    stride: int,
    scale: float,
    out: NDArray[np.float32],
) -> None:
    """Fill ``VOTE_ROWS`` rows per block; a thread goes down its column. A scale of 0 stands for normalized sums."""
    x = cuda.grid(1)
    if x >= out.shape[1]:
        return
    left = greater(0, (x - patch) // stride + 1)  # windows left..right - 1 cover column x
    right = greater(left, lesser(columns, x // stride + 1))
    most = (patch + stride - 1) // stride  # windows over one pixel along an axis
    down, across = greater(1, lesser(most, rows)), greater(1, lesser(most, columns))
    summed_top, summed_bottom, value = -1, -1, np.float32(0)
    first = cuda.blockIdx.y * VOTE_ROWS
    for y in range(first, lesser(first + VOTE_ROWS, out.shape[0])):
        top = greater(0, (y - patch) // stride + 1)
        bottom = greater(top, lesser(rows, y // stride + 1))
        if top != summed_top or bottom != summed_bottom:
            value = summed(votes, top, bottom, left, right, down, across, scale)
            summed_top, summed_bottom = top, bottom
        out[y, x] = value


def _down_column(votes: NDArray[np.float32], j: int, top: int, bottom: int, group: int) -> Any:
    """Sum a run of one column of windows in the order of the function on the CPU.

    First what lies before a multiple of ``group``, from there upwards, then the rest downwards.
    """
    boundary = (top + group - 1) // group * group
    to_end, from_begin = 0.0, 0.0
    for i in range(lesser(boundary, bottom) - 1, top - 1, -1):
        to_end = dadd(to_end, np.float64(votes[i, j]))
    for i in range(boundary, bottom):
        from_begin = dadd(from_begin, np.float64(votes[i, j]))
    return dadd(to_end, from_begin)


down_column = cuda.jit(device=True)(_down_column)


def _summed(
    votes: NDArray[np.float32], top: int, bottom: int, left: int, right: int, down: int, across: int, scale: float
) -> np.float32:
    """Sum down each column of windows, then over the columns in the same order."""
    boundary = (left + across - 1) // across * across
    to_end, from_begin = 0.0, 0.0
    for j in range(lesser(boundary, right) - 1, left - 1, -1):
        to_end = dadd(to_end, down_column(votes, j, top, bottom, down))
    for j in range(boundary, right):
        from_begin = dadd(from_begin, down_column(votes, j, top, bottom, down))
    total = dadd(to_end, from_begin)
    if scale > 0:
        return np.float32(dmul(total, scale))
    covering = (bottom - top) * (right - left)
    return np.float32(ddiv(total, np.float64(covering))) if covering > 0 else np.float32(0)


summed = cuda.jit(device=True)(_summed)

VOTE = Kernel(_vote, "void(float32[:, ::1], int64, int64, int64, int64, float64, float32[:, ::1])")
