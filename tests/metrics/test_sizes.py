import math

import pytest

from lnsdk.metrics import SIZE_CLASSES, size_class
from lnsdk.metrics.sizes import group_order


@pytest.mark.parametrize(
    ("diameter", "name"),
    [
        (0, "under 6 mm"),
        (5.999, "under 6 mm"),
        (6, "6 to 12 mm"),
        (12, "12 to 30 mm"),
        (30, "30 mm and more"),
        (1e6, "30 mm and more"),
    ],
)
def test_size_class(diameter: float, name: str) -> None:
    assert size_class(diameter) == name


@pytest.mark.parametrize("diameter", [-1, math.nan, math.inf])
def test_what_is_no_diameter(diameter: float) -> None:
    with pytest.raises(ValueError, match="diameter_mm must be"):
        size_class(diameter)


def test_groups_are_in_order() -> None:
    names = [name for _, name in SIZE_CLASSES]
    assert sorted([*names[::-1], "nodule", "cyst"], key=group_order) == ["cyst", "nodule", *names]
