"""Resampling of a chest CT to the network's grid against SimpleITK: resample, window, and cast to float32."""

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from lnsdk import ops
from lnsdk.ops.slices import grid_shape

SHAPE, SPACING, OUT_SPACING, WINDOW = (99, 512, 512), (0.564, 0.564, 3.0), (0.8, 0.8, 2.0), (-1024, 3071)


def _volume() -> NDArray[np.int16]:
    """Smooth HU with noise, as a CT's."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    smooth = 600 * np.sin(z / 9) * np.sin(y / 40) * np.sin(x / 50) - 300
    return (smooth + np.random.default_rng(0).normal(0, 20, SHAPE)).astype(np.int16)


def _with_simpleitk(image: sitk.Image) -> NDArray[np.float32]:
    size = grid_shape(SHAPE, SPACING, OUT_SPACING)[::-1]
    resampled = sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, (0.0, 0.0, 0.0), OUT_SPACING, image.GetDirection(), 0.0,
        sitk.sitkFloat32,
    )  # fmt: skip
    low, high = WINDOW
    return sitk.GetArrayFromImage(sitk.IntensityWindowing(resampled, low, high, 0, 255))


@pytest.mark.parametrize("library", ["lnsdk", "SimpleITK"])
def test_resample_window(benchmark: Any, library: str) -> None:
    benchmark.group = "resample and window, 99 x 512 x 512"
    volume = _volume()
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing(SPACING)
    if library == "lnsdk":
        grid = benchmark(ops.resample_window, volume, SPACING, OUT_SPACING, WINDOW)
    else:
        grid = benchmark(_with_simpleitk, image)
    np.testing.assert_allclose(grid, _with_simpleitk(image), atol=1e-3)


def test_one_slice(benchmark: Any) -> None:
    benchmark.group = "resample and window, one slice"
    volume = _volume()
    depth, height, width = grid_shape(SHAPE, SPACING, OUT_SPACING)
    crop = ((depth // 2, depth // 2 + 1), (0, height), (0, width))
    part = benchmark(ops.resample_window, volume, SPACING, OUT_SPACING, WINDOW, crop=crop)
    np.testing.assert_array_equal(part[0], ops.resample_window(volume, SPACING, OUT_SPACING, WINDOW)[depth // 2])


def test_body_box(benchmark: Any) -> None:
    benchmark.group = "body box, 99 x 512 x 512"
    volume = np.full(SHAPE, -1000, np.int16)
    volume[:, 100:400, 50:450] = 40
    box = benchmark(ops.body_box, volume, SPACING)
    assert box is not None
    (_, (top, bottom), (left, right)) = box
    assert 80 <= top <= 100 <= 400 <= bottom <= 420
    assert 30 <= left <= 50 <= 450 <= right <= 470
