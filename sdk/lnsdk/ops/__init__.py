"""The hot kernels as typed functions over NumPy arrays."""

from lnsdk.ops.body import body_box, is_air
from lnsdk.ops.boxes import batched_nms, nms, nms_3d
from lnsdk.ops.heatmap import vote_heatmap
from lnsdk.ops.overlap import iobb, iou
from lnsdk.ops.patches import gather_patches
from lnsdk.ops.slices import group_slices, resample_window
from lnsdk.ops.stacking import StackedBoxes, stack_boxes

__all__ = [
    "StackedBoxes",
    "batched_nms",
    "body_box",
    "gather_patches",
    "group_slices",
    "iobb",
    "iou",
    "is_air",
    "nms",
    "nms_3d",
    "resample_window",
    "stack_boxes",
    "vote_heatmap",
]
