"""Vote heat map of a scanned slide against PyTorch's fold and MONAI's merging of sliding windows."""

from typing import Any

import numpy as np
import pytest
import torch
from monai.inferers.merger import AvgMerger
from numpy.typing import NDArray

from benchmarks import limits
from benchmarks.measuring import Case, Measure, Peer
from lnsdk import ops

PATCH, STRIDE = 40, 10

LARGEST_FOR_PEERS = 5000
"""Pixels along a side: beyond, fold's columns take gigabytes and MONAI's loop over the windows half a minute.

Smaller maps fit into caches, where memory is no limit, and have no targets."""


@pytest.mark.parametrize("side", [500, 1000, 2000, 5000, 10_000])
def test_vote_heatmap(measure: Measure, side: int) -> None:
    shape, windows = (side, side), (side - PATCH) // STRIDE + 1
    votes = np.random.default_rng(0).random((windows, windows), np.float32)
    out = np.zeros(shape, np.float32)
    large = side >= LARGEST_FOR_PEERS
    target = 100 if large else None
    peers = [
        Peer("torch fold", lambda: _fold(votes, side), target),
        Peer("MONAI AvgMerger", lambda: _merge(votes, side), target),
    ]
    answers = measure(
        Case(
            name="vote_heatmap",
            size=f"{side} x {side} pixels",
            count=side * side,
            unit="pixel",
            ours=lambda: ops.vote_heatmap(votes, PATCH, STRIDE, shape, out=out),
            fresh=lambda: ops.vote_heatmap(votes, PATCH, STRIDE, shape),
            peers=peers if side <= LARGEST_FOR_PEERS else [],
            limit=limits.moved_at_copy_rate(votes.nbytes, out.nbytes, 2) if large else None,
            note=_note(side, windows),
        )
    )
    if side <= LARGEST_FOR_PEERS:
        np.testing.assert_allclose(answers["ours"], answers["torch fold"], rtol=1e-5)
        averages = ops.vote_heatmap(votes, PATCH, STRIDE, shape, normalize=True)
        np.testing.assert_allclose(averages, answers["MONAI AvgMerger"], rtol=1e-5)
    else:  # the middle of the map depends on the votes around it alone
        middle, around = slice(4800, 5200), slice(476, 520)
        nearby = _fold(votes[around, around], 470)
        np.testing.assert_allclose(answers["ours"][middle, middle], nearby[40:440, 40:440], rtol=1e-5)


def _note(side: int, windows: int) -> str:
    if side <= LARGEST_FOR_PEERS:
        return ""
    columns = PATCH * PATCH * windows * windows * 4 / 1e9
    return (
        f"Peers are compared up to {LARGEST_FOR_PEERS} pixels: here fold would need {columns:.1f} GB for its columns, "
        f"and MONAI visits {windows * windows} windows one by one. Compare the times per pixel."
    )


def _fold(votes: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    columns = torch.from_numpy(votes).reshape(1, 1, -1).expand(1, PATCH * PATCH, -1)
    folded = torch.nn.functional.fold(columns, (side, side), PATCH, stride=STRIDE)
    return (folded[0, 0] * (STRIDE / PATCH) ** 2).numpy()


def _merge(votes: NDArray[np.float32], side: int) -> Any:
    """As MONAI's sliding-window inference joins its windows: averages."""
    merger = AvgMerger((1, 1, side, side))
    values = torch.from_numpy(votes)
    for row in range(len(votes)):
        for column in range(len(votes)):
            merger.aggregate(values[row, column].expand(1, 1, PATCH, PATCH), (row * STRIDE, column * STRIDE))
    return merger.finalize()[0, 0].numpy()
