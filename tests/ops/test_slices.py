"""Resampling with the window, and grouping of slices, against the loop-only oracles."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import lnsdk
from lnsdk import ops, threads
from lnsdk.ops import slices
from tests import naive

Array = NDArray[Any]

LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "every other": lambda array: np.repeat(array, 2, axis=2)[:, :, ::2],
    "reversed": lambda array: array[::-1, ::-1].copy()[::-1, ::-1],
}
GRIDS = {
    "finer": ((0.8, 0.8, 3.0), (0.5, 0.6, 2.0)),
    "coarser": ((0.564, 0.7, 1.0), (0.8, 0.8, 2.0)),
    "the same": ((0.8, 0.8, 2.0), (0.8, 0.8, 2.0)),
    "coarser than the volume": ((1.0, 1.0, 1.0), (50.0, 50.0, 50.0)),
}


def _volume(shape: tuple[int, ...] = (5, 7, 9), seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-2000, 3500, shape).astype(np.int16)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("spacings", GRIDS)
def test_resampling_is_the_oracle(spacings: str, layout: str) -> None:
    volume, (spacing, out_spacing) = _volume(), GRIDS[spacings]
    expected = naive.resample_window(volume, spacing, out_spacing)
    found = ops.resample_window(LAYOUTS[layout](volume), spacing, out_spacing)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    half = ops.resample_window(LAYOUTS[layout](volume), spacing, out_spacing, dtype=np.float16)
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, expected.astype(np.float16))


@pytest.mark.parametrize("origin", [(0.0, 0.0, 1.9), (0.3, 1.25, 0.0), (0.7, 0.7, 2.5)])
def test_the_first_sample_may_lie_anywhere(origin: tuple[float, float, float]) -> None:
    volume, spacing, out_spacing = _volume((4, 6, 9)), (0.7, 0.9, 2.5), (0.8, 0.8, 2.0)
    found = ops.resample_window(volume, spacing, out_spacing, origin=origin)
    np.testing.assert_array_equal(found, naive.resample_window(volume, spacing, out_spacing, origin=origin))
    assert found.shape == slices.grid_shape(volume.shape, spacing, out_spacing, origin)


def test_samples_do_not_depend_on_where_counting_began() -> None:
    volume, rng = _volume((40, 3, 4)), np.random.default_rng(1)
    for distance in rng.uniform(0.5, 6, 50):
        spacing, cut = (1.0, 1.0, float(distance)), int(rng.integers(1, 20))
        first = math.ceil(cut * distance / 2)
        part = ops.resample_window(volume[cut:], spacing, (1, 1, 2), origin=(0, 0, 2 * first - cut * distance))
        whole = ops.resample_window(volume, spacing, (1, 1, 2))
        np.testing.assert_array_equal(part, whole[first : first + len(part)])


def test_an_output_of_the_last_voxel_alone() -> None:
    volume = _volume((4, 5, 6))
    found = ops.resample_window(volume, (1, 1, 2.5), (1, 1, 2), origin=(5, 4, 7.5))
    np.testing.assert_array_equal(found, ops.resample_window(volume[-1:, -1:, -1:], (1, 1, 1), (1, 1, 1)))


@pytest.mark.parametrize("origin", [(-0.1, 0, 0), (0, 0, 7.6), (0, float("nan"), 0), (0, 0)])
def test_an_origin_outside_of_the_volume_is_refused(origin: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="origin"):
        ops.resample_window(_volume((4, 5, 6)), (1, 1, 2.5), (1, 1, 2), origin=origin)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("out_spacing", [(0.8, 0.8, 2.0), (0.3, 0.3, 1.0), (1.3, 2.0, 5.0), (9.0, 0.5, 2.0)])
def test_long_rows_are_the_oracle(out_spacing: tuple[float, float, float], dtype: type) -> None:
    volume, spacing = _volume((2, 3, 150)), (0.564, 0.7, 2.5)
    expected: Array = naive.resample_window(volume, spacing, out_spacing).astype(dtype)
    np.testing.assert_array_equal(ops.resample_window(volume, spacing, out_spacing, dtype=dtype), expected)


@pytest.mark.usefixtures("instruction_set")
def test_every_float16_of_the_window() -> None:
    volume = np.arange(-32768, 32768, dtype=np.int32).astype(np.int16).reshape(1, 256, 256)
    for window in ((-32768, 32767), (-1e-3, 0.9e3), (0, 1e9)):
        found = ops.resample_window(volume, (1, 1, 1), (1, 1, 1), window=window, dtype=np.float16)
        expected = ops.resample_window(volume, (1, 1, 1), (1, 1, 1), window=window).astype(np.float16)
        np.testing.assert_array_equal(found, expected)


@given(
    arrays.arrays(np.int16, arrays.array_shapes(min_dims=3, max_dims=3, max_side=6)),
    st.tuples(*[st.floats(0.3, 4)] * 3),
    st.tuples(*[st.floats(0.3, 4)] * 3),
    st.sampled_from([(-1024, 3071), (-150, 250), (-0.5, 0.5)]),
)
@settings(max_examples=40)
def test_resampling_of_anything_is_the_oracle(
    volume: NDArray[np.int16],
    spacing: tuple[float, float, float],
    out_spacing: tuple[float, float, float],
    window: tuple[float, float],
) -> None:
    found = ops.resample_window(volume, spacing, out_spacing, window=window)
    np.testing.assert_array_equal(found, naive.resample_window(volume, spacing, out_spacing, window))


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 4), (4, 1, 4), (4, 4, 1)])
def test_axes_of_one_voxel(shape: tuple[int, int, int]) -> None:
    volume = _volume(shape)
    found = ops.resample_window(volume, (1, 1, 1), (0.7, 0.7, 0.7))
    np.testing.assert_array_equal(found, naive.resample_window(volume, (1, 1, 1), (0.7, 0.7, 0.7)))


def test_the_same_spacing_keeps_every_voxel() -> None:
    for spacing in (0.1, 0.7, 0.8, 0.564, 1 / 3, 2.5):
        volume = _volume((30, 30, 30)).clip(-1024, 3071)
        found = ops.resample_window(volume, (spacing,) * 3, (spacing,) * 3, window=(-1024, 3071))
        assert found.shape == volume.shape
        np.testing.assert_array_equal(found, (volume.astype(np.float32) + 1024) * np.float32(255 / 4095))


def test_number_of_samples() -> None:
    assert slices.grid_shape((99, 512, 512), (0.564, 0.564, 3.0), (0.8, 0.8, 2.0)) == (148, 361, 361)
    assert slices.grid_shape((1, 4, 4), (1, 1, 1), (3.0, 1.5, 9)) == (1, 3, 2)
    assert slices.grid_shape((2, 4, 22), (0.1, 0.7, 1), (0.7, 0.1, 1)) == (2, 22, 4)  # 3 x 0.7 / 0.1 is below 21


@pytest.mark.usefixtures("instruction_set")
def test_a_part_has_the_values_of_the_whole() -> None:
    volume, spacings = _volume((6, 20, 20)), ((0.7, 0.7, 2.5), (0.8, 0.5, 1.7))
    for dtype in (np.float32, np.float16):
        whole = ops.resample_window(volume, *spacings, dtype=dtype)
        depth, height, width = whole.shape
        for z in range(depth):
            part = ops.resample_window(volume, *spacings, dtype=dtype, crop=((z, z + 1), (0, height), (0, width)))
            np.testing.assert_array_equal(part[0], whole[z])
        part = ops.resample_window(volume, *spacings, dtype=dtype, crop=((2, 5), (3, 4), (7, 12)))
        np.testing.assert_array_equal(part, whole[2:5, 3:4, 7:12])
    assert ops.resample_window(volume, *spacings, crop=((2, 2), (0, 4), (0, 4))).shape == (0, 4, 4)


def test_a_slice_needs_no_more_than_the_two_around_it() -> None:
    volume, spacings = _volume((6, 20, 20)), ((0.7, 0.7, 2.5), (0.8, 0.5, 1.7))
    whole = ops.resample_window(volume, *spacings)
    arriving = np.full_like(volume, -32768)
    for z in range(len(whole)):
        needed = int(z * 1.7 / 2.5) + 2
        arriving[:needed] = volume[:needed]
        one = ((z, z + 1), (0, whole.shape[1]), (0, whole.shape[2]))
        np.testing.assert_array_equal(ops.resample_window(arriving, *spacings, crop=one)[0], whole[z])


def test_several_threads_give_the_values_of_one() -> None:
    volume = _volume((40, 100, 110))
    with threads.limited_to(1):
        expected = ops.resample_window(volume, (0.8, 0.8, 2), (0.5, 0.5, 1))
        half = ops.resample_window(volume, (0.8, 0.8, 2), (0.5, 0.5, 1), dtype=np.float16)
    with threads.limited_to(5):
        np.testing.assert_array_equal(ops.resample_window(volume, (0.8, 0.8, 2), (0.5, 0.5, 1)), expected)
        np.testing.assert_array_equal(ops.resample_window(volume, (0.8, 0.8, 2), (0.5, 0.5, 1), dtype=np.float16), half)


@pytest.mark.usefixtures("instruction_set")
def test_writes_into_out() -> None:
    volume = _volume()
    expected = ops.resample_window(volume, (1, 1, 1), (2, 2, 2))
    out = np.full(expected.shape, np.nan, np.float32)
    assert ops.resample_window(volume, (1, 1, 1), (2, 2, 2), out=out) is out
    np.testing.assert_array_equal(out, expected)
    wider = np.full(np.add(expected.shape, 2), np.nan, np.float32)
    ops.resample_window(volume, (1, 1, 1), (2, 2, 2), out=wider[1:-1, 1:-1, 1:-1])
    np.testing.assert_array_equal(wider[1:-1, 1:-1, 1:-1], expected)
    assert np.isnan(wider).sum() == wider.size - expected.size


def test_read_only_voxels() -> None:
    volume = _volume()
    volume.flags.writeable = False
    assert ops.resample_window(volume, (1, 1, 1), (2, 2, 2)).shape == (3, 4, 5)


@pytest.mark.realdata
def test_a_recorded_ct_is_resampled_as_by_simpleitk(data_dir: Path) -> None:
    volume = lnsdk.read(data_dir / "ct/chest_acrin013")
    image = sitk.GetImageFromArray(volume.voxels)
    image.SetSpacing(volume.spacing)
    out_spacing = (0.8, 0.8, 2.0)
    found = ops.resample_window(volume.voxels, volume.spacing, out_spacing, window=(-160, 240))
    resampled = sitk.Resample(
        image,
        found.shape[::-1],
        sitk.Transform(),
        sitk.sitkLinear,
        (0.0, 0.0, 0.0),
        out_spacing,
        image.GetDirection(),
        0.0,
        sitk.sitkFloat32,
    )
    expected = sitk.GetArrayFromImage(sitk.IntensityWindowing(resampled, -160, 240, 0, 255))
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_wrong_arguments_of_resampling_are_refused() -> None:
    volume, one, two = _volume(), (1.0, 1.0, 1.0), (2.0, 2.0, 2.0)
    with pytest.raises(TypeError, match="voxels must be int16 HU, got float32"):
        ops.resample_window(volume.astype(np.float32), one, two)
    with pytest.raises(ValueError, match=r"voxels must have shape \(z, y, x\).*got \(0, 4, 4\)"):
        ops.resample_window(np.zeros((0, 4, 4), np.int16), one, two)
    with pytest.raises(ValueError, match="out_spacing must be a finite number above 0"):
        ops.resample_window(volume, one, (1, 0, 1))
    with pytest.raises(ValueError, match="spacing, out_spacing and origin must be x, y, z"):
        ops.resample_window(volume, (1, 1), two)
    with pytest.raises(ValueError, match=r"window must be at least 0\.1 HU wide"):
        ops.resample_window(volume, one, two, window=(1000.0, 1000.01))
    with pytest.raises(ValueError, match="crop must be ranges along z, y and x"):
        ops.resample_window(volume, one, two, crop=((0, 1), (0, 4)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="voxels must be int16 HU, got list"):
        ops.resample_window([[[0]]], one, two)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="window must be two finite HU, the lower first"):
        ops.resample_window(volume, one, two, window=(100, 100))
    with pytest.raises(ValueError, match=r"crop along x must lie inside 0\.\.5, got 0\.\.6"):
        ops.resample_window(volume, one, two, crop=((0, 1), (0, 4), (0, 6)))
    with pytest.raises(TypeError, match="dtype must be float32 or float16, got float64"):
        ops.resample_window(volume, one, two, dtype=np.float64)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="out must be float16 like the result, got float32"):
        ops.resample_window(volume, one, two, dtype=np.float16, out=np.empty((3, 4, 5), np.float32))
    with pytest.raises(ValueError, match=r"out must have the shape of the result, \(3, 4, 5\), got \(3, 4, 4\)"):
        ops.resample_window(volume, one, two, out=np.empty((3, 4, 4), np.float32))
    with pytest.raises(ValueError, match="out must be writable and have contiguous rows"):
        ops.resample_window(volume, one, two, out=np.empty((5, 4, 3), np.float32).T)


@given(
    st.integers(1, 12).flatmap(
        lambda depth: st.tuples(st.just(depth), st.lists(st.integers(0, depth - 1), max_size=6))
    ),
    st.sampled_from([1, 3, 5]),
    st.sampled_from([1, 3, 5]),
)
def test_groups_are_the_oracle(picked: tuple[int, list[int]], images: int, channels: int) -> None:
    depth, centers = picked
    grid = np.arange(depth * 6, dtype=np.float32).reshape(depth, 2, 3)
    found = ops.group_slices(grid, centers, images, channels)
    np.testing.assert_array_equal(found, naive.group_slices(grid, centers, images, channels))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_groups_of_any_array(layout: str, dtype: type) -> None:
    grid = LAYOUTS[layout](np.arange(20 * 6).reshape(20, 2, 3).astype(dtype))
    for centers in ([], [0], [19], [4, 5, 6], [5, 9, 13], [13, 9, 5], [7, 7], [4, 6, 5], list(range(20))):
        found = ops.group_slices(grid, centers)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, naive.group_slices(grid, centers))


def test_groups_are_views_where_no_end_is_repeated() -> None:
    grid = np.zeros((20, 2, 3), np.float32)
    view = ops.group_slices(grid, [4, 5, 15])
    assert not np.shares_memory(view, grid)
    for centers in ([4], [4, 5, 6], [4, 9, 14]):
        view = ops.group_slices(grid, centers)
        assert np.shares_memory(view, grid)
        assert not view.flags.writeable
    assert not np.shares_memory(ops.group_slices(grid, [3]), grid)


@pytest.mark.parametrize("centers", [[], [4, 5, 6], [4, 6, 5], [0, 19]])
def test_groups_are_copied_into_out(centers: list[int]) -> None:
    grid = np.random.default_rng(0).random((20, 200, 200), np.float32)
    out = np.full((len(centers), 3, 3, 200, 200), np.nan, np.float32)
    for limit in (1, 3):
        with threads.limited_to(limit):
            assert ops.group_slices(grid, centers, out=out) is out
        np.testing.assert_array_equal(out, ops.group_slices(grid, centers))
    with pytest.raises(TypeError, match="out must be float32 like the result"):
        ops.group_slices(grid, centers, out=out.astype(np.float64))


def test_wrong_arguments_of_grouping_are_refused() -> None:
    grid = np.zeros((5, 2, 2), np.float32)
    with pytest.raises(ValueError, match=r"centers must be a list of slices in 0\.\.4, got \[5\]"):
        ops.group_slices(grid, [5])
    with pytest.raises(ValueError, match=r"centers must be a list of slices in 0\.\.4, got \[-1\]"):
        ops.group_slices(grid, [-1])
    with pytest.raises(TypeError, match="centers must be integers"):
        ops.group_slices(grid, [0.5])
    with pytest.raises(ValueError, match=r"grid must have shape \(z, y, x\)"):
        ops.group_slices(grid[0], [0])
    with pytest.raises(ValueError, match="images must be odd"):
        ops.group_slices(grid, [0], images=2)
    with pytest.raises(ValueError, match="channels must be above 0"):
        ops.group_slices(grid, [0], channels=-1)
