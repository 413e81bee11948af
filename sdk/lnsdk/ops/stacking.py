"""Joins the 2D boxes of consecutive slices into 3D boxes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnsdk import _C
from lnsdk.ops import _arguments


@dataclass(frozen=True, eq=False)
class StackedBoxes:
    """3D boxes by falling score, and which 2D boxes each was made of.

    Attributes
    ----------
    boxes : ndarray of float32, shape (K, 6)
        x1, y1, z1, x2, y2, z2; z in slices, from the first slice - 0.5 to the last + 0.5.
    scores : ndarray of float32, shape (K,)
        The highest score of the members.
    members : ndarray of int64, shape (N,)
        For each 2D box that was given, its row in ``boxes``.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    members: NDArray[np.int64]


def stack_boxes(boxes: ArrayLike, scores: ArrayLike, slices: ArrayLike, iou_threshold: float) -> StackedBoxes:
    """Join 2D boxes of consecutive slices into 3D boxes (LENS, section IV-C).

    Slices ascending; each box joins the open tracklet of the slice before with the highest intersection over union
    strictly above the threshold, one to one: higher overlap first, then the box's higher score, then its lower index,
    then the lower index of the tracklet's last box. A tracklet without a successor closes. The 3D box is the mean of
    its members' x and y weighted by their scores (unweighted when all of them are 0).

    Parameters
    ----------
    boxes : array_like, shape (N, 4)
        x1, y1, x2, y2 in any unit; computed as float32.
    scores : array_like, shape (N,)
        0 or more.
    slices : array_like of integers, shape (N,)
        The slice of each box, in any order.
    iou_threshold : float
        0 to 1.

    Returns
    -------
    StackedBoxes
        Rows by falling score, ties by the lowest index of a member.

    Raises
    ------
    TypeError
        When boxes or scores are not real numbers or slices are not integers.
    ValueError
        When a shape or the threshold is wrong, a box or score is not finite, a box ends before it begins, or a score is
        negative (the message names the index).
    """
    return StackedBoxes(
        *_C.stack_boxes(
            _arguments.boxes(boxes, 4).astype(np.float32, copy=False),
            _arguments.float32s(scores, "scores"),
            _arguments.int64s(slices, "slices"),
            _arguments.number(iou_threshold, "iou_threshold"),
        )
    )
