"""The network's grid over a volume of training, and boxes on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lnsdk import ops
from lnsdk.ops.slices import Ranges, grid_shape
from lnsdk.pipelines.grid import cover
from lnsdk.trainers.networks.lens import FULL_WINDOW
from lnsdk.volume import Volume

GRID_SPACING = (0.8, 0.8, 2.0)
"""mm along x, y, z (LENS VI-A)."""


@dataclass(frozen=True, eq=False)
class GridFrame:
    """Where the network's grid lies in a volume.

    Attributes
    ----------
    scale : ndarray, (3,)
        Grid pixels per voxel along x, y, z.
    ranges : ((z0, z1), (y0, y1), (x0, x1))
        Part of the whole grid that is kept.
    """

    scale: np.ndarray
    ranges: Ranges

    @property
    def origin(self) -> np.ndarray:
        """First pixel that is kept, x, y, z."""
        return np.asarray([start for start, _ in self.ranges[::-1]], np.float32)

    @property
    def depth(self) -> int:
        """Number of slices."""
        return self.ranges[0][1] - self.ranges[0][0]

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N, 6) of the volume's voxels in grid pixels."""
        return np.asarray(boxes * np.tile(self.scale, 2) - np.tile(self.origin, 2))


def grid_frame(volume: Volume) -> GridFrame:
    """The runtime's grid over the whole length of a volume, from its first slice on, and in plane over its body alone.

    The runtime's crop begins at multiples of the network's stride and its slices at multiples of their distance; crops
    of training are drawn anywhere, so none of that matters here.
    """
    _, rows, columns = ops.body_box(volume.voxels, volume.spacing)
    count, height, width = grid_shape(volume.shape, volume.spacing, GRID_SPACING)
    x, y, _ = (own / grid for own, grid in zip(volume.spacing, GRID_SPACING, strict=True))
    ranges = (0, count), cover(rows, y, height), cover(columns, x, width)
    return GridFrame(np.asarray(volume.spacing) / GRID_SPACING, ranges)


def read_grid(volume: Volume, frame: GridFrame) -> np.ndarray:
    """The volume on the grid: float16 (z, y, x), 0..255."""
    grid = ops.resample_window(volume.voxels, volume.spacing, GRID_SPACING, window=FULL_WINDOW, crop=frame.ranges)
    return grid.astype(np.float16)


def sections(z: np.ndarray, slices: np.ndarray, slice_boxes: np.ndarray, frame: GridFrame) -> np.ndarray:
    """Cross-sections of a lesion on given grid slices, interpolated between native slices.

    Parameters
    ----------
    z : ndarray of int, (N,)
        Grid slices.
    slices : ndarray, (K,)
        Native slices that show the lesion, ascending; beyond them the first and the last one hold.
    slice_boxes : ndarray, (K, 4)
        Its box x1, y1, x2, y2 on each of them, in voxels.
    frame : GridFrame
        Of the volume.

    Returns
    -------
    ndarray, (N, 5)
        z, x1, y1, x2, y2 in grid pixels.
    """
    at = (z + frame.origin[2]) / frame.scale[2]
    columns = [np.interp(at, slices, slice_boxes[:, c]) for c in range(4)]
    boxes = np.stack(columns, axis=1) * np.tile(frame.scale[:2], 2) - np.tile(frame.origin[:2], 2)
    return np.concatenate((z[:, None], boxes), axis=1)
