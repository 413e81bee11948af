"""Vote heat map of a scanned slide against torch.nn.functional.fold, the transposed sliding window of PyTorch."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lnsdk import ops

PATCH, STRIDE, SHAPE = 256, 64, (2048, 2048)
COUNT = (SHAPE[0] - PATCH) // STRIDE + 1


def _fold(votes: NDArray[np.float32]) -> NDArray[np.float32]:
    columns = torch.from_numpy(votes).reshape(1, 1, -1).expand(1, PATCH * PATCH, -1)
    folded = torch.nn.functional.fold(columns, SHAPE, PATCH, stride=STRIDE)
    return (folded[0, 0] * (STRIDE / PATCH) ** 2).numpy()


@pytest.mark.parametrize("library", ["lnsdk", "torch fold"])
def test_vote_heatmap(benchmark: Any, library: str) -> None:
    benchmark.group = f"vote heat map, {SHAPE[0]} x {SHAPE[1]}, {COUNT} x {COUNT} windows"
    votes = np.random.default_rng(0).random((COUNT, COUNT), np.float32)
    if library == "lnsdk":
        heatmap = benchmark(ops.vote_heatmap, votes, PATCH, STRIDE, SHAPE)
    else:
        heatmap = benchmark(_fold, votes)
    np.testing.assert_allclose(heatmap, _fold(votes), rtol=1e-5)
