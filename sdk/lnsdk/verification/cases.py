"""CTs to verify on: a user's own, and simulated ones whose lesions are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lnsdk.io import read
from lnsdk.phantom import chest_phantom, draw_lesions, insert_lesions
from lnsdk.volume import Volume

FIRST_SEED = 3_100_000
"""Seed of the first phantom: beyond those of training, validation and test."""

SPACING = (0.75, 0.75, 3.0)
"""Of the simulated CTs, x, y, z in mm."""

SLICES = 48
"""Of a simulated CT."""

LESIONS = 12
"""Lesions in a simulated CT at most."""


@dataclass(frozen=True)
class VerificationCase:
    """A CT.

    Attributes
    ----------
    name : str
        For the report.
    volume : Volume
        The CT.
    boxes : ndarray of float32, shape (M, 6), or None
        x1, y1, z1, x2, y2, z2 of every lesion in the volume's voxels; None where they are not known.
    """

    name: str
    volume: Volume
    boxes: NDArray[np.float32] | None = None


def recorded_case(path: str | Path) -> VerificationCase:
    """Read a CT; see `lnsdk.read` for what may be there and what is raised."""
    return VerificationCase(Path(path).name, read(path))


def simulated_cases(count: int) -> Iterator[VerificationCase]:
    """Make phantom CTs with simulated lesions, always the same ones, none of which a model was trained on.

    Parameters
    ----------
    count : int
        How many.

    Yields
    ------
    VerificationCase
        With the boxes of its lesions.
    """
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        rng = np.random.default_rng(seed)
        phantom = chest_phantom(seed, slices=SLICES, spacing=SPACING)
        lesions = draw_lesions(phantom.volume, phantom.organs, LESIONS, rng)
        volume, truths = insert_lesions(phantom.volume, lesions, rng)
        boxes = np.array([truth.box for truth in truths], np.float32).reshape(-1, 6)
        yield VerificationCase(f"simulated {seed - FIRST_SEED + 1}", volume, boxes)
