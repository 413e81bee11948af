"""Stacking of slice boxes against the loop that a user would write (no library offers it)."""

from typing import Any

import numpy as np
import pytest

from lnsdk import ops
from tests import naive


@pytest.mark.parametrize("library", ["lnsdk", "Python loops"])
def test_stack_boxes(benchmark: Any, library: str) -> None:
    benchmark.group = "stack boxes, 148 slices of 20 boxes"
    random = np.random.default_rng(0)
    slices = np.repeat(np.arange(148), 20)
    low = (random.random((20, 2)) * 300)[np.tile(np.arange(20), 148)] + random.normal(0, 2, (len(slices), 2))
    boxes = np.concatenate([low, low + 20], axis=1).astype(np.float32)
    scores = random.random(len(slices), np.float32)
    if library == "lnsdk":
        stacked = benchmark(ops.stack_boxes, boxes, scores, slices, 0.5)
    else:
        stacked = benchmark.pedantic(naive.stack_boxes, (boxes, scores, slices, 0.5), rounds=1)
    np.testing.assert_array_equal(stacked.boxes, ops.stack_boxes(boxes, scores, slices, 0.5).boxes)
    np.testing.assert_array_equal(stacked.members, ops.stack_boxes(boxes, scores, slices, 0.5).members)
