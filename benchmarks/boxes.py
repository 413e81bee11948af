"""Boxes as a detector proposes them, for the benchmarks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

EXTENT = 512.0
"""Side of the square, or cube, that the boxes lie in."""

PROPOSALS_PER_OBJECT = 20


def proposals(count: int, axes: int = 2, uniform: bool = False) -> tuple[Floats, Floats]:
    """Boxes and scores: crowds around ``count / 20`` places, or uniformly anywhere; sides from 8 to 60."""
    random = np.random.default_rng(0)
    centers = random.uniform(0, EXTENT, (count, axes))
    if not uniform:
        places = centers[: count // PROPOSALS_PER_OBJECT]
        centers = places[random.integers(0, len(places), count)] + random.normal(0, 3, (count, axes))
    return _around(centers, random.uniform(8, 60, (count, axes))), random.random(count, np.float32)


def detections_by_slice(slices: int, per_slice: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Boxes, scores and slices: objects that stay, but for jitter of their corners, through all slices."""
    random = np.random.default_rng(0)
    places, sides = random.uniform(0, EXTENT, (per_slice, 2)), random.uniform(8, 60, (per_slice, 2))
    boxes = np.tile(_around(places, sides), (slices, 1)) + random.normal(0, 1, (slices * per_slice, 4))
    scores = random.random(len(boxes), np.float32)
    return boxes.astype(np.float32), scores, np.repeat(np.arange(slices), per_slice)


def _around(centers: NDArray[Any], sides: NDArray[Any]) -> Floats:
    return np.concatenate([centers - sides / 2, centers + sides / 2], axis=1).astype(np.float32)
