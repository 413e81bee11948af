"""The network's grid: a volume reoriented, cropped to the body, resampled slice by slice, and the way back.

Grid boxes are x1, y1, z1, x2, y2, z2 in continuous grid indices, the centre of the crop's first sample at 0.

Where the grid's samples lie in the patient does not depend on how much of the patient is there: its slices lie at whole
multiples of their distance along the patient, and a crop begins at a multiple of the network's coarsest stride. So what
the network sees of a place is the same whichever slices arrive first and whatever the crop, but for the crop's border.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnsdk import ops
from lnsdk.ops.body import body_extent
from lnsdk.ops.slices import Ranges, grid_shape
from lnsdk.pipelines.settings import Settings
from lnsdk.volume import AxisMap, Volume, to_lps_axes

Range = tuple[int, int]

DECIMALS = 6
"""Places are rounded to a millionth of a slice and of a mm: flipping a volume and back moves them by less."""


@dataclass(frozen=True)
class Grid:
    """A volume as the network sees it, resampled when its slices are asked for.

    Attributes
    ----------
    source : Volume
        The volume as given.
    volume : Volume
        The same with axes along the patient's left, back and head.
    axis_map : AxisMap
        The way back from `volume` to `source`.
    spacing : tuple of float
        Grid spacing (x, y, z) in mm.
    place : int
        Of the first grid slice: its position along the patient over the distance of the grid's slices. It means nothing
        for a volume too thin to hold such a place.
    offset : float
        From the first slice of `volume` to the first grid slice, mm.
    window : tuple of float
        HU that become 0 and 255.
    rows, columns : tuple of int
        Half-open ranges of the whole grid's y and x that are used: those of the body, up to multiples of the padding
        where the volume reaches that far, or all.
    height, width : int
        Size of the network's input: that of the crop, padded.
    count : int
        Number of grid slices.
    """

    source: Volume
    volume: Volume
    axis_map: AxisMap
    spacing: tuple[float, float, float]
    place: int
    offset: float
    window: tuple[float, float]
    rows: Range
    columns: Range
    height: int
    width: int
    count: int

    def slices(self, start: int, stop: int) -> NDArray[np.float32]:
        """Resample grid slices.

        Parameters
        ----------
        start, stop : int
            Half-open range of slices, within the grid.

        Returns
        -------
        ndarray of float32, shape (stop - start, height, width)
            Values 0..255; the padding below and right of the crop is 0, that is air.
        """
        grid = np.empty((stop - start, self.height, self.width), np.float32)
        height, width = self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]
        grid[:, height:] = 0
        grid[:, :, width:] = 0
        ops.resample_window(
            self.volume.voxels,
            self.volume.spacing,
            self.spacing,
            window=self.window,
            crop=((start, stop), self.rows, self.columns),
            out=grid[:, :height, :width],
            origin=self.origin,
        )
        return grid

    @property
    def origin(self) -> tuple[float, float, float]:
        """From the volume's first sample to that of the whole grid, x, y, z in mm."""
        return 0.0, 0.0, self.offset

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size (z, y, x) of the crop, without padding."""
        return self.count, self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    def block(self, ranges: Ranges) -> NDArray[np.float32]:
        """Resample a part of the crop, and nothing else of the volume.

        Parameters
        ----------
        ranges : tuple of (int, int)
            Half-open ranges of the crop's slices, rows and columns, within `shape`.

        Returns
        -------
        ndarray of float32
            Values 0..255, bitwise those of `slices`.
        """
        slices, rows, columns = ranges
        top, left = self.rows[0], self.columns[0]
        return ops.resample_window(
            self.volume.voxels,
            self.volume.spacing,
            self.spacing,
            window=self.window,
            crop=(slices, (top + rows[0], top + rows[1]), (left + columns[0], left + columns[1])),
            origin=self.origin,
        )

    def to_voxels(self, boxes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Convert grid boxes (N, 6) to continuous voxel indices of `volume`; nothing is clipped."""
        first = np.array([self.columns[0], self.rows[0], 0.0])
        corners = boxes.astype(np.float64).reshape(-1, 2, 3)
        millimetres = (corners + first) * self.spacing + self.origin
        return np.asarray(millimetres / self.volume.spacing).reshape(-1, 6)


def make_grid(volume: Volume, settings: Settings, crop: str) -> Grid | None:
    """Lay the network's grid over a volume.

    Parameters
    ----------
    volume : Volume
        In any orientation.
    settings : Settings
        Grid spacing, window and padding.
    crop : str
        ``"body"`` uses the rows and columns that the body covers, ``"none"`` all of them.

    Returns
    -------
    Grid or None
        None when the volume holds nothing but air (`lnsdk.ops.is_air`).
    """
    reoriented, axis_map = to_lps_axes(volume)
    if ops.is_air(reoriented.voxels, reoriented.spacing):
        return None
    body = body_extent(reoriented.voxels, reoriented.spacing) if crop == "body" else None
    return lay_grid(volume, reoriented, axis_map, settings, *crop_around(body, reoriented, settings))


def crop_around(body: tuple[Range, Range] | None, volume: Volume, settings: Settings) -> tuple[Range, Range]:
    """Rows and columns of the whole grid that are used.

    Parameters
    ----------
    body : (Range, Range) or None
        Half-open ranges of the voxels' rows and columns that must be among them; None is all.
    volume : Volume
        With axes along the patient's; or a part of its slices.
    settings : Settings
        Grid spacing and padding.
    """
    _, height, width = grid_shape(volume.shape, volume.spacing, settings.spacing)
    if body is None:
        return (0, height), (0, width)
    rows, columns = (
        _on_multiples(cover(voxels, volume.spacing[axis] / settings.spacing[axis], count), settings.multiple, count)
        for voxels, axis, count in ((body[0], 1, height), (body[1], 0, width))
    )
    return rows, columns


def lay_grid(
    source: Volume, volume: Volume, axis_map: AxisMap, settings: Settings, rows: Range, columns: Range
) -> Grid:
    """Lay the network's grid over given rows and columns; see `Grid` for all of them."""
    place, offset = first_place(volume, settings.spacing[2]) or (0, 0.0)
    count, _, _ = grid_shape(volume.shape, volume.spacing, settings.spacing, (0.0, 0.0, offset))
    return Grid(
        source=source,
        volume=volume,
        axis_map=axis_map,
        spacing=settings.spacing,
        place=place,
        offset=offset,
        window=settings.window,
        rows=rows,
        columns=columns,
        height=_padded(rows, settings.multiple),
        width=_padded(columns, settings.multiple),
        count=count,
    )


def first_place(volume: Volume, distance: float) -> tuple[int, float] | None:
    """The first place within a volume that is a multiple of a distance, counted along its slices' axis.

    Parameters
    ----------
    volume : Volume
        With axes along the patient's.
    distance : float
        In mm.

    Returns
    -------
    (int, float) or None
        The multiple, counted from the origin of the patient's coordinates, and how far it is from the first slice in
        mm. None when the volume is too thin to hold one.
    """
    axis = volume.affine[:3, 2] / volume.spacing[2]
    start, length = float(volume.affine[:3, 3] @ axis), (volume.shape[0] - 1) * volume.spacing[2]
    place = int(np.ceil(round(start / distance, DECIMALS)))
    offset = max(0.0, round(place * distance - start, DECIMALS))
    return (place, offset) if offset <= length else None


def cover(voxels: Range, scale: float, count: int) -> Range:
    """Return the grid samples that cover a half-open range of voxels.

    Parameters
    ----------
    voxels : tuple of int
        Along one axis, half-open.
    scale : float
        Grid samples per voxel along it.
    count : int
        Samples of the whole grid along it.
    """
    start = min(int(np.floor(voxels[0] * scale)), count - 1)
    stop = min(int(np.ceil((voxels[1] - 1) * scale)) + 1, count)
    return start, max(stop, start + 1)


def _on_multiples(span: Range, multiple: int, count: int) -> Range:
    """The smallest range around another that begins and, where the grid has so many samples, ends at multiples."""
    return span[0] // multiple * multiple, min(-(-span[1] // multiple) * multiple, count)


def _padded(span: Range, multiple: int) -> int:
    return -(-(span[1] - span[0]) // multiple) * multiple
