"""Pixel FROC against curves by hand and a loop-only oracle."""

from collections.abc import Sequence
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lnsdk.metrics import FALSE_POSITIVE_RATIOS, pixel, pixel_froc
from tests.metrics import loops

Image = tuple[NDArray[np.float32], NDArray[np.float64]]

POINTS = (0.0, 0.05, 0.1, 0.25, 0.3, 0.5, 1.0)


@pytest.fixture(params=["compiled", "python"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which form of the counting kernel the test runs with."""
    if request.param == "python":
        monkeypatch.setattr(pixel.COUNT, "_compiled", pixel.COUNT.function)
    return str(request.param)


def around(x: float, y: float, size: float = 1.0) -> list[float]:
    """A box around a pixel."""
    return [x - size / 2, y - size / 2, x + size / 2, y + size / 2]


@pytest.mark.usefixtures("kernel")
def test_curve_by_hand() -> None:
    first, second = np.zeros((2, 10, 10), np.float32)
    first[2, 3], first[2, 4], first[5, :4] = 0.9, 0.8, 0.5  # the box covers the first two
    second[7, 7], second[0, :6], second[1, :2] = 0.4, 0.6, 0.4
    boxes = [[[2.5, 1.5, 4.5, 2.5]], [around(7, 7), around(9, 9)]]
    result = pixel_froc([first, second], boxes, false_positive_ratios=(0, 0.05, 0.06, 1), bootstraps=0)
    np.testing.assert_array_equal(result.curve_thresholds, np.array([0.8, 0.4], np.float32))
    np.testing.assert_array_equal(result.curve_false_positive_ratios, [0, 0.06])
    np.testing.assert_array_equal(result.curve_recall, [1 / 3, 2 / 3])
    np.testing.assert_array_equal(result.recall, [1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert result.score == result.recall.mean()
    assert (result.sites, result.images) == (3, 2)
    assert np.isnan(result.interval).all()


@pytest.mark.usefixtures("kernel")
def test_maps_of_zeros_activate_nothing() -> None:
    result = pixel_froc([np.zeros((4, 5), np.float32), -np.zeros((3, 3))], [[around(1, 1)], []], bootstraps=5)
    np.testing.assert_array_equal(result.recall, np.zeros(10))
    assert result.false_positive_ratios.tolist() == list(FALSE_POSITIVE_RATIOS)
    assert len(result.curve_thresholds) == 0


def test_share_is_averaged_over_images_of_any_size() -> None:
    small, large = np.zeros((2, 2), np.float32), np.zeros((10, 10), np.float32)
    small[0, 0], small[1, 1], large[0, :10] = 0.5, 0.5, 0.9
    result = pixel_froc([small, large], [[around(1, 1)], []], bootstraps=0)
    np.testing.assert_array_equal(result.curve_false_positive_ratios, [(1 / 4 + 10 / 100) / 2])


@pytest.mark.usefixtures("kernel")
def test_thresholds_one_bit_apart_are_told_apart() -> None:
    low = np.float32(0.7)
    high = np.nextafter(low, np.float32(1))
    image = np.array([[low, high, low, 1], [high, high, low, 0]], np.float32)
    result = pixel_froc([image], [[around(0, 0), around(1, 0), around(3, 0)]], bootstraps=0)
    np.testing.assert_array_equal(result.curve_thresholds, [1, high, low])
    np.testing.assert_array_equal(result.curve_false_positive_ratios, [0, 2 / 8, 4 / 8])


def test_box_over_the_edge_covers_what_is_there() -> None:
    image = np.ones((3, 4), np.float32)
    result = pixel_froc([image], [[[-2.5, -0.5, 2.5, 1.5]]], bootstraps=0)
    np.testing.assert_array_equal(result.curve_false_positive_ratios, [6 / 12])


def test_layouts_and_types_give_the_same() -> None:
    image = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    box = [[around(4, 5, size=3)]]
    expected = pixel_froc([image], box).curve_false_positive_ratios
    for other in (np.asfortranarray(image), image.astype(np.float64), image[::-1].copy()[::-1], image.tolist()):
        np.testing.assert_array_equal(pixel_froc([other], box).curve_false_positive_ratios, expected)


@st.composite
def images(draw: st.DrawFn) -> Image:
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    values = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, width=32))
    image = draw(arrays.arrays(np.float32, shape, elements=values))
    center = st.tuples(st.integers(0, 2 * shape[1] - 2), st.integers(0, 2 * shape[0] - 2))
    half = st.tuples(st.sampled_from([0.125, 0.5, 1.0, 1.75]), st.sampled_from([0.25, 0.5, 1.5]))
    boxes = [
        [x / 2 - dx, y / 2 - dy, x / 2 + dx, y / 2 + dy]
        for (x, y), (dx, dy) in draw(st.lists(st.tuples(center, half), max_size=3))
    ]
    return image, np.reshape(np.array(boxes, np.float64), (-1, 4))


@given(st.lists(images(), min_size=1, max_size=4), st.integers(0, 9))
def test_any_maps_are_the_oracle(cases: list[Image], seed: int) -> None:
    assume(any(len(boxes) for _, boxes in cases))
    maps, boxes = [image for image, _ in cases], [boxes for _, boxes in cases]
    result = pixel_froc(maps, boxes, false_positive_ratios=POINTS, bootstraps=1, seed=seed)
    check(result.recall, maps, boxes)
    drawn = np.random.default_rng(seed).integers(len(cases), size=len(cases))
    if any(len(boxes[image]) for image in drawn):
        assert (result.interval[:, 0] == result.interval[:, 1]).all()
        check(result.interval[:, 0], [maps[image] for image in drawn], [boxes[image] for image in drawn])
    else:
        assert np.isnan(result.interval).all()


def check(
    recall: NDArray[np.float64], maps: Sequence[NDArray[np.float32]], boxes: Sequence[NDArray[np.float64]]
) -> None:
    expected, ratios = loops.pixel_recall(maps, boxes, POINTS)
    distances = np.abs(np.subtract.outer(ratios, POINTS))
    if len({image.size for image in maps}) > 1:  # sums over images of several sizes are rounded
        assume(not (distances < 1e-12).any())
    np.testing.assert_allclose(recall, expected, atol=1e-12)


def test_clusters_are_drawn_together() -> None:
    rng = np.random.default_rng(2)
    maps, boxes = list(rng.random((6, 8, 8)).astype(np.float32)), [[around(2, 2)]] * 6
    together = pixel_froc(maps, boxes, bootstraps=30, clusters=["a"] * 6)
    np.testing.assert_allclose(together.interval[:, 0], together.recall)
    np.testing.assert_allclose(together.score_interval, together.score)


ONE: NDArray[np.float32] = np.full((3, 4), 0.5, np.float32)


def with_value(value: float) -> NDArray[np.float32]:
    image = ONE.copy()
    image[1, 2] = value
    return image


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("value", [np.nan, -np.nan, -0.25, 1.5, np.nextafter(np.float32(1), np.float32(2)), np.inf])
@pytest.mark.parametrize("box", [around(0, 0), around(2, 1)])
def test_what_is_no_probability_is_refused_with_its_index(value: float, box: list[float]) -> None:
    with pytest.raises(ValueError, match=r"maps\[1\]\[1, 2\] must be a probability"):
        pixel_froc([ONE, with_value(value)], [[], [box]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"boxes": []}, "boxes must have one entry per map"),
        ({"maps": [], "boxes": []}, "at least one site"),
        ({"boxes": [[]]}, "at least one site"),
        ({"boxes": [[[0, 0, 1]]]}, r"boxes\[0\] must have shape \(N, 4\)"),
        ({"boxes": [[around(0, 0), [1, 1, 1, 2]]]}, r"boxes\[0\]\[1\] must be finite"),
        ({"boxes": [[[0, 0, np.nan, 1]]]}, r"boxes\[0\]\[0\] must be finite"),
        ({"boxes": [[around(4, 0)]]}, r"boxes\[0\]\[0\] .* has its centre outside maps\[0\].* 4 x 3 pixels"),
        ({"boxes": [[around(0, -1)]]}, "has its centre outside"),
        ({"maps": [np.ones(3)]}, r"maps\[0\] must have shape \(y, x\)"),
        ({"maps": [np.ones((0, 3))]}, r"maps\[0\] must have shape \(y, x\)"),
        ({"false_positive_ratios": ()}, "false_positive_ratios must be"),
        ({"bootstraps": -1}, "bootstraps must be"),
        ({"clusters": ["a", "b"]}, "clusters must have one entry per map"),
    ],
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {"maps": [ONE], "boxes": [[around(0, 0)]]}
    with pytest.raises(ValueError, match=message):
        pixel_froc(**(usual | arguments))


def test_maps_of_text_are_refused() -> None:
    with pytest.raises(TypeError, match=r"maps\[0\] must be real numbers"):
        pixel_froc([np.array([["a"]])], [[around(0, 0)]])
