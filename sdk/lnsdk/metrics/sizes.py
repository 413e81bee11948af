"""Size classes of lesions, by which sensitivity is told apart."""

import math
from typing import Final

SIZE_CLASSES: Final = ((6.0, "under 6 mm"), (12.0, "6 to 12 mm"), (30.0, "12 to 30 mm"), (math.inf, "30 mm and more"))
"""Upper end (mm, not included) and name of each class of lesion diameter, smallest first."""


def size_class(diameter_mm: float) -> str:
    """Name of the size class of a diameter.

    Parameters
    ----------
    diameter_mm : float
        Finite and not negative.

    Returns
    -------
    str
        One of `SIZE_CLASSES`.

    Raises
    ------
    ValueError
        When it is no such number.
    """
    if not 0 <= diameter_mm < math.inf:
        raise ValueError(f"diameter_mm must be a finite number of at least 0, got {diameter_mm}")
    return next(name for upper, name in SIZE_CLASSES if diameter_mm < upper)


def group_order(label: str) -> tuple[int, str]:
    """Key that sorts groups of lesions: size classes by size, everything else before them by name."""
    names = [name for _, name in SIZE_CLASSES]
    return (names.index(label) if label in names else -1, label)
