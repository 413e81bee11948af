"""Normalised windows of an image against PyTorch's unfold."""

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import limits
from benchmarks.measuring import Case, Measure, Peer
from lnsdk import ops

SIDE, PATCH, STRIDE = 1000, 40, 10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_gather_patches(measure: Measure) -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    starts = np.arange(0, SIDE - PATCH + 1, STRIDE)
    corners = np.stack(np.meshgrid(starts, starts, indexing="ij"), axis=-1).reshape(-1, 2)
    out = np.zeros((len(corners), 3, PATCH, PATCH), np.float32)
    answers = measure(
        Case(
            name="gather_patches",
            size=f"{len(corners)} of {PATCH} x {PATCH} x 3",
            count=len(corners),
            unit="window",
            ours=lambda: ops.gather_patches(image, corners, PATCH, MEAN, STD, out=out),
            fresh=lambda: ops.gather_patches(image, corners, PATCH, MEAN, STD),
            peers=[
                Peer("torch unfold", lambda: _unfold_first(image), at_least=3),
                Peer("torch unfold of float32", lambda: _normalise_first(image), at_least=3),
            ],
            note="The second peer normalises the image before it is unfolded: each pixel once, not once a window.",
            limit=limits.moved_at_copy_rate(image.nbytes, out.nbytes, at_most=2),
        )
    )
    for name, answer in answers.items():
        assert np.abs(answers["ours"] - np.asarray(answer)).max() < 2e-6, name


def _unfold_first(image: NDArray[np.uint8]) -> torch.Tensor:
    windows = torch.from_numpy(image).unfold(0, PATCH, STRIDE).unfold(1, PATCH, STRIDE)
    return _normalised(windows.reshape(-1, 3, PATCH, PATCH).float())


def _normalise_first(image: NDArray[np.uint8]) -> torch.Tensor:
    """Normalises each pixel once instead of once a window: possible because the windows overlap."""
    channels = _normalised(torch.from_numpy(image).permute(2, 0, 1).float())
    windows = channels.unfold(1, PATCH, STRIDE).unfold(2, PATCH, STRIDE)
    return windows.permute(1, 2, 0, 3, 4).reshape(-1, 3, PATCH, PATCH)


def _normalised(values: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    return values.div_(255).sub_(mean).div_(std)
