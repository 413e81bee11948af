"""How much boxes overlap: intersection over union, and over one box's own size."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnsdk import _C, threads
from lnsdk.ops import _arguments

SMALLEST_PART = 1 << 18
"""Entries of the matrix below which a second thread is not worth starting."""

Matrix = NDArray[np.float32] | NDArray[np.float64]


def iou(a: ArrayLike, b: ArrayLike, out: Matrix | None = None) -> Matrix:
    """Intersection over union of every box of a with every box of b.

    Parameters
    ----------
    a : array_like, shape (N, 4) or (N, 6)
        x1, y1, (z1), x2, y2, (z2), continuous coordinates in any unit, without any "+ 1".
    b : array_like, shape (M, 4) or (M, 6)
        The same, in the same number of dimensions.
    out : ndarray, shape (N, M), C-contiguous, optional
        Where to write the result; must have its type.

    Returns
    -------
    ndarray, shape (N, M)
        0 to 1; exactly 0 where boxes do not overlap, boxes without size included, and NaN or 0 for boxes whose size
        overflows. float64 when one of the inputs is float64, else float32; ``out`` itself when it was given.

    Raises
    ------
    TypeError
        When a or b are not real numbers, or out is not of the result's type.
    ValueError
        When a shape is wrong, or a box is not finite or ends before it begins (the message names its index).
    """
    return _matrix(_C.iou, a, b, out)


def iobb(a: ArrayLike, b: ArrayLike, out: Matrix | None = None) -> Matrix:
    """Intersection of every box of a with every box of b, over the size of a's own box.

    With detections as a this is the "intersection over the detected bounding box" (IoBB) of LENS, section VI-C.

    Parameters
    ----------
    a : array_like, shape (N, 4) or (N, 6)
        x1, y1, (z1), x2, y2, (z2), continuous coordinates in any unit, without any "+ 1".
    b : array_like, shape (M, 4) or (M, 6)
        The same, in the same number of dimensions.
    out : ndarray, shape (N, M), C-contiguous, optional
        Where to write the result; must have its type.

    Returns
    -------
    ndarray, shape (N, M)
        0 to 1; exactly 0 where boxes do not overlap, boxes without size included, and NaN or 0 for boxes whose size
        overflows. float64 when one of the inputs is float64, else float32; ``out`` itself when it was given.

    Raises
    ------
    TypeError
        When a or b are not real numbers, or out is not of the result's type.
    ValueError
        When a shape is wrong, or a box is not finite or ends before it begins (the message names its index).
    """
    return _matrix(_C.iobb, a, b, out)


def _matrix(kernel: Callable[[Any, Any, Any], None], a: ArrayLike, b: ArrayLike, out: Matrix | None) -> Matrix:
    pair = _arguments.float_pair(a, b)
    _C.require_box_pair(*pair)
    rows, columns = pair
    matrix = _arguments.output(out, (len(rows), len(columns)), rows.dtype, (rows, columns))
    smallest = max(1, SMALLEST_PART // max(1, len(columns)))
    threads.over_range(lambda start, stop: kernel(rows[start:stop], columns, matrix[start:stop]), len(rows), smallest)
    return matrix
