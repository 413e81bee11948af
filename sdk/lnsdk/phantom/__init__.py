"""Phantom CTs, lesions to insert into them or into real CTs, and writing them as DICOM series."""

from __future__ import annotations

from lnsdk.phantom.anatomy import Phantom, chest_phantom
from lnsdk.phantom.insertion import insert_lesions
from lnsdk.phantom.lesion_types import LESION_TYPES, LesionSpec, LesionTruth, LesionType, describe_ranges
from lnsdk.phantom.organs import ORGANS, Organ
from lnsdk.phantom.placing import draw_lesions
from lnsdk.phantom.series import write_series
from lnsdk.phantom.tissue import organ_map

__all__ = [
    "LESION_TYPES",
    "ORGANS",
    "LesionSpec",
    "LesionTruth",
    "LesionType",
    "Organ",
    "Phantom",
    "chest_phantom",
    "describe_ranges",
    "draw_lesions",
    "insert_lesions",
    "organ_map",
    "write_series",
]
