import numpy as np
import pytest
from numpy.typing import NDArray

from lnsdk.ops import group_slices
from lnsdk.pipelines.features import centers, images

Array = NDArray[np.float32]


class ImageGraph:
    """Features that tell images apart, and a count of the images seen."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, batch: Array) -> dict[str, Array]:
        self.batches.append(len(batch))
        return {"whole": batch.reshape(len(batch), -1).copy(), "mean": batch.mean(axis=(2, 3))}


def grid(count: int) -> Array:
    return np.random.default_rng(count).random((count, 4, 5), np.float32)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 8, 40])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 16, 17, 33])
def test_reuse_gives_what_recomputing_gives(count: int, batch: int) -> None:
    slices = grid(count)
    graph = ImageGraph()
    done = 0
    for part in centers(lambda start, stop: slices[start:stop], count, graph, batch):
        assert part.start == done
        rows = len(part.own["whole"])
        done += rows
        groups = np.asarray(group_slices(slices, range(part.start, part.start + rows)), np.float32)
        for features, image in ((part.previous, 0), (part.own, 1), (part.following, 2)):
            expected = ImageGraph()(np.ascontiguousarray(groups[:, image]))
            assert features.keys() == expected.keys()
            for name in expected:
                assert np.array_equal(features[name], expected[name])
    assert done == count
    assert sum(graph.batches) == count + 2  # each image once, and one beyond each end
    assert max(graph.batches) <= batch


def test_fuse_inputs_are_named_after_their_image() -> None:
    slices = grid(5)
    part = next(centers(lambda start, stop: slices[start:stop], 5, ImageGraph(), 2))
    assert list(part.fuse_inputs()) == ["whole_prev", "whole", "whole_next", "mean_prev", "mean", "mean_next"]


def test_images_repeat_the_edge_slices() -> None:
    slices = grid(4)
    found = images(lambda start, stop: slices[start:stop], 4, -1, 5)
    order = [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3], [3, 3, 3]]
    assert np.array_equal(found, slices[np.array(order)])
