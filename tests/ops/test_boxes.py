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


@pytest.mark.usefixtures("instruction_set")
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


Generator = np.random.Generator


def _uniform(random: Generator, count: int) -> Boxes:
    low = random.random((count, 2)) * 500
    return np.concatenate([low, low + 2 + 60 * random.random((count, 2))], axis=1)


def _clustered(random: Generator, count: int) -> Boxes:
    places = random.random((max(1, count // 20), 2)) * 512
    centers = places[random.integers(0, len(places), count)] + random.normal(0, 3, (count, 2))
    half = random.uniform(8, 60, (count, 2)) / 2
    return np.concatenate([centers - half, centers + half], axis=1)


def _far_apart(random: Generator, count: int) -> Boxes:
    """Two clusters and two boxes a long way from everything else."""
    boxes = _clustered(random, count)
    boxes[: count // 2] += 1e6
    boxes[0] += 1e9
    boxes[-1] -= 1e9
    return boxes


def _thin(random: Generator, count: int) -> Boxes:
    low = random.random((count, 2)) * 500
    sides = np.where(random.random((count, 1)) < 0.5, [[300.0, 1.0]], [[1.0, 300.0]]) * random.uniform(
        0.8, 1.2, (count, 2)
    )
    return np.concatenate([low, low + sides], axis=1)


def _all_sizes(random: Generator, count: int) -> Boxes:
    """Sides over twelve orders of magnitude, so that sizes are also subnormal float32, around few places."""
    centers = random.random((5, 2))[random.integers(0, 5, count)] * 1e-18
    half = 10 ** random.uniform(-24, -12, (count, 1)) * random.uniform(0.7, 1.4, (count, 2))
    return np.concatenate([centers - half, centers + half], axis=1)


def _with_odd_ones(random: Generator, count: int) -> Boxes:
    """A third has no size, an infinite one, or corners in the wrong order."""
    boxes = _clustered(random, count)
    boxes[::9, 2] = boxes[::9, 0]
    boxes[3::9, 3] = np.inf
    boxes[6::9] = boxes[6::9, ::-1]
    return boxes


def _on_a_line(random: Generator, count: int) -> Boxes:
    """One side and one centre for all along y, one side along x: thousands share the same rounded overlaps."""
    left = np.round(random.random((count, 1)) * 300)
    return np.concatenate([left, 0 * left, left + 12, 0 * left + 7], axis=1)


DISTRIBUTIONS = [_uniform, _clustered, _far_apart, _thin, _all_sizes, _with_odd_ones, _on_a_line]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [65, 150, 1000, 5000])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_nms_is_torchvision_on_many_boxes(
    distribution: Callable[[Generator, int], Boxes], count: int, dtype: type, instruction_set: str
) -> None:
    random = np.random.default_rng(count)
    boxes: Boxes = distribution(random, count).astype(dtype)
    scores: Boxes = np.round(random.random(count), 2).astype(dtype)  # many ties
    for iou_threshold in (0.0, 0.05, 1 / 3, 0.5, 0.7, 0.95, 1.0):
        kept = ops.nms(boxes, scores, iou_threshold)
        np.testing.assert_array_equal(kept, _torchvision_nms(boxes, scores, iou_threshold))


def _nms_3d(boxes: Boxes, scores: Boxes, iou_threshold: float) -> NDArray[np.int64]:
    """One row of overlaps at a time."""
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        kept.append(order[0])
        order = order[1:][ops.iou(boxes[order[:1]], boxes[order[1:]])[0].astype(np.float64) <= iou_threshold]
    return np.array(kept)


@pytest.mark.parametrize("count", [65, 1000, 5000])
@pytest.mark.parametrize("distribution", [_uniform, _clustered, _far_apart, _thin, _on_a_line])
def test_nms_3d_of_many_boxes(
    distribution: Callable[[Generator, int], Boxes], count: int, instruction_set: str
) -> None:
    random = np.random.default_rng(count)
    flat, z = distribution(random, count), random.random((count, 1)) * 40
    boxes = np.concatenate([flat[:, :2], z, flat[:, 2:], z + random.uniform(1, 9, (count, 1))], axis=1).astype(
        np.float32
    )
    scores = np.round(random.random(count, np.float32), 2)
    for iou_threshold in (0.0, 0.2, 0.5, 0.9):
        np.testing.assert_array_equal(ops.nms_3d(boxes, scores, iou_threshold), _nms_3d(boxes, scores, iou_threshold))


def test_batched_nms_of_many_groups() -> None:
    random = np.random.default_rng(0)
    boxes, scores = _clustered(random, 20_000).astype(np.float32), np.round(random.random(20_000, np.float32), 2)
    for groups in (random.integers(-3, 3, 20_000), random.integers(0, 5000, 20_000) - (1 << 60)):
        kept = ops.batched_nms(boxes, scores, groups, 0.5)
        expected = torchvision.ops.boxes._batched_nms_vanilla(
            torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(groups), 0.5
        )
        assert set(kept.tolist()) == set(expected.tolist())
        assert np.array_equal(kept, kept[np.lexsort((kept, -scores[kept]))])


@given(_scored(dimensions=2), st.sampled_from([None, 0.25, 0.5, 2.0]), st.sampled_from([None, 0, 1, 5, 100]))
def test_thresholds_and_caps_are_the_oracle(
    scored: tuple[Boxes, Boxes, float], score_threshold: float | None, max_kept: int | None
) -> None:
    expected = naive.nms(*scored, score_threshold, max_kept)
    np.testing.assert_array_equal(ops.nms(*scored, score_threshold, max_kept), expected)
    groups = np.arange(len(scored[0])) % 3
    np.testing.assert_array_equal(
        ops.batched_nms(*scored[:2], groups, scored[2], score_threshold, max_kept),
        naive.batched_nms(*scored[:2], groups, scored[2], score_threshold, max_kept),
    )


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


@pytest.mark.parametrize(("function", "columns"), [(ops.nms, 4), (ops.nms_3d, 6)])
def test_wrong_limits_are_refused(function: Callable[..., NDArray[np.int64]], columns: int) -> None:
    boxes = np.zeros((1, columns))
    with pytest.raises(ValueError, match="score_threshold is NaN; None keeps every score"):
        function(boxes, [1], 0.5, score_threshold=np.nan)
    with pytest.raises(ValueError, match="max_kept must be 0 or more, or None, got -1"):
        function(boxes, [1], 0.5, max_kept=-1)
    for wrong in (2.0, True, "2"):
        with pytest.raises(TypeError, match="max_kept must be an integer or None"):
            function(boxes, [1], 0.5, max_kept=wrong)
    for no_number in (None, "0.5", True):
        with pytest.raises(TypeError, match="iou_threshold must be a real number"):
            function(boxes, [1], no_number)
    assert function(boxes, [1], 0.5, max_kept=2**70).tolist() == [0]


def test_the_score_threshold_is_compared_in_the_type_of_the_scores() -> None:
    scores = np.array([0.7, 0.1])
    for dtype in (np.float32, np.float64):
        assert ops.nms(np.zeros((2, 4)), scores.astype(dtype), 0.5, score_threshold=0.7).tolist() == [0]


def test_inputs_are_left_as_they_are() -> None:
    random = np.random.default_rng(0)
    boxes, scores, groups = _clustered(random, 500), random.random(500), np.arange(500) % 7
    copies = boxes.copy(), scores.copy(), groups.copy()
    ops.nms(boxes, scores, 0.5)
    ops.batched_nms(boxes, scores, groups, 0.5)
    for array, copy in zip((boxes, scores, groups), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_groups_must_be_integers() -> None:
    with pytest.raises(TypeError, match="groups must be integers, got dtype float64"):
        ops.batched_nms(SIMPLE, [1, 1, 1, 1], [0.0, 1.0, 0.0, 1.0], 0.5)
    with pytest.raises(ValueError, match=r"groups must have one value per box"):
        ops.batched_nms(SIMPLE, [1, 1, 1, 1], [0], 0.5)
