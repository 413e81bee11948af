"""How well a pipeline found what was there."""

from lnsdk.metrics.box_files import (
    Convention,
    DetectedBoxes,
    KnownBoxes,
    read_detected_boxes,
    read_known_boxes,
    write_boxes,
)
from lnsdk.metrics.froc import FALSE_POSITIVES, HIT_OVERLAP, Froc, froc, froc_by_group
from lnsdk.metrics.luna16 import (
    Luna16Counts,
    Luna16Findings,
    Luna16Froc,
    Luna16Marks,
    luna16_froc,
    read_luna16_findings,
    read_luna16_marks,
    read_luna16_series,
)
from lnsdk.metrics.pixel import FALSE_POSITIVE_RATIOS, PixelFroc, pixel_froc
from lnsdk.metrics.sizes import SIZE_CLASSES, size_class

__all__ = [
    "FALSE_POSITIVES",
    "FALSE_POSITIVE_RATIOS",
    "HIT_OVERLAP",
    "SIZE_CLASSES",
    "Convention",
    "DetectedBoxes",
    "Froc",
    "KnownBoxes",
    "Luna16Counts",
    "Luna16Findings",
    "Luna16Froc",
    "Luna16Marks",
    "PixelFroc",
    "froc",
    "froc_by_group",
    "luna16_froc",
    "pixel_froc",
    "read_detected_boxes",
    "read_known_boxes",
    "read_luna16_findings",
    "read_luna16_marks",
    "read_luna16_series",
    "size_class",
    "write_boxes",
]
