"""NMS of one slice's proposals against torchvision.ops.nms; both must keep the same boxes."""

from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray

from lnsdk import ops

IOU_THRESHOLD = 0.7


def _proposals(count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes around 40 places, as a detector's proposals crowd around what it finds, with scores to match."""
    random = np.random.default_rng(0)
    place = random.integers(0, 40, count)
    centers = random.random((40, 2))[place] * 368 + random.normal(0, 3, (count, 2))
    sizes = 8 + 40 * random.random((40, 1))[place] * random.uniform(0.7, 1.4, (count, 2))
    boxes = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1)
    return boxes.astype(np.float32), random.random(count, np.float32)


@pytest.mark.parametrize("count", [1000, 6000, 50_000])
@pytest.mark.parametrize("library", ["lnsdk", "torchvision"])
def test_nms(benchmark: Any, library: str, count: int) -> None:
    benchmark.group = f"nms, {count} boxes"
    boxes, scores = _proposals(count)
    tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
    if library == "lnsdk":
        kept = benchmark(ops.nms, boxes, scores, IOU_THRESHOLD)
    else:
        kept = benchmark(torchvision.ops.nms, *tensors, IOU_THRESHOLD).numpy()
    np.testing.assert_array_equal(kept, torchvision.ops.nms(*tensors, IOU_THRESHOLD).numpy())
