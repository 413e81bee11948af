"""Tiny bodies with bright blocks and balls at known places, which the tests write in each data set's format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from lnsdk.trainers.common.cases import GridCase, read_grid_cases
from lnsdk.trainers.datasets.prepare import write_recording
from lnsdk.trainers.datasets.recording import Recording
from lnsdk.volume import Volume

AIR, BODY, BRIGHT = -1000, 40, 1000
SPACING = (1.6, 1.6, 2.0)
"""Twice the grid's in plane: linear interpolation keeps the widths of blocks exactly."""

ORIGIN = (-70.0, 30.0, -200.0)
AFFINE = np.array(
    [[SPACING[0], 0, 0, ORIGIN[0]], [0, SPACING[1], 0, ORIGIN[1]], [0, 0, SPACING[2], ORIGIN[2]], [0, 0, 0, 1]]
)


def body(depth: int = 10) -> NDArray[np.int16]:
    """A body of 46 x 44 pixels in air, (z, 64, 64): the grid's crop does not start at the first pixel."""
    voxels = np.full((depth, 64, 64), AIR, np.int16)
    voxels[:, 12:56, 10:56] = BODY
    return voxels


def blocks(depth: int = 10) -> NDArray[np.int16]:
    """Labels: 1 is 10 x 6 pixels on slices 2 to 4, 2 is 5 x 4 pixels on slices 6 and 7."""
    labels = np.zeros((depth, 64, 64), np.int16)
    labels[2:5, 30:36, 20:30] = 1
    labels[6:8, 44:48, 40:45] = 2
    return labels


BLOCK_BOXES = {1: (19.5, 29.5, 1.5, 29.5, 35.5, 4.5), 2: (39.5, 43.5, 5.5, 44.5, 47.5, 7.5)}
"""x1, y1, z1, x2, y2, z2 of `blocks` in voxels."""


def with_blocks() -> Volume:
    """The body with bright blocks."""
    voxels = body()
    voxels[blocks() > 0] = BRIGHT
    return Volume(voxels, AFFINE)


def image(voxels: NDArray[np.int16], orientation: str = "LPS") -> SimpleITK.Image:
    """Voxels at `AFFINE` as an image whose axes are stored in another order and direction, such as "RAS"."""
    made = SimpleITK.GetImageFromArray(voxels)
    made.SetSpacing(SPACING)
    made.SetOrigin(ORIGIN)
    oriented: SimpleITK.Image = SimpleITK.DICOMOrient(made, orientation)
    return oriented


def on_grid(recording: Recording, folder: Path) -> GridCase:
    """Bring a recording onto the grid and read the case."""
    assert write_recording(recording, folder) == ""
    (case,) = read_grid_cases(folder, [recording.name])
    return case


def brightness(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """0 where grid values are those of the body or less, 1 where they are bright."""
    body_level, bright_level = ((hu + 1024) * 255 / 4095 for hu in (BODY, BRIGHT))
    return np.clip((values.astype(np.float64) - body_level) / (bright_level - body_level), 0, 1)


def measured_box(values: NDArray[np.floating]) -> list[float]:
    """x1, y1, x2, y2 of the only bright thing on a grid slice: its profiles' centroids and widths."""
    ends = []
    for axis in (0, 1):
        profile = brightness(values).max(axis=axis)
        center = float((profile * np.arange(len(profile))).sum() / profile.sum())
        ends.append((center - profile.sum() / 2, center + profile.sum() / 2))
    (x1, x2), (y1, y2) = ends
    return [x1, y1, x2, y2]


def near(
    case: GridCase, row: NDArray[np.floating], margin: int = 4
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The part of a grid slice around a box, and the box x1, y1, x2, y2 in that part."""
    x, y = np.floor(row[1:3]).astype(int) - margin
    end_x, end_y = np.ceil(row[3:5]).astype(int) + margin
    x, y = max(x, 0), max(y, 0)
    return np.asarray(case.grid[int(row[0]), y:end_y, x:end_x]), row[1:] - [x, y, x, y]


def assert_on_bright_voxels(case: GridCase, row: NDArray[np.floating], tolerance: float = 0.05) -> None:
    """A box lies on the bright thing it is drawn around."""
    values, box = near(case, row)
    np.testing.assert_allclose(box, measured_box(values), atol=tolerance)
