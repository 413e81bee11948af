"""Compiled kernels; lnsdk.ops is their public face.

Arrays must have exactly these dtypes and be C-contiguous, but for volumes and images, of which only the rows must be.
"""

from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

_Floats: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
_Float = TypeVar("_Float", np.float32, np.float64)
_Axis: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]

STREAMED_BYTES: int
__version__: str

def nms(
    boxes: _Floats, scores: _Floats, iou_threshold: float, score_threshold: float | None, max_kept: int | None
) -> NDArray[np.int64]: ...
def nms_3d(
    boxes: _Floats, scores: _Floats, iou_threshold: float, score_threshold: float | None, max_kept: int | None
) -> NDArray[np.int64]: ...
def batched_nms(
    boxes: _Floats,
    scores: _Floats,
    groups: NDArray[np.int64],
    iou_threshold: float,
    score_threshold: float | None,
    max_kept: int | None,
) -> NDArray[np.int64]: ...
def require_box_pair(a: NDArray[_Float], b: NDArray[_Float]) -> None: ...
def iou(a: NDArray[_Float], b: NDArray[_Float], out: NDArray[_Float]) -> None: ...
def iobb(a: NDArray[_Float], b: NDArray[_Float], out: NDArray[_Float]) -> None: ...
def stack_boxes(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], slices: NDArray[np.int64], iou_threshold: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]: ...
def resample_rows(
    voxels: NDArray[np.int16],
    z_axis: _Axis,
    y_axis: _Axis,
    x_axis: _Axis,
    levels: tuple[float, float, float],
    out: NDArray[np.float32] | NDArray[np.uint16],
    first_row: int,
    end_row: int,
) -> None: ...
def vote_rows(
    votes: NDArray[np.float32],
    patch: int,
    stride: int,
    scale: float,
    normalize: bool,
    out: NDArray[np.float32],
    first_row: int,
    streaming: bool,
) -> None: ...
def gather_patches(
    image: NDArray[np.uint8],
    corners: NDArray[np.int64],
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    out: NDArray[np.float32],
    streaming: bool,
) -> None: ...
def instruction_sets() -> list[str]: ...
def instruction_set() -> str: ...
def use_instruction_set(name: str) -> None: ...
