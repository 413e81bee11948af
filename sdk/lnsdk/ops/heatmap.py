"""Vote heat maps: what overlapping windows say about each pixel."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnsdk import threads
from lnsdk.ops import _arguments
from lnsdk.ops._jit import Kernel

SMALLEST_PART = 1 << 16
"""Pixels below which a second thread is not worth starting."""


def vote_heatmap(
    votes: ArrayLike,
    patch: int,
    stride: int,
    shape: Sequence[int],
    normalize: bool = False,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Sum for each pixel the votes of the windows that cover it.

    The window of ``votes[i, j]`` covers the ``patch`` x ``patch`` pixels from (i x stride, j x stride) on; parts beyond
    the map are left out. The sum is scaled by (stride / patch)^2, one over the number of windows that cover a pixel
    away from the edges.

    Parameters
    ----------
    votes : array_like, shape (rows, cols)
        One finite value per window; computed from float32.
    patch, stride : int
        Side of a window and distance between windows, in pixels.
    shape : (int, int)
        y, x: size of the map in pixels.
    normalize : bool
        Divide by the number of windows that cover the pixel instead, which also holds at the edges.
    out : ndarray of float32, C-contiguous, optional
        Where to write the map; must have its shape.

    Returns
    -------
    ndarray of float32, shape (y, x)
        0 where no window lies; ``out`` itself when it was given.

    Raises
    ------
    TypeError
        When votes are not numbers, patch or stride no integers, or out is not float32.
    ValueError
        When a shape or size is wrong, or a vote is not finite (the message names its index).
    """
    values = _votes(votes)
    side, step = _arguments.positive_integer(patch, "patch"), _arguments.positive_integer(stride, "stride")
    target = _output(shape, out)
    VOTE.compile()
    if target.size:
        threads.over_range(
            lambda start, stop: VOTE(values, side, step, normalize, target[start:stop], start),
            len(target),
            max(1, SMALLEST_PART // target.shape[1]),
        )
    return target


def _votes(votes: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(votes)
    values = _arguments.float32s(array.astype(np.uint8) if array.dtype == np.bool_ else array, "votes")
    if values.ndim != 2:
        raise ValueError(f"votes must have shape (rows, cols), got {values.shape}")
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        raise ValueError(f"votes[{wrong[0][0]}, {wrong[0][1]}] is NaN or infinite")
    return values


def _output(shape: Sequence[int], out: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if len(shape) != 2 or any(size < 0 for size in shape):
        raise ValueError(f"shape must be y, x in pixels, got {shape}")
    if out is None:
        return np.empty((shape[0], shape[1]), np.float32)
    if out.dtype != np.float32:
        raise TypeError(f"out must be float32, got {out.dtype}")
    if out.shape != tuple(shape) or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(f"out must be C-contiguous, writable and have shape {tuple(shape)}, got shape {out.shape}")
    return out


def _vote_rows(
    votes: NDArray[np.float32], patch: int, stride: int, normalize: bool, out: NDArray[np.float32], first_row: int
) -> None:
    """Fill ``out`` with rows of the map, the first of them being ``first_row``; sums are formed in double."""
    rows, columns = votes.shape
    column_sums = np.empty(columns, np.float64)
    summed_top, summed_bottom = -1, -1
    for row in range(len(out)):
        y = first_row + row
        top = max(0, (y - patch) // stride + 1)  # windows top..bottom - 1 cover row y
        bottom = max(top, min(rows, y // stride + 1))
        if top != summed_top or bottom != summed_bottom:
            for j in range(columns):
                total = 0.0
                for i in range(top, bottom):
                    total += np.float64(votes[i, j])
                column_sums[j] = total
            summed_top, summed_bottom = top, bottom
        summed_left, summed_right, value = -1, -1, np.float32(0)
        for x in range(out.shape[1]):
            left = max(0, (x - patch) // stride + 1)
            right = max(left, min(columns, x // stride + 1))
            if left != summed_left or right != summed_right:
                total = 0.0
                for j in range(left, right):
                    total += column_sums[j]
                covering = (bottom - top) * (right - left)
                if normalize:
                    value = np.float32(total / covering) if covering > 0 else np.float32(0)
                else:
                    value = np.float32(total * ((stride / patch) * (stride / patch)))
                summed_left, summed_right = left, right
            out[row, x] = value


VOTE = Kernel(_vote_rows, "void(Array(float32, 2, 'C', True), int64, int64, boolean, float32[:, ::1], int64)")
