"""Slices in any order give the boxes of the whole grid, and nothing is computed twice without need."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from lnsdk.pipelines.features import Centers, centers
from lnsdk.pipelines.incremental import IncrementalDetection
from lnsdk.pipelines.proposals import SliceBoxes

Array = NDArray[np.float32]

FIRST = -5
"""Place of the first slice."""


class Network:
    """A network of sums: a centre's only box holds what the three images held."""

    def __init__(self) -> None:
        self.images = self.centers = 0

    def run_image(self, images: Array) -> dict[str, Array]:
        self.images += len(images)
        return {"a": images.sum(axis=(2, 3)), "b": images[:, 1:2, :1, 0] * 2}

    def detect(self, batch: Centers) -> list[SliceBoxes]:
        found = []
        for index in range(len(batch.own["a"])):
            self.centers += 1
            parts = [each[name][index] for each in (batch.previous, batch.own, batch.following) for name in ("a", "b")]
            box = np.concatenate([part.ravel() for part in parts])[None].astype(np.float32)
            slices = np.array([batch.start + index])
            found.append(SliceBoxes(box, box[:, 0], box[:, :1], slices))
        return found


def grid(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random((count, 4, 5), np.float32)


def whole(slices: Array, batch: int) -> list[SliceBoxes]:
    network = Network()
    batches = centers(lambda start, stop: slices[start:stop], len(slices), network.run_image, batch)
    return [boxes for each in batches for boxes in network.detect(each)]


def assert_same(found: Sequence[SliceBoxes], expected: Sequence[SliceBoxes]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(a.slices, b.slices)


def finish(detection: IncrementalDetection, slices: Array) -> list[SliceBoxes]:
    return detection.finish(lambda start, stop: slices[start:stop], FIRST, len(slices))


@pytest.mark.parametrize("batch", [1, 2, 8])
@pytest.mark.parametrize("count", [1, 2, 5, 9, 20])
@pytest.mark.parametrize("order", ["up", "down", "shuffled", "in pairs", "all at once", "none before the end"])
def test_any_order_gives_the_boxes_of_the_whole(order: str, count: int, batch: int) -> None:
    slices, network = grid(count), Network()
    detection = IncrementalDetection(network.run_image, network.detect, batch)
    indices = np.arange(count)[:: -1 if order == "down" else 1]
    if order == "shuffled":
        indices = np.random.default_rng(1).permutation(count)
    size = {"in pairs": 2, "all at once": count}.get(order, 1)
    for start in range(0, count if order != "none before the end" else 0, size):
        detection.add({FIRST + int(index): slices[index] for index in indices[start : start + size]})
    early = detection.done
    assert early == (0 if order == "none before the end" else max(0, count - 8))
    assert_same(finish(detection, slices), whole(slices, batch))
    assert network.centers == count
    if order in ("up", "down", "all at once", "none before the end"):
        assert network.images <= count + 2 * 4


def test_little_is_kept_on_the_way() -> None:
    slices, network = grid(60), Network()
    detection = IncrementalDetection(network.run_image, network.detect, 2)
    for index, content in enumerate(slices):
        detection.add({FIRST + index: content})
        assert len(detection._features) <= 12
        assert len(detection._slices) <= 10
    assert_same(finish(detection, slices), whole(slices, 2))


def test_what_changed_is_computed_again() -> None:
    slices, network = grid(30), Network()
    detection = IncrementalDetection(network.run_image, network.detect, 2)
    for index, content in enumerate(slices):
        detection.add({FIRST + index: content})
    before = network.centers
    detection.add({FIRST + 15: slices[15] + 1})
    slices[15] += 1
    slices[4] += 1
    assert_same(finish(detection, slices), whole(slices, 2))
    assert before == 22
    assert network.centers < 22 + 8 + 2 * 9 + 1


def test_places_that_the_grid_lacks_play_no_part() -> None:
    slices, network = grid(30), Network()
    detection = IncrementalDetection(network.run_image, network.detect, 2)
    for index, content in enumerate(slices):
        detection.add({FIRST + index: content})
    part = slices[6:20]
    found = detection.finish(lambda start, stop: part[start:stop], FIRST + 6, len(part))
    assert_same(found, whole(part, 2))
