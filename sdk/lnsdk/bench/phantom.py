"""A simulated CT of an ordinary size, where there is none to time on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lnsdk.phantom import chest_phantom, draw_lesions, insert_lesions

SEED = 3_200_000
"""Beyond those of training, validation, test and verification."""

SLICES, SPACING, SIZE = 100, (0.7, 0.7, 3.0), 512
"""Slices, distances (x, y, z mm), rows and columns."""

LESIONS = 12
"""Lesions at most."""


def write_phantom(path: Path) -> Path:
    """Write a phantom CT with simulated lesions as ``voxels`` (z, y, x) in HU and ``affine`` into an ``.npz`` file."""
    rng = np.random.default_rng(SEED)
    phantom = chest_phantom(SEED, slices=SLICES, spacing=SPACING, size=SIZE)
    lesions = draw_lesions(phantom.volume, phantom.organs, LESIONS, rng)
    volume, _ = insert_lesions(phantom.volume, lesions, rng)
    np.savez(path, voxels=volume.voxels, affine=volume.affine)
    return path
