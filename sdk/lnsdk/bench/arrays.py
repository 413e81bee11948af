"""CTs as array files, for machines without DICOM files: ``voxels`` (z, y, x) in HU and ``affine`` in an ``.npz``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lnsdk.errors import InputError
from lnsdk.volume import Volume

SEED = 3_200_000
"""Of the phantom: beyond those of training, validation, test and verification."""

SLICES, SPACING = 100, (0.7, 0.7, 3.0)
"""Slices of 512 x 512, and distances (x, y, z mm)."""


def write_phantom(path: Path) -> Path:
    """Write a phantom CT of an ordinary size with simulated lesions, for where there is no other to time on."""
    from lnsdk.verification import simulated_case

    volume = simulated_case(path.stem, SEED, SLICES, SPACING).volume
    np.savez(path, voxels=volume.voxels, affine=volume.affine)
    return path


def read_array(path: Path) -> Volume:
    """Read a CT from an array file.

    Raises
    ------
    InputError
        ``array-file`` when it is none, or lacks something.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            return Volume(content["voxels"], content["affine"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError("array-file", f"{path.name} is no .npz file with voxels and affine: {error}") from error
