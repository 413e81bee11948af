"""Vote heat maps on the device: bit for bit those on the CPU."""

from typing import Any

import numpy as np
import pytest
from numba import cuda
from numpy.typing import NDArray

from lnsdk import ops
from lnsdk.ops import cuda as gpu

pytestmark = pytest.mark.gpu


def _votes(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-9, 9, shape).astype(np.float32)


def _assert_same(found: Any, expected: NDArray[np.float32]) -> None:
    values = found.copy_to_host()
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("patch", "stride"), [(8, 4), (6, 4), (4, 4), (3, 5), (1, 1), (9, 2)])
def test_votes(patch: int, stride: int, normalize: bool) -> None:
    votes = _votes(3, 4)
    for shape in ((14, 21), (40, 3), (0, 5), (5, 0)):
        found = gpu.vote_heatmap(cuda.to_device(votes), patch, stride, shape, normalize)
        _assert_same(found, ops.vote_heatmap(votes, patch, stride, shape, normalize))


@pytest.mark.parametrize("normalize", [False, True])
def test_no_votes(normalize: bool) -> None:
    for votes in (_votes(0, 3), _votes(3, 0)):
        _assert_same(gpu.vote_heatmap(cuda.to_device(votes), 2, 2, (3, 4), normalize), np.zeros((3, 4), np.float32))


def test_sums_are_formed_in_double_in_the_order_of_the_cpu() -> None:
    votes = np.array([[1e8, 1], [-1e8, 1e-7], [1e-7, 1e16], [3, -1e16]], np.float32)
    _assert_same(gpu.vote_heatmap(cuda.to_device(votes), 8, 1, (8, 8)), ops.vote_heatmap(votes, 8, 1, (8, 8)))


def test_writes_into_out_on_a_stream() -> None:
    out, stream = cuda.device_array((4, 4), np.float32), cuda.stream()
    assert gpu.vote_heatmap(cuda.to_device(_votes(2, 2)), 2, 2, (4, 4), out=out, stream=stream) is out
    stream.synchronize()
    _assert_same(out, ops.vote_heatmap(_votes(2, 2), 2, 2, (4, 4)))


def test_wrong_arguments_are_refused() -> None:
    votes = cuda.to_device(_votes(2, 2))
    with pytest.raises(ValueError, match=r"votes must have shape \(any, any\), got \(2,\)"):
        gpu.vote_heatmap(cuda.to_device(_votes(2)), 2, 2, (4, 4))
    with pytest.raises(TypeError, match="votes must be float32, got float64"):
        gpu.vote_heatmap(cuda.to_device(np.ones((2, 2))), 2, 2, (4, 4))
    with pytest.raises(ValueError, match="patch must be above 0"):
        gpu.vote_heatmap(votes, 0, 2, (4, 4))
    with pytest.raises(TypeError, match="stride must be an integer"):
        gpu.vote_heatmap(votes, 2, 0.5, (4, 4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape must be y, x in pixels"):
        gpu.vote_heatmap(votes, 2, 2, (4, -4))
    with pytest.raises(ValueError, match=r"out must have the shape of the output, \(4, 4\), got \(4, 3\)"):
        gpu.vote_heatmap(votes, 2, 2, (4, 4), out=cuda.device_array((4, 3), np.float32))
