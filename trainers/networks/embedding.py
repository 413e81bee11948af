"""Network that describes a lesion by its looks and its place in the body; it stands in for LesaNet (LENS V-B)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lnsdk.trainers.networks.lens import FULL_WINDOW, Windows

SLICES = 3
"""Slices of either crop."""

GROUPS = 4
"""Groups of every normalization; by group and not by batch, so that an embedding does not depend on its company."""


@dataclass(frozen=True)
class EmbeddingShape:
    """Sizes of the network.

    Attributes
    ----------
    types : tuple of str
        Lesion types that it tells apart.
    channels : tuple of int
        Channels of the stride-2 convolutions of either branch, multiples of 4.
    hidden : int
        Width of the layer over both branches.
    dimensions : int
        Length of an embedding.
    windows : tuple of (float, float)
        HU windows that every slice is split into: full, lung and soft tissue, as the thin detector's.
    """

    types: tuple[str, ...]
    channels: tuple[int, ...] = (16, 32, 64, 64)
    hidden: int = 128
    dimensions: int = 64
    windows: tuple[tuple[float, float], ...] = (FULL_WINDOW, (-1000.0, 200.0), (-160.0, 240.0))


class LesionViews(NamedTuple):
    """What the network sees of lesions.

    Attributes
    ----------
    close : Tensor, (N, 3, S, S)
        The lesion and its rim on neighbouring slices, resized; 0..255.
    context : Tensor, (N, 3, C, C)
        The body around it, coarse, on slices farther apart; 0..255.
    measures : Tensor, (N, 4)
        Its place in the grid's plane (x, y; -1..1) and the logarithms of its width and height in mm, centred.
    """

    close: Tensor
    context: Tensor
    measures: Tensor


class EmbeddingNetwork(nn.Module):
    """Two convolutional branches, close and context, and a layer over both; type and location are read off the result.

    Parameters
    ----------
    shape : EmbeddingShape
        Sizes.
    """

    def __init__(self, shape: EmbeddingShape) -> None:
        super().__init__()
        self.shape = shape
        self.windows = Windows(shape.windows)
        self.close = _branch(SLICES * self.windows.count, shape.channels)
        self.context = _branch(SLICES * self.windows.count, shape.channels)
        features = 2 * 9 * shape.channels[-1] + 4
        self.join = nn.Sequential(
            nn.Linear(features, shape.hidden), nn.ReLU(), nn.Linear(shape.hidden, shape.dimensions)
        )
        self.classify = nn.Linear(shape.dimensions, len(shape.types))
        self.locate = nn.Linear(shape.dimensions, 3)

    def forward(self, views: LesionViews) -> Tensor:
        """L2-normalised embeddings (N, dimensions)."""
        close = self.close(self.windows(views.close))
        context = self.context(self.windows(views.context))
        return normalize(self.join(torch.cat((close, context, views.measures), dim=1)), dim=1)


def _branch(inputs: int, channels: tuple[int, ...]) -> nn.Sequential:
    """Stride-2 convolutions, pooled to 3 x 3 so that left and right, front and back stay apart: (N, 9 x channels)."""
    layers: list[nn.Module] = []
    for outputs in channels:
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.GroupNorm(GROUPS, outputs)]
        layers.append(nn.ReLU(inplace=True))
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten())
