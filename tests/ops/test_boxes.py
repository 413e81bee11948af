"""NMS: every implementation against the loop-only oracle, and index for index against torchvision."""

from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lnsdk import ops
from tests import naive

Boxes = NDArray[Any]

THRESHOLDS = (0.0, 0.1, 1 / 3, 0.5, 0.7, 1.0)

LAYOUTS: dict[str, Callable[[Boxes], Boxes]] = {
    "contiguous": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "every other": lambda array: np.repeat(array, 2, axis=0)[::2],
    "reversed": lambda array: array[::-1].copy()[::-1],
}


def _torchvision_nms(boxes: Boxes, scores: Boxes, iou_threshold: float) -> NDArray[np.int64]:
    kept = torchvision.ops.nms(torch.from_numpy(boxes.copy()), torch.from_numpy(scores.copy()), iou_threshold)
    return np.asarray(kept.numpy(), np.int64)


IMPLEMENTATIONS: dict[str, Callable[[Boxes, Boxes, float], NDArray[np.int64]]] = {
    "lnsdk": ops.nms,
    "lnsdk, one group": lambda boxes, scores, limit: ops.batched_nms(boxes, scores, np.zeros(len(boxes), int), limit),
    "torchvision": _torchvision_nms,
}

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
    "signed zeros": ([[0.0, 0.0, 2, 1], [-0.0, -0.0, 2, 1]], [-0.0, 0.0]),
}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_nms_is_the_oracle(case: str, layout: str, dtype: type, implementation: str) -> None:
    listed, values = CASES[case]
    boxes = LAYOUTS[layout](np.array(listed, dtype).reshape(-1, 4))
    scores = LAYOUTS[layout](np.array(values, dtype))
    for iou_threshold in THRESHOLDS:
        kept = IMPLEMENTATIONS[implementation](boxes, scores, iou_threshold)
        assert kept.dtype == np.int64
        np.testing.assert_array_equal(kept, naive.nms(boxes, scores, iou_threshold))


def test_threshold_is_compared_in_double() -> None:
    boxes = np.array([[0, 0, 2, 1], [1, 0, 3, 1]])
    scores = [1.0, 0.5]
    assert ops.nms(boxes.astype(np.float32), scores, 1 / 3).tolist() == [0]  # float32(1/3) lies above 1/3
    assert ops.nms(boxes.astype(np.float64), scores, 1 / 3).tolist() == [0, 1]


def _boxes(dimensions: int, dtype: type) -> st.SearchStrategy[Boxes]:
    """Boxes on a coarse grid, so that ties, equal boxes and overlaps exactly at a threshold are frequent."""
    corners = arrays.arrays(dtype, st.tuples(st.integers(0, 30), st.just(2), st.just(dimensions)),
                            elements=st.integers(0, 8).map(float))  # fmt: skip
    return corners.map(lambda pairs: np.sort(pairs, axis=1).reshape(len(pairs), 2 * dimensions))


@st.composite
def _scored(draw: st.DrawFn, dimensions: int) -> tuple[Boxes, Boxes, float]:
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    boxes = draw(_boxes(dimensions, dtype))
    scores = draw(arrays.arrays(dtype, len(boxes), elements=st.integers(0, 5).map(lambda tenths: tenths / 8)))
    return boxes, scores, draw(st.sampled_from(THRESHOLDS))


@given(_scored(dimensions=2))
def test_nms_is_torchvision(scored: tuple[Boxes, Boxes, float]) -> None:
    np.testing.assert_array_equal(ops.nms(*scored), _torchvision_nms(*scored))


@given(_scored(dimensions=3))
def test_nms_3d_is_the_oracle(scored: tuple[Boxes, Boxes, float]) -> None:
    np.testing.assert_array_equal(ops.nms_3d(*scored), naive.nms(*scored))


@given(st.integers(2, 3).flatmap(lambda dimensions: _scored(dimensions)), st.data())
def test_batched_nms_is_the_oracle(scored: tuple[Boxes, Boxes, float], data: st.DataObject) -> None:
    boxes, scores, iou_threshold = scored
    groups = data.draw(arrays.arrays(np.int64, len(boxes), elements=st.sampled_from([-7, 0, 1, 1 << 40])))
    kept = ops.batched_nms(boxes, scores, groups, iou_threshold)
    np.testing.assert_array_equal(kept, naive.batched_nms(boxes, scores, groups, iou_threshold))


@pytest.mark.parametrize("count", [1000, 20_000])
def test_nms_is_torchvision_on_many_random_boxes(count: int) -> None:
    random = np.random.default_rng(count)
    low = random.random((count, 2), np.float32) * 500
    boxes = np.concatenate([low, low + 2 + 60 * random.random((count, 2), np.float32)], axis=1)
    scores = np.round(random.random(count, np.float32), 3)  # many ties
    np.testing.assert_array_equal(ops.nms(boxes, scores, 0.5), _torchvision_nms(boxes, scores, 0.5))


def test_other_number_types_are_computed_as_float32() -> None:
    boxes, scores = np.array(SIMPLE), np.array([4, 3, 2, 1])
    assert ops.nms(boxes, scores, 0.5).tolist() == [0, 1, 2, 3]
    assert ops.nms(boxes.astype(np.float16), scores.astype(np.float16), 0.4).tolist() == [0, 2, 3]


def test_read_only_boxes() -> None:
    boxes, scores = np.array(SIMPLE, np.float32), np.ones(4)
    boxes.flags.writeable = scores.flags.writeable = False
    assert len(ops.nms(boxes, scores, 0.9)) == 4


NMS = {
    "nms": lambda boxes, scores, limit=0.5: ops.nms(boxes, scores, limit),
    "nms_3d": lambda boxes, scores, limit=0.5: ops.nms_3d(
        boxes if boxes.shape[1] != 4 else np.concatenate([boxes, boxes[:, :2]], axis=1), scores, limit
    ),
    "batched_nms": lambda boxes, scores, limit=0.5: ops.batched_nms(boxes, scores, np.zeros(len(boxes), int), limit),
}


@pytest.mark.parametrize("name", NMS)
def test_nan_is_refused_with_its_index(name: str) -> None:
    boxes, scores = np.array(SIMPLE, np.float64), np.ones(4)
    boxes[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"boxes\[2\] is NaN"):
        NMS[name](boxes, scores)
    scores[3] = np.nan
    with pytest.raises(ValueError, match=r"scores\[3\] is NaN"):
        NMS[name](np.array(SIMPLE), scores)


@pytest.mark.parametrize("name", NMS)
def test_wrong_arguments_are_refused(name: str) -> None:
    boxes = np.array(SIMPLE, np.float32)
    with pytest.raises(ValueError, match=r"scores must have one value per box: expected shape \(4,\), got \(3,\)"):
        NMS[name](boxes, np.ones(3))
    with pytest.raises(ValueError, match=r"boxes must have shape \(N, .*got \(4, 5\)"):
        NMS[name](np.zeros((4, 5)), np.ones(4))
    for iou_threshold in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"iou_threshold must lie in 0\.\.1"):
            NMS[name](boxes, np.ones(4), iou_threshold)
    with pytest.raises(TypeError, match="boxes must be real numbers, got dtype complex128"):
        NMS[name](boxes.astype(np.complex128), np.ones(4))
    with pytest.raises(TypeError, match="scores must be real numbers, got dtype bool"):
        NMS[name](boxes, np.ones(4, bool))


def test_groups_must_be_integers() -> None:
    with pytest.raises(TypeError, match="groups must be integers, got dtype float64"):
        ops.batched_nms(SIMPLE, [1, 1, 1, 1], [0.0, 1.0, 0.0, 1.0], 0.5)
    with pytest.raises(ValueError, match=r"groups must have one value per box"):
        ops.batched_nms(SIMPLE, [1, 1, 1, 1], [0], 0.5)
