"""Compiled kernels; lnsdk.ops is their public face. Arrays must have exactly these dtypes and be C-contiguous."""

from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

_Boxes: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
_Float = TypeVar("_Float", np.float32, np.float64)

__version__: str

def nms(boxes: _Boxes, scores: NDArray[np.float64], iou_threshold: float) -> NDArray[np.int64]: ...
def nms_3d(boxes: _Boxes, scores: NDArray[np.float64], iou_threshold: float) -> NDArray[np.int64]: ...
def batched_nms(
    boxes: _Boxes, scores: NDArray[np.float64], groups: NDArray[np.int64], iou_threshold: float
) -> NDArray[np.int64]: ...
def iou(a: NDArray[_Float], b: NDArray[_Float]) -> NDArray[_Float]: ...
def iobb(a: NDArray[_Float], b: NDArray[_Float]) -> NDArray[_Float]: ...
def stack_boxes(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], slices: NDArray[np.int64], iou_threshold: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]: ...
