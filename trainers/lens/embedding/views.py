"""Views of a lesion that its embedding is made from: one close, one of the body around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from lnsdk.trainers.common.grid import GRID_SPACING
from lnsdk.trainers.common.samples import noise_sigma, read_slices
from lnsdk.trainers.networks.embedding import LesionViews

CLOSE = 48
"""Side of the close view in pixels."""

RIM = 1.5
"""Side of the close view over the lesion's longer side."""

LEAST_SIDE = 16
"""Least side of the close view in grid pixels: 13 mm, within which the smallest lesions differ in size."""

CONTEXT = 96
"""Side of the context view in pixels of `COARSE` grid pixels."""

COARSE = 4
"""Grid pixels of a context pixel: 3.2 mm, so the view covers 307 mm, most of a chest."""

CONTEXT_STEP = 8
"""Grid slices between the context's slices: 16 mm."""


class Scan(NamedTuple):
    """A volume at both resolutions.

    Attributes
    ----------
    grid : ndarray of float16, (z, y, x)
        Values 0..255.
    coarse : ndarray of float16, (z, y / 4, x / 4)
        Means of 4 x 4 pixels of its slices; rows and columns that fill no whole pixel are left out.
    """

    grid: NDArray[np.float16]
    coarse: NDArray[np.float16]


def scan(grid: NDArray[np.float16]) -> Scan:
    """A volume with its coarse copy."""
    depth, height, width = (size // step * step for size, step in zip(grid.shape, (1, COARSE, COARSE), strict=True))
    blocks = grid[:, :height, :width].reshape(depth, height // COARSE, COARSE, width // COARSE, COARSE)
    return Scan(grid, blocks.mean(axis=(2, 4), dtype=np.float32).astype(np.float16))


def view(volume: Scan, row: NDArray[np.float32], rng: np.random.Generator | None = None) -> LesionViews:
    """What the network sees of one box, as a batch of one.

    Parameters
    ----------
    volume : Scan
        Where the box lies.
    row : ndarray of float32, (5,)
        z, x1, y1, x2, y2.
    rng : Generator, optional
        Adds noise to the pictures and to the place.

    Returns
    -------
    LesionViews
    """
    z, grid = int(row[0]), volume.grid
    center, size = (row[1:3] + row[3:]) / 2, np.maximum(row[3:] - row[1:3], 1.0)
    side = max(LEAST_SIDE, round(RIM * float(size.max())))
    close = torch.from_numpy(_window(grid, z + np.arange(-1, 2), center, side))[None]
    close = interpolate(close, size=(CLOSE, CLOSE), mode="bilinear", align_corners=False, antialias=True)
    wide = _window(volume.coarse, z + np.arange(-1, 2) * CONTEXT_STEP, (center + 0.5) / COARSE - 0.5, CONTEXT)
    context = torch.from_numpy(wide)[None]
    place = 2 * center_of(row, grid.shape)[:2] - 1
    if rng is not None:
        place = place + rng.uniform(-0.06, 0.06, 2)
        close, context = _noisy(close, rng), _noisy(context, rng)
    sizes = np.log(size * GRID_SPACING[:2]) - np.log(15.0)
    measures = torch.tensor(np.concatenate((place, sizes)), dtype=torch.float32)[None]
    return LesionViews(close, context, measures)


def stack_views(views: Sequence[LesionViews]) -> LesionViews:
    """Batches of one as one batch."""
    return LesionViews(*(torch.cat(parts) for parts in zip(*views, strict=True)))


def jitter(row: NDArray[np.float32], depth: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Move and resize a box as a detector or another study would: by a slice, 15 % of its size, and a third in size."""
    size = row[3:] - row[1:3]
    center = (row[1:3] + row[3:]) / 2 + rng.uniform(-0.15, 0.15, 2) * size
    half = size / 2 * np.exp(rng.uniform(-0.3, 0.3) + rng.uniform(-0.1, 0.1, 2))
    z = np.clip(row[0] + rng.integers(-1, 2), 0, depth - 1)
    return np.array([z, *(center - half), *(center + half)], np.float32)


def _window(
    grid: NDArray[np.float16], slices: NDArray[np.int64], center: NDArray[np.floating], side: int
) -> NDArray[np.float32]:
    corner = np.round(center - (side - 1) / 2).astype(np.int64)
    return cast(NDArray[np.float32], read_slices(grid, slices, corner, side))


def _noisy(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Add noise of a random strength."""
    sigma = noise_sigma(rng)
    return (pictures + sigma * torch.from_numpy(rng.standard_normal(pictures.shape, np.float32))).clamp(0.0, 255.0)


def center_of(row: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float64]:
    """Centre of a box as shares of the grid along x, y, z."""
    center = np.array([(row[1] + row[3]) / 2, (row[2] + row[4]) / 2, row[0]], float)
    return np.asarray((center + 0.5) / np.array(shape[::-1], float))
