"""How much boxes overlap: intersection over union, and over one box's own size."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnsdk import _C
from lnsdk.ops import _arguments


def iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float32] | NDArray[np.float64]:
    """Intersection over union of every box of a with every box of b.

    Parameters
    ----------
    a : array_like, shape (N, 4) or (N, 6)
        x1, y1, (z1), x2, y2, (z2), continuous coordinates in any unit, without any "+ 1".
    b : array_like, shape (M, 4) or (M, 6)
        The same, in the same number of dimensions.

    Returns
    -------
    ndarray, shape (N, M)
        0 to 1; exactly 0 where boxes do not overlap, boxes without size included. float64 when one of the inputs is
        float64, else float32.

    Raises
    ------
    TypeError
        When a or b are not real numbers.
    ValueError
        When a shape is wrong, or a box is not finite or ends before it begins (the message names its index).
    """
    return _C.iou(*_arguments.float_pair(a, b))


def iobb(a: ArrayLike, b: ArrayLike) -> NDArray[np.float32] | NDArray[np.float64]:
    """Intersection of every box of a with every box of b, over the size of a's own box.

    With detections as a this is the "intersection over the detected bounding box" (IoBB) of LENS, section VI-C.

    Parameters
    ----------
    a : array_like, shape (N, 4) or (N, 6)
        x1, y1, (z1), x2, y2, (z2), continuous coordinates in any unit, without any "+ 1".
    b : array_like, shape (M, 4) or (M, 6)
        The same, in the same number of dimensions.

    Returns
    -------
    ndarray, shape (N, M)
        0 to 1; exactly 0 where boxes do not overlap, boxes without size included. float64 when one of the inputs is
        float64, else float32.

    Raises
    ------
    TypeError
        When a or b are not real numbers.
    ValueError
        When a shape is wrong, or a box is not finite or ends before it begins (the message names its index).
    """
    return _C.iobb(*_arguments.float_pair(a, b))
