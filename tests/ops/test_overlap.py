"""IoU and IoBB in two and three dimensions against the loop-only oracles."""

from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lnsdk import ops, threads
from lnsdk.ops import overlap
from tests import naive

OVERLAPS: dict[str, tuple[Any, Any]] = {"iou": (ops.iou, naive.iou), "iobb": (ops.iobb, naive.iobb)}


def _boxes(dimensions: int, dtype: type) -> st.SearchStrategy[NDArray[np.floating]]:
    corners = arrays.arrays(dtype, st.tuples(st.integers(0, 8), st.just(2), st.just(dimensions)),
                            elements=st.floats(-50, 50, width=16))  # fmt: skip
    return corners.map(lambda pairs: np.sort(pairs, axis=1).reshape(len(pairs), 2 * dimensions))


@pytest.mark.parametrize("name", OVERLAPS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dimensions", [2, 3])
@given(data=st.data())
def test_overlap_is_the_oracle(data: st.DataObject, dimensions: int, dtype: type, name: str) -> None:
    a, b = data.draw(_boxes(dimensions, dtype)), data.draw(_boxes(dimensions, dtype))
    fast, slow = OVERLAPS[name]
    found = fast(a, b)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, slow(a, b))


@pytest.mark.parametrize("name", OVERLAPS)
@pytest.mark.parametrize("columns", [4, 6])
def test_any_layout(columns: int, name: str) -> None:
    random = np.random.default_rng(columns)
    a = np.sort(random.random((6, 2, columns // 2)), axis=1).reshape(6, columns)
    fast, _ = OVERLAPS[name]
    expected = fast(a, a)
    np.testing.assert_array_equal(fast(np.asfortranarray(a), np.repeat(a, 2, axis=0)[::2]), expected)


def test_by_hand() -> None:
    whole, half = np.array([[0, 0, 0, 2, 2, 2]]), np.array([[0, 0, 0, 2, 2, 1], [5, 5, 5, 6, 6, 6]])
    assert ops.iou(whole, half).tolist() == [[0.5, 0.0]]
    assert ops.iobb(whole, half).tolist() == [[0.5, 0.0]]
    assert ops.iobb(half, whole).tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize("name", OVERLAPS)
def test_no_boxes_and_boxes_without_size(name: str) -> None:
    fast, _ = OVERLAPS[name]
    assert fast(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)
    assert fast(np.zeros((3, 6)), np.zeros((0, 6))).shape == (3, 0)
    assert fast([[1, 1, 1, 1]], [[1, 1, 1, 1], [0, 0, 2, 2]]).tolist() == [[0, 0]]


@pytest.mark.parametrize("name", OVERLAPS)
def test_wrong_boxes_are_refused(name: str) -> None:
    fast, _ = OVERLAPS[name]
    good = np.array([[0, 0, 1, 1], [0, 0, 2, 2]], np.float64)
    with pytest.raises(ValueError, match=r"b must have shape \(N, 4\), got \(2, 6\)"):
        fast(good, np.zeros((2, 6)))
    with pytest.raises(ValueError, match=r"a must have shape \(N, 4\) or \(N, 6\), got \(2,\)"):
        fast([1, 2], good)
    with pytest.raises(ValueError, match=r"b\[1\] is NaN or infinite"):
        fast(good, [[0, 0, 1, 1], [0, 0, np.inf, 1]])
    with pytest.raises(ValueError, match=r"a\[1\] ends before it begins along y"):
        fast([[0, 0, 1, 1], [0, 3, 2, 2]], good)
    with pytest.raises(TypeError, match="b must be real numbers"):
        fast(good, np.array([["x", "y", "z", "w"]]))


def test_the_index_of_a_wrong_box_is_that_of_all_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "SMALLEST_PART", 1)
    boxes = np.tile(np.array([0, 0, 2, 2], np.float32), (10, 1))
    boxes[7, 2] = np.nan
    with threads.limited_to(2), pytest.raises(ValueError, match=r"a\[7\] is NaN"):
        ops.iou(boxes, boxes[:2])


@pytest.mark.parametrize("function", [ops.iou, ops.iobb])
def test_writes_into_out(function: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "SMALLEST_PART", 1)
    random = np.random.default_rng(0)
    low = random.random((4, 2), np.float32)
    boxes = np.concatenate([low, low + 1], axis=1)
    out = np.full((4, 4), np.nan, np.float32)
    with threads.limited_to(3):
        assert function(boxes, boxes, out=out) is out
    np.testing.assert_array_equal(out, function(boxes, boxes))
    with pytest.raises(ValueError, match="out must not share memory with an input"):
        function(boxes, boxes, out=boxes)
    with pytest.raises(TypeError, match="out must be float32 like the result, got float64"):
        function(boxes, boxes, out=out.astype(np.float64))


def test_float64_in_any_byte_order() -> None:
    boxes = np.array([[0, 0, 2, 1], [1, 0, 3, 1]])
    for order in "<>":
        assert ops.iou(boxes.astype(f"{order}f8"), boxes)[0, 1] == 1 / 3
        assert ops.nms(boxes.astype(f"{order}f8"), [1, 0.5], 1 / 3).tolist() == [0, 1]
