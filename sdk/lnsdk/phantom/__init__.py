"""Phantom CTs, lesions to insert into them or into real CTs, and writing them as DICOM series."""

from __future__ import annotations

from lnsdk.phantom.anatomy import Phantom, chest_phantom
from lnsdk.phantom.organs import ORGANS, Organ

__all__ = ["ORGANS", "Organ", "Phantom", "chest_phantom"]
