"""The box of the body: against the loop-only oracle, and on scenes with a table, tubes and noise."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lnsdk import ops
from lnsdk.ops.body import body_extent
from tests import naive

SPACING = (2.0, 2.0, 4.0)


def _air(shape: tuple[int, int, int] = (6, 100, 120)) -> NDArray[np.int16]:
    noise = np.random.default_rng(0).normal(-1000, 30, shape)
    return noise.astype(np.int16)


def _with_body() -> NDArray[np.int16]:
    voxels = _air()
    y, x = np.mgrid[:100, :120]
    voxels[:, ((y - 45) / 25) ** 2 + ((x - 60) / 40) ** 2 <= 1] = 40
    voxels[:, ((y - 45) / 12) ** 2 + ((x - 45) / 10) ** 2 <= 1] = -850  # a lung
    return voxels


def _holds_with_margin(box: ops.slices.Ranges) -> bool:
    """Whether the box holds the ellipse of _with_body and at most the margin and two samples more."""
    _, (top, bottom), (left, right) = box
    return 12 <= top <= 20 and 71 <= bottom <= 79 and 12 <= left <= 20 and 101 <= right <= 109


@given(
    arrays.arrays(
        np.int16,
        st.tuples(st.integers(1, 2), st.integers(1, 14), st.integers(1, 14)),
        elements=st.sampled_from([-1000, -400, 0]),
        fill=st.just(-1000),
    ),
    st.sampled_from([(1.0, 1.0, 1.0), (1.5, 3.0, 9.0), (4.0, 2.0, 0.5)]),
)
def test_body_box_is_the_oracle(voxels: NDArray[np.int16], spacing: tuple[float, float, float]) -> None:
    assert ops.body_box(voxels, spacing) == naive.body_box(voxels, spacing)


def test_the_body_of_a_volume_is_that_of_its_slices() -> None:
    voxels = _with_body()
    voxels[:3, :, 70:] = -1000
    voxels[4] = -1000
    slices = [body_extent(voxels[z : z + 1], SPACING) for z in range(len(voxels))]
    assert slices[4] is None
    assert len(set(slices)) == 3
    found = [extent for extent in slices if extent is not None]
    united = tuple((min(each[axis][0] for each in found), max(each[axis][1] for each in found)) for axis in (0, 1))
    assert body_extent(voxels, SPACING) == united == ops.body_box(voxels, SPACING)[1:]


def test_body_in_air() -> None:
    box = ops.body_box(_with_body(), SPACING)
    assert box[0] == (0, 6)
    assert _holds_with_margin(box)


def test_a_table_tubes_and_streaks_are_no_body() -> None:
    voxels = _with_body()
    voxels[:, 90:92] = 100
    voxels[:, 2:6, 3:7] = 500
    voxels[2, 30, :] = 0
    assert _holds_with_margin(ops.body_box(voxels, SPACING))


def test_arms_beside_the_body_are_body() -> None:
    voxels = _with_body()
    voxels[:, 30:50, 2:12] = 30
    box = ops.body_box(voxels, SPACING)
    assert box[2][0] == 0


def test_a_body_that_fills_the_field_keeps_all_of_it() -> None:
    assert ops.body_box(np.zeros((3, 50, 40), np.int16), SPACING) == ((0, 3), (0, 50), (0, 40))


def test_where_nothing_is_thick_all_of_the_slice_is_kept() -> None:
    voxels = _air()
    voxels[3, 51, 61] = 0
    for thin in (_air(), voxels, _lung()):
        assert ops.body_box(thin, SPACING) == ((0, 6), (0, 100), (0, 120))


def _lung(shape: tuple[int, int, int] = (6, 100, 120)) -> NDArray[np.int16]:
    """Lung with a vessel of 6 mm."""
    voxels = np.random.default_rng(1).normal(-860, 40, shape).astype(np.int16)
    voxels[:, 50:53, 30:33] = 40
    return voxels


@pytest.mark.parametrize("spread", [0, 30, 60])
@pytest.mark.parametrize("spacing", [SPACING, (0.7, 0.7, 1.0), (5.0, 5.0, 5.0)])
def test_air_with_noise_is_air(spread: float, spacing: tuple[float, float, float]) -> None:
    noise = np.random.default_rng(0).normal(-1000, spread, (20, 200, 240)).clip(-1024)
    noise[3, 51, 61] = 3000
    assert ops.is_air(noise.astype(np.int16), spacing)


def test_what_is_no_air() -> None:
    for voxels in (_with_body(), _lung(), _lung((1, 4, 4)), np.zeros((1, 1, 1), np.int16)):
        assert not ops.is_air(voxels, SPACING)
    assert ops.is_air(np.full((1, 1, 1), -1000, np.int16), SPACING)
    only_below = _air()
    only_below[-1, :40, :40] = 40
    assert not ops.is_air(only_below, SPACING)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="voxels must be int16 HU, got float64"):
        ops.body_box(np.zeros((2, 2, 2)), SPACING)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="spacing must be x, y, z in mm"):
        ops.body_box(_air(), (1, 1))
    with pytest.raises(ValueError, match="spacing must be a finite number above 0, got -1"):
        ops.body_box(_air(), (1, -1, 1))
    with pytest.raises(TypeError, match="voxels must be int16 HU, got float64"):
        ops.is_air(np.zeros((2, 2, 2)), SPACING)  # type: ignore[arg-type]
