"""Windows of an image as a normalised batch, against the loop-only oracle."""

from collections.abc import Callable

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lnsdk import _C, ops, threads
from tests import naive

Image = NDArray[np.uint8]

MEAN, STD = (0.485, 0.456, 0.406, 0.5), (0.229, 0.224, 0.225, 0.25)

LAYOUTS: dict[str, Callable[[Image], Image]] = {
    "contiguous": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "part of a wider image": lambda image: np.pad(image, ((2, 1), (3, 4), (0, 0)))[2:-1, 3:-4],
    "every other": lambda image: np.repeat(image, 2, axis=1)[:, ::2],
    "upside down": lambda image: image[::-1].copy()[::-1],
    "other order of channels": lambda image: image[:, :, ::-1].copy()[:, :, ::-1],
}


def _image(shape: tuple[int, int, int], seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("patch", [1, 5, 8, 11, 16, 20])
def test_patches_are_the_oracle(patch: int, channels: int, layout: str, instruction_set: str) -> None:
    image = _image((20, 23, channels))
    corners = [[0, 0], [20 - patch, 23 - patch], [0, 23 - patch], [0, 0]]
    mean, std = MEAN[:channels], STD[:channels]
    found = ops.gather_patches(LAYOUTS[layout](image), corners, patch, mean, std)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, naive.gather_patches(image, corners, patch, mean, std))


@given(
    arrays.arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 3, 4]))),
    st.data(),
)
def test_any_patches_are_the_oracle(image: Image, data: st.DataObject) -> None:
    height, width, channels = image.shape
    patch = data.draw(st.integers(1, min(height, width)))
    corner = st.tuples(st.integers(0, height - patch), st.integers(0, width - patch))
    corners = data.draw(st.lists(corner, max_size=4))
    found = ops.gather_patches(image, corners, patch, 0.5, 0.25)
    np.testing.assert_array_equal(
        found, naive.gather_patches(image, corners, patch, (0.5,) * channels, (0.25,) * channels)
    )


def test_values_are_those_of_the_formula() -> None:
    image = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    found = ops.gather_patches(image, [[0, 0]], 16, MEAN[:3], STD[:3])[0]
    expected = (image / 255 - MEAN[:3]) / STD[:3]
    np.testing.assert_allclose(found, expected.transpose(2, 0, 1), atol=1e-6)


def test_several_threads_and_streaming_give_the_values_of_one() -> None:
    image = _image((300, 310, 3))
    corners = [(y, x) for y in range(0, 260, 10) for x in range(0, 270, 10)]
    with threads.limited_to(5):
        found = ops.gather_patches(image, corners, 40, MEAN[:3], STD[:3])
    assert found.nbytes >= _C.STREAMED_BYTES
    with threads.limited_to(1):
        for corner, patch in zip(corners, found, strict=True):
            np.testing.assert_array_equal(ops.gather_patches(image, [corner], 40, MEAN[:3], STD[:3])[0], patch)


def test_writes_into_out_and_leaves_the_image() -> None:
    image = _image((9, 9, 3))
    image.flags.writeable = False
    out = np.full((2, 3, 4, 4), np.nan, np.float32)
    assert ops.gather_patches(image, [[0, 0], [5, 5]], 4, 0, 1, out=out) is out
    np.testing.assert_allclose(out[1].transpose(1, 2, 0), image[5:, 5:] / 255, rtol=1e-6)


def test_the_index_of_a_wrong_corner_is_that_of_all_corners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lnsdk.ops.patches.SMALLEST_PART", 1)
    with threads.limited_to(2), pytest.raises(ValueError, match=r"corners\[7\] is \(60, 60\)"):
        ops.gather_patches(_image((8, 9, 3)), [[0, 0]] * 7 + [[60, 60]], 4, 0, 1)


def test_wrong_arguments_are_refused() -> None:
    image = _image((8, 9, 3))
    with pytest.raises(TypeError, match="image must be uint8, got float64"):
        ops.gather_patches(image.astype(float), [[0, 0]], 4, 0, 1)
    with pytest.raises(ValueError, match=r"image must have shape \(y, x, C\) with 1, 3 or 4 channels, got \(8, 9\)"):
        ops.gather_patches(image[:, :, 0], [[0, 0]], 4, 0, 1)
    with pytest.raises(ValueError, match="1, 3 or 4 channels, got"):
        ops.gather_patches(image[:, :, :2], [[0, 0]], 4, 0, 1)
    with pytest.raises(ValueError, match=r"corners must have shape \(N, 2\): y, x of each window, got \(2,\)"):
        ops.gather_patches(image, [0, 0], 4, 0, 1)
    with pytest.raises(TypeError, match="corners must be integers"):
        ops.gather_patches(image, [[0.5, 0]], 4, 0, 1)
    for corner in ([5, 0], [0, 6], [-1, 0]):
        with pytest.raises(ValueError, match=r"corners\[1\] is \(.*begin in 0\.\.4, 0\.\.5"):
            ops.gather_patches(image, [[0, 0], corner], 4, 0, 1)
    with pytest.raises(ValueError, match=r"patch must fit into the image of 8 x 9 pixels \(y, x\), got 9"):
        ops.gather_patches(image, [[0, 0]], 9, 0, 1)
    with pytest.raises(ValueError, match="1 / std must be float32 numbers"):
        ops.gather_patches(image, [[0, 0]], 4, 0, 1e-45)
    memory = np.zeros(48, np.uint8)
    over, pixels = memory.view(np.float32).reshape(1, 3, 2, 2), memory.reshape(4, 4, 3)
    with pytest.raises(ValueError, match="out must not share memory with an input"):
        ops.gather_patches(pixels, [[0, 0]], 2, 0, 1, out=over)
    with pytest.raises(ValueError, match="patch must be above 0"):
        ops.gather_patches(image, [[0, 0]], 0, 0, 1)
    with pytest.raises(ValueError, match="mean must be one finite number, or one for each of the 3 channels"):
        ops.gather_patches(image, [[0, 0]], 4, (0, 0), 1)
    with pytest.raises(ValueError, match="std must be above 0, got 0"):
        ops.gather_patches(image, [[0, 0]], 4, 0, 0)
    with pytest.raises(ValueError, match="std must be one finite number"):
        ops.gather_patches(image, [[0, 0]], 4, 0, np.nan)
    with pytest.raises(ValueError, match="out must have the shape of the result"):
        ops.gather_patches(image, [[0, 0]], 4, 0, 1, out=np.zeros((1, 3, 4, 5), np.float32))
