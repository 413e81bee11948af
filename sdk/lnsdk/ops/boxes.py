"""Non-maximum suppression of 2D and 3D boxes."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnsdk import _C
from lnsdk.ops import _arguments


def nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    iou_threshold: float,
    score_threshold: float | None = None,
    max_kept: int | None = None,
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: index for index the answer of ``torchvision.ops.nms``.

    From the best score down, a box is kept unless its intersection over union with a kept box is strictly above the
    threshold. The overlap is computed in the type of the boxes and compared as a double; equal scores keep their order.

    Parameters
    ----------
    boxes : array_like, shape (N, 4)
        x1, y1, x2, y2 in any unit. float64 is computed as float64, everything else as float32. Boxes without area, or
        that end before they begin, are kept and suppress nothing, as in torchvision (so x, y, width, height must be
        converted first); infinite corners are allowed.
    scores : array_like, shape (N,)
        Higher is better.
    iou_threshold : float
        0 to 1.
    score_threshold : float, optional
        Boxes that score less, in the type of the scores, are left out before anything else.
    max_kept : int, optional
        Keep only so many, the best.

    Returns
    -------
    ndarray of int64, shape (K,)
        Indices of the kept boxes by falling score, ties by the lowest index.

    Raises
    ------
    TypeError
        When boxes, scores or a threshold are not real numbers, or max_kept is no integer.
    ValueError
        When a shape, a threshold or max_kept is wrong, or a value is NaN (the message names its index).
    """
    return _C.nms(
        _arguments.boxes(boxes, 4),
        _arguments.floats(scores, "scores"),
        _arguments.number(iou_threshold, "iou_threshold"),
        _arguments.number_or_none(score_threshold, "score_threshold"),
        _arguments.count_or_none(max_kept, "max_kept"),
    )


def nms_3d(
    boxes: ArrayLike,
    scores: ArrayLike,
    iou_threshold: float,
    score_threshold: float | None = None,
    max_kept: int | None = None,
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression of 3D boxes: :func:`nms` with volumes instead of areas.

    Parameters
    ----------
    boxes : array_like, shape (N, 6)
        x1, y1, z1, x2, y2, z2 in any unit. float64 is computed as float64, everything else as float32. Boxes without
        volume, or that end before they begin, are kept and suppress nothing.
    scores : array_like, shape (N,)
        Higher is better.
    iou_threshold : float
        0 to 1; a box is suppressed strictly above it.
    score_threshold : float, optional
        Boxes that score less, in the type of the scores, are left out before anything else.
    max_kept : int, optional
        Keep only so many, the best.

    Returns
    -------
    ndarray of int64, shape (K,)
        Indices of the kept boxes by falling score, ties by the lowest index.

    Raises
    ------
    TypeError
        When boxes, scores or a threshold are not real numbers, or max_kept is no integer.
    ValueError
        When a shape, a threshold or max_kept is wrong, or a value is NaN (the message names its index).
    """
    return _C.nms_3d(
        _arguments.boxes(boxes, 6),
        _arguments.floats(scores, "scores"),
        _arguments.number(iou_threshold, "iou_threshold"),
        _arguments.number_or_none(score_threshold, "score_threshold"),
        _arguments.count_or_none(max_kept, "max_kept"),
    )


def batched_nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    iou_threshold: float,
    score_threshold: float | None = None,
    max_kept: int | None = None,
) -> NDArray[np.int64]:
    """Non-maximum suppression within each group: boxes of different groups never suppress each other.

    Parameters
    ----------
    boxes : array_like, shape (N, 4) or (N, 6)
        x1, y1, (z1), x2, y2, (z2) in any unit. float64 is computed as float64, everything else as float32.
    scores : array_like, shape (N,)
        Higher is better.
    groups : array_like of integers, shape (N,)
        The group (class, slice, image) of each box; any integers.
    iou_threshold : float
        0 to 1; a box is suppressed strictly above it.
    score_threshold : float, optional
        Boxes that score less, in the type of the scores, are left out before anything else.
    max_kept : int, optional
        Keep only so many, the best of all groups.

    Returns
    -------
    ndarray of int64, shape (K,)
        Indices of the kept boxes of all groups by falling score, ties by the lowest index.

    Raises
    ------
    TypeError
        When boxes, scores or a threshold are not real numbers, or groups or max_kept are not integers.
    ValueError
        When a shape, a threshold or max_kept is wrong, or a value is NaN (the message names its index).
    """
    return _C.batched_nms(
        _arguments.boxes(boxes, 4),
        _arguments.floats(scores, "scores"),
        _arguments.int64s(groups, "groups"),
        _arguments.number(iou_threshold, "iou_threshold"),
        _arguments.number_or_none(score_threshold, "score_threshold"),
        _arguments.count_or_none(max_kept, "max_kept"),
    )
