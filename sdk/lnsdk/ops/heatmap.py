"""Vote heat maps: what overlapping windows say about each pixel."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnsdk import _C, threads
from lnsdk.ops import _arguments

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
        Side of a window and distance between windows, in pixels. Where windows lie apart (stride above patch), the
        scale raises the votes; `normalize` does not.
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
    if len(shape) != 2 or any(size < 0 for size in shape):
        raise ValueError(f"shape must be y, x in pixels, got {shape}")
    target = _arguments.output(out, tuple(shape), np.dtype(np.float32), (values,))
    if target.size:
        scale = (step / side) * (step / side)
        sides = (min(side, max(target.shape)), min(step, max(target.shape)))  # what is larger covers no more pixels
        streaming = target.nbytes >= _C.STREAMED_BYTES
        threads.over_range(
            lambda start, stop: _C.vote_rows(
                values, *sides, scale, bool(normalize), target[start:stop], start, streaming
            ),
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
