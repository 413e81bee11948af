"""Resampling and grouping on the device: bit for bit the functions on the CPU."""

from typing import Any

import numpy as np
import pytest
from numba import cuda
from numba.core import config
from numpy.typing import NDArray

from lnsdk import ops
from lnsdk.ops import cuda as gpu

pytestmark = pytest.mark.gpu

GRIDS = {
    "finer": ((0.8, 0.8, 3.0), (0.5, 0.6, 2.0)),
    "coarser": ((0.564, 0.7, 1.0), (0.8, 0.8, 2.0)),
    "the same": ((0.8, 0.8, 2.0), (0.8, 0.8, 2.0)),
    "coarser than the volume": ((1.0, 1.0, 1.0), (50.0, 50.0, 50.0)),
}


def _volume(shape: tuple[int, ...] = (5, 7, 9)) -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-2000, 3500, shape).astype(np.int16)


def _assert_same(found: Any, expected: NDArray[Any]) -> None:
    values = found.copy_to_host()
    assert values.dtype == expected.dtype
    bits = f"u{expected.dtype.itemsize}"
    np.testing.assert_array_equal(values.view(bits), np.ascontiguousarray(expected).view(bits))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("spacings", GRIDS)
def test_resampling(spacings: str, dtype: Any) -> None:
    volume = _volume()
    found = gpu.resample_window(cuda.to_device(volume), *GRIDS[spacings], dtype=dtype)
    _assert_same(found, ops.resample_window(volume, *GRIDS[spacings], dtype=dtype))


@pytest.mark.parametrize("window", [(-1024, 3071), (-150, 250), (-0.5, 0.5)])
def test_windows(window: tuple[float, float]) -> None:
    volume = _volume((3, 4, 5))
    found = gpu.resample_window(cuda.to_device(volume), (1, 1, 1), (0.7, 0.9, 1.1), window)
    _assert_same(found, ops.resample_window(volume, (1, 1, 1), (0.7, 0.9, 1.1), window))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 4), (4, 1, 4), (4, 4, 1), (37, 2, 3)])
def test_axes_of_one_voxel_and_of_many(shape: tuple[int, int, int]) -> None:
    volume = _volume(shape)
    found = gpu.resample_window(cuda.to_device(volume), (1, 1, 1), (0.7, 0.7, 0.7))
    _assert_same(found, ops.resample_window(volume, (1, 1, 1), (0.7, 0.7, 0.7)))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_part_has_the_values_of_the_whole(dtype: Any) -> None:
    volume, spacings = _volume((6, 9, 9)), ((0.7, 0.7, 2.5), (0.8, 0.5, 1.7))
    origin = (0.3, 0.7, 1.3)
    shifted = gpu.resample_window(cuda.to_device(volume), *spacings, dtype=dtype, origin=origin)
    _assert_same(shifted, ops.resample_window(volume, *spacings, dtype=dtype, origin=origin))
    whole = ops.resample_window(volume, *spacings, dtype=dtype)
    for crop in (((2, 5), (3, 4), (1, 6)), ((7, 8), (0, 12), (0, 8)), ((2, 2), (0, 4), (0, 4))):
        part = gpu.resample_window(cuda.to_device(volume), *spacings, dtype=dtype, crop=crop)
        _assert_same(part, whole[tuple(slice(*each) for each in crop)])


def test_resampling_writes_into_out_on_a_stream() -> None:
    volume, stream = _volume(), cuda.stream()
    expected = ops.resample_window(volume, (1, 1, 1), (2, 2, 2))
    out = cuda.to_device(np.full(expected.shape, np.nan, np.float32))
    found = gpu.resample_window(cuda.to_device(volume), (1, 1, 1), (2, 2, 2), out=out, stream=stream)
    stream.synchronize()
    assert found is out
    _assert_same(found, expected)


def test_work_on_one_stream_waits_for_that_on_another() -> None:
    volume, first, second = _volume(), cuda.stream(), cuda.stream()
    grid = gpu.resample_window(cuda.to_device(volume), (1, 1, 1), (1, 1, 1), stream=first)
    groups = gpu.group_slices(grid, [1, 3], stream=second)
    second.synchronize()
    _assert_same(groups, ops.group_slices(ops.resample_window(volume, (1, 1, 1), (1, 1, 1)), [1, 3]))


def test_wrong_arguments_of_resampling_are_refused() -> None:
    host = _volume()
    volume, one, two = cuda.to_device(host), (1.0, 1.0, 1.0), (2.0, 2.0, 2.0)
    with pytest.raises(TypeError, match=r"voxels must be on the device \(have __cuda_array_interface__\), got ndarray"):
        gpu.resample_window(host, one, two)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="voxels must be int16 HU, got float32"):
        gpu.resample_window(cuda.to_device(host.astype(np.float32)), one, two)
    with pytest.raises(ValueError, match=r"voxels must have shape \(z, y, x\).*got \(0, 4, 4\)"):
        gpu.resample_window(cuda.to_device(np.zeros((0, 4, 4), np.int16)), one, two)
    with pytest.raises(ValueError, match="voxels must be C-contiguous, got strides"):
        gpu.resample_window(cuda.to_device(np.asfortranarray(host)), one, two)
    with pytest.raises(ValueError, match="out_spacing must be a finite number above 0"):
        gpu.resample_window(volume, one, (1, 0, 1))
    with pytest.raises(ValueError, match="window must be two finite HU, the lower first"):
        gpu.resample_window(volume, one, two, window=(100, 100))
    with pytest.raises(ValueError, match=r"crop along x must lie inside 0\.\.5, got 0\.\.6"):
        gpu.resample_window(volume, one, two, crop=((0, 1), (0, 4), (0, 6)))
    with pytest.raises(TypeError, match="dtype must be float32 or float16, got float64"):
        gpu.resample_window(volume, one, two, dtype=np.float64)  # type: ignore[arg-type]
    out = cuda.device_array((3, 4, 5), np.float32)
    with pytest.raises(TypeError, match="out must be float16 like the output, got float32"):
        gpu.resample_window(volume, one, two, dtype=np.float16, out=out)
    with pytest.raises(ValueError, match=r"out must have the shape of the output, \(3, 4, 5\), got \(3, 4, 4\)"):
        gpu.resample_window(volume, one, two, out=cuda.device_array((3, 4, 4), np.float32))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8])
@pytest.mark.parametrize("shape", [(2, 3), (1, 5), (2, 4)])
def test_groups(shape: tuple[int, int], dtype: Any) -> None:
    grid = np.arange(20 * shape[0] * shape[1]).reshape(20, *shape).astype(dtype)
    for centers in ([], [0], [19], [4, 5, 6], [13, 9, 5], [7, 7], [4, 6, 5, 0, 19, 18]):
        _assert_same(gpu.group_slices(cuda.to_device(grid), centers), ops.group_slices(grid, centers))


@pytest.mark.parametrize("images", [1, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_groups_of_any_size_repeat_the_ends(images: int, channels: int) -> None:
    grid = np.arange(7 * 6, dtype=np.float32).reshape(7, 2, 3)
    found = gpu.group_slices(cuda.to_device(grid), [0, 3, 6], images, channels)
    _assert_same(found, ops.group_slices(grid, [0, 3, 6], images, channels))


def test_groups_of_a_part_and_into_a_part() -> None:
    """Addresses that are no multiples of 8 bytes."""
    grid = np.arange(7 * 4, dtype=np.float16).reshape(7, 1, 4)
    out = cuda.to_device(np.zeros((2 * 36 + 3,), np.float16))
    source = cuda.to_device(np.concatenate([np.zeros(1, np.float16), grid.ravel()]))[1:].reshape(7, 1, 4)
    gpu.group_slices(source, [2, 4], out=out[1:73].reshape(2, 3, 3, 1, 4))
    _assert_same(out[1:73].reshape(2, 3, 3, 1, 4), ops.group_slices(grid, [2, 4]))


def test_groups_of_one_slice_and_of_nothing() -> None:
    grid = np.ones((1, 2, 2), np.float32)
    _assert_same(gpu.group_slices(cuda.to_device(grid), [0]), ops.group_slices(grid, [0]))
    assert gpu.group_slices(cuda.to_device(np.ones((2, 0, 4), np.float32)), [0]).shape == (1, 3, 3, 0, 4)


def test_wrong_arguments_of_grouping_are_refused() -> None:
    grid = cuda.to_device(np.zeros((5, 2, 2), np.float32))
    with pytest.raises(ValueError, match=r"centers must be a list of slices in 0\.\.4, got \[5\]"):
        gpu.group_slices(grid, [5])
    with pytest.raises(ValueError, match=r"centers must be a list of slices in 0\.\.4, got \[-1\]"):
        gpu.group_slices(grid, [-1])
    with pytest.raises(TypeError, match="centers must be integers"):
        gpu.group_slices(grid, [0.5])
    with pytest.raises(ValueError, match=r"grid must have shape \(z, y, x\)"):
        gpu.group_slices(cuda.to_device(np.zeros((2, 2), np.float32)), [0])
    with pytest.raises(ValueError, match="images must be odd"):
        gpu.group_slices(grid, [0], images=2)
    with pytest.raises(TypeError, match="out must be float32 like the output, got float16"):
        gpu.group_slices(grid, [0], out=cuda.device_array((1, 3, 3, 2, 2), np.float16))


def test_an_array_of_torch() -> None:
    if config.ENABLE_CUDASIM:
        pytest.skip("needs a GPU: numba's simulator takes no tensors of torch")
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'lnsdk[torch]'")
    if not torch.cuda.is_available():
        pytest.skip("torch finds no NVIDIA GPU")
    volume = _volume()
    stream = torch.cuda.current_stream().cuda_stream
    tensor = torch.from_numpy(volume).cuda()
    grid = torch.empty(5, 7, 9, device="cuda")
    found = gpu.resample_window(tensor, (1, 1, 1), (1, 1, 1), out=grid, stream=stream)
    assert found is grid
    groups = torch.as_tensor(gpu.group_slices(grid, [2], stream=stream), device="cuda")
    expected = ops.group_slices(ops.resample_window(volume, (1, 1, 1), (1, 1, 1)), [2])
    np.testing.assert_array_equal(groups.cpu().numpy(), expected)
