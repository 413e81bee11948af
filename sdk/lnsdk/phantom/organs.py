"""What a voxel of a phantom or of a real CT belongs to, as far as placing lesions needs it."""

from __future__ import annotations

from enum import IntEnum


class Organ(IntEnum):
    """Tissue labels of an organ map (uint8, z, y, x)."""

    AIR = 0
    """Outside the body, and gas in airways and bowel."""
    LUNG = 1
    LIVER = 2
    SPLEEN = 3
    FAT = 4
    MUSCLE = 5
    MARROW = 6
    VESSEL = 7
    """Blood: heart chambers and vessels."""
    BONE = 8
    """Cortical bone and cartilage."""
    OTHER = 9
    """Anything else inside the body: skin, gut, kidneys, glands."""
    SUBCUTANEOUS = 10
    """Fat under the skin, where no lymph node is placed."""


ORGANS = Organ
"""The labels of an organ map; the name under which the package exports them."""
