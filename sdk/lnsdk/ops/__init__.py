"""The hot kernels as typed functions over NumPy arrays."""

from lnsdk.ops import heatmap, slices
from lnsdk.ops.body import body_box, is_air
from lnsdk.ops.boxes import batched_nms, nms, nms_3d
from lnsdk.ops.heatmap import vote_heatmap
from lnsdk.ops.overlap import iobb, iou
from lnsdk.ops.slices import group_slices, resample_window
from lnsdk.ops.stacking import StackedBoxes, stack_boxes

__all__ = [
    "StackedBoxes",
    "batched_nms",
    "body_box",
    "group_slices",
    "iobb",
    "iou",
    "is_air",
    "nms",
    "nms_3d",
    "resample_window",
    "stack_boxes",
    "vote_heatmap",
    "warm_up",
]


def warm_up() -> None:
    """Compile every kernel now, or read it from the cache, so that no later call has to."""
    slices.RESAMPLE.compile()
    heatmap.VOTE.compile()
