"""CTs to verify on: a user's own, and simulated ones whose lesions are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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

SIMULATED = 12
"""Simulated CTs of a gate, with about 140 lesions: one more or less changes the mean sensitivity by under a point."""


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


def recorded_cases(paths: Iterable[str | Path]) -> Iterator[VerificationCase]:
    """Read CTs one after the other; they are numbered, since their files may be named after patients.

    See `lnsdk.read` for what may be at a path and what is raised.
    """
    for number, path in enumerate(paths, start=1):
        yield VerificationCase(f"CT {number}", read(path))


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
    for number in range(count):
        yield simulated_case(f"simulated CT {number + 1}", FIRST_SEED + number, SLICES, SPACING)


def simulated_case(name: str, seed: int, slices: int, spacing: tuple[float, float, float]) -> VerificationCase:
    """Make a phantom CT with simulated lesions; spacing is x, y, z in mm."""
    rng = np.random.default_rng(seed)
    phantom = chest_phantom(seed, slices=slices, spacing=spacing)
    lesions = draw_lesions(phantom.volume, phantom.organs, LESIONS, rng)
    volume, truths = insert_lesions(phantom.volume, lesions, rng)
    return VerificationCase(name, volume, np.array([truth.box for truth in truths], np.float32).reshape(-1, 6))
