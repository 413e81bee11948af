"""NMS on the device: index for index that on the CPU."""

from typing import Any

import numpy as np
import pytest
from numba import cuda
from numpy.typing import NDArray

from lnsdk import ops
from lnsdk.ops import cuda as gpu

pytestmark = pytest.mark.gpu

Floats = NDArray[np.float32]

THRESHOLDS = (0.0, 1 / 3, 0.5)

# x1, y1, x2, y2; the overlap of the first two is exactly 1/2, of the third with the first exactly 1/3.
SIMPLE: list[list[float]] = [[0, 0, 2, 1], [0, 0, 1, 1], [1, 0, 3, 1], [10, 10, 12, 12]]
CASES: dict[str, tuple[list[list[float]], list[float]]] = {
    "empty": ([], []),
    "one": (SIMPLE[:1], [0.5]),
    "exactly at a threshold": (SIMPLE, [0.9, 0.8, 0.7, 0.6]),
    "tied": (SIMPLE[::-1] + SIMPLE, [0.5] * 8),
    "identical": (SIMPLE[:1] * 5, [0.1, 0.3, 0.3, 0.2, 0.3]),
    "without area": ([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 4, 4], [1, 1, 1, 3]], [0.9, 0.8, 0.7, 0.6]),
    "inverted": ([[4, 4, 0, 0], [4, 0, 0, 4], [0, 0, 4, 4], [0, 0, 4, 3]], [0.9, 0.8, 0.7, 0.6]),
    "infinite": ([[-np.inf, 0, np.inf, 1], [0, 0, np.inf, np.inf], [0, 0, 4, 4], [np.inf] * 4], [0.9, 0.8, 0.7, 0.6]),
    "infinite scores": (SIMPLE, [-np.inf, np.inf, 0, np.inf]),
    "negative scores": (SIMPLE, [-0.1, -0.4, -0.4, 0.2]),
    "signed zeros": ([[0.0, 0.0, 2, 1], [-0.0, -0.0, 2, 1]], [-0.0, 0.0]),
}


def _crowd(count: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Boxes that overlap in many ways, with tied scores."""
    random = np.random.default_rng(seed)
    low = random.random((count, 2), np.float32) * 20
    boxes = np.concatenate([low, low + 2 + 8 * random.random((count, 2), np.float32)], axis=1)
    return boxes, np.round(random.random(count, np.float32), 1)


def _assert_kept(kept: gpu.Kept, expected: NDArray[np.int64]) -> None:
    """The indices, then -1."""
    indices, count = kept.indices.copy_to_host(), kept.count.copy_to_host()
    assert (indices.dtype, count.dtype, count.shape) == (np.int64, np.int32, (1,))
    np.testing.assert_array_equal(indices[: count[0]], expected)
    assert (indices[count[0] :] == -1).all()


@pytest.mark.parametrize("case", CASES)
def test_nms(case: str) -> None:
    listed, values = CASES[case]
    boxes, scores = np.array(listed, np.float32).reshape(-1, 4), np.array(values, np.float32)
    for iou_threshold in THRESHOLDS:
        kept = gpu.nms(cuda.to_device(boxes), cuda.to_device(scores), iou_threshold)
        assert kept.indices.shape == (len(boxes),)
        _assert_kept(kept, ops.nms(boxes, scores, iou_threshold))


def test_threshold_is_compared_in_double() -> None:
    boxes, scores = np.array([[0, 0, 2, 1], [1, 0, 3, 1]], np.float32), np.array([1, 0.5], np.float32)
    _assert_kept(gpu.nms(cuda.to_device(boxes), cuda.to_device(scores), 1 / 3), np.array([0]))  # float32(1/3) > 1/3


@pytest.mark.parametrize("count", [64, 130])
def test_nms_over_several_words(count: int) -> None:
    boxes, scores = _crowd(count)
    kept = gpu.nms(cuda.to_device(boxes), cuda.to_device(scores), 0.4)
    _assert_kept(kept, ops.nms(boxes, scores, 0.4))


@pytest.mark.parametrize("max_kept", [0, 1, 64, 90])
def test_at_most_so_many_are_kept(max_kept: int) -> None:
    boxes, scores = _crowd(100)
    kept = gpu.nms(cuda.to_device(boxes), cuda.to_device(scores), 0.9, max_kept)
    assert kept.indices.shape == (max_kept,)
    _assert_kept(kept, ops.nms(boxes, scores, 0.9)[:max_kept])


def test_nothing_is_kept_of_nothing() -> None:
    kept = gpu.nms(cuda.to_device(np.zeros((0, 4), np.float32)), cuda.to_device(np.zeros(0, np.float32)), 0.5, 3)
    assert kept.indices.copy_to_host().tolist() == [-1] * 3
    assert kept.count.copy_to_host().tolist() == [0]


def test_a_workspace_serves_calls_of_any_size() -> None:
    workspace, stream = gpu.Workspace(), cuda.stream()
    for count in (66, 3, 0, 70):
        boxes, scores = _crowd(count, seed=count)
        on_device = cuda.to_device(boxes), cuda.to_device(scores)
        kept = gpu.nms(*on_device, 0.3, workspace=workspace, stream=stream)
        stream.synchronize()
        _assert_kept(kept, ops.nms(boxes, scores, 0.3))


def test_nms_writes_into_out() -> None:
    boxes, scores = _crowd(20)
    out = gpu.Kept(cuda.device_array(20, np.int64), cuda.device_array(1, np.int32))
    assert gpu.nms(cuda.to_device(boxes), cuda.to_device(scores), 0.3, out=out) is out
    _assert_kept(out, ops.nms(boxes, scores, 0.3))


def test_wrong_arguments_are_refused() -> None:
    boxes, scores = cuda.to_device(np.array(SIMPLE, np.float32)), cuda.to_device(np.ones(4, np.float32))

    def refused(error: type[Exception], match: str, *args: Any, **options: Any) -> None:
        with pytest.raises(error, match=match):
            gpu.nms(*args, **options)

    refused(ValueError, r"boxes must have shape \(any, 4\), got \(4,\)", scores, scores, 0.5)
    refused(ValueError, r"scores must have shape \(4\), got \(4, 4\)", boxes, boxes, 0.5)
    refused(TypeError, "scores must be float32, got float64", boxes, cuda.to_device(np.ones(4)), 0.5)
    refused(TypeError, "boxes must be on the device", SIMPLE, scores, 0.5)
    for iou_threshold in (-0.1, 1.1, np.nan):
        refused(ValueError, r"iou_threshold must lie in 0\.\.1", boxes, scores, iou_threshold)
    refused(ValueError, "max_kept must be 0 or more", boxes, scores, 0.5, max_kept=-1)
    many = cuda.device_array((65537, 4), np.float32), cuda.device_array(65537, np.float32)
    refused(ValueError, "boxes must be at most 65536, got 65537", *many, 0.5)
    short = gpu.Kept(cuda.device_array(3, np.int64), cuda.device_array(1, np.int32))
    refused(ValueError, r"out.indices must have the shape of the output, \(4,\)", boxes, scores, 0.5, out=short)
