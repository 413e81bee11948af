"""Volume: CT voxels, where they lie in the patient, and what was odd about their series.

Arrays are (z, y, x). Points and boxes are x, y, z in continuous voxel indices, the first voxel's centre at 0
(DICOM PS3.3 C.7.6.2.1.1). World coordinates are DICOM LPS in mm: x to the patient's left, y to the back, z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np
import numpy.typing as npt

SMALLEST_DETERMINANT = 1e-9
"""Volume of a voxel in mm^3 below which an affine counts as singular."""

SPACING_RANGE_MM = (0.01, 100.0)
"""Spacings of any CT lie in here; beyond it a file's header is wrong."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Size and place of a volume, without its voxels.

    Parameters
    ----------
    shape
        Number of voxels (z, y, x).
    affine
        float64 (4, 4): voxel (x, y, z, 1) to LPS in mm.

    Raises
    ------
    ValueError
        When the shape is not three positive numbers or the affine is not a finite, invertible (4, 4) matrix.
    """

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check both, and keep private copies."""
        object.__setattr__(self, "shape", _checked_shape(self.shape))
        object.__setattr__(self, "affine", _checked_affine(self.affine))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along x, y, z in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def voxels_to_lps(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Convert points from voxel indices to patient coordinates.

        Parameters
        ----------
        points
            (N, 3): continuous voxel indices x, y, z.

        Returns
        -------
        float64 (N, 3): LPS in mm.
        """
        return _checked_points(points) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def lps_to_voxels(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Convert points from patient coordinates to voxel indices.

        Parameters
        ----------
        points
            (N, 3): LPS in mm.

        Returns
        -------
        float64 (N, 3): continuous voxel indices x, y, z.
        """
        offsets = _checked_points(points) - self.affine[:3, 3]
        return np.linalg.solve(self.affine[:3, :3], offsets.T).T.astype(np.float64, copy=False)


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT volume in Hounsfield units.

    Parameters
    ----------
    voxels
        int16 (z, y, x), HU. Kept in C order; copied only when it is not.
    affine
        float64 (4, 4): voxel (x, y, z, 1) to LPS in mm.
    warnings
        What was odd about the source but could be used, one sentence each.
    series_uid, study_uid, frame_of_reference_uid
        DICOM identifiers, empty where the source has none.
    sop_instance_uids
        SOP Instance UID of each slice along z (multi-frame objects repeat theirs; a slice that was interpolated
        carries that of the nearest slice), or empty.
    frame_numbers
        For multi-frame objects the frame of each slice in its object, from 1 (PS3.3 C.7.6.6); empty for single-frame
        ones and other sources.
    description
        Series description, or empty.

    Raises
    ------
    TypeError
        When the voxels are not int16.
    ValueError
        When the voxels are not three-dimensional or empty, the affine is not a finite, invertible (4, 4) matrix,
        or the number of SOP Instance UIDs or of frame numbers is neither 0 nor that of the slices.
    """

    voxels: npt.NDArray[np.int16]
    affine: npt.NDArray[np.float64]
    warnings: tuple[str, ...] = ()
    series_uid: str = ""
    study_uid: str = ""
    frame_of_reference_uid: str = ""
    sop_instance_uids: tuple[str, ...] = field(default=(), repr=False)
    frame_numbers: tuple[int, ...] = field(default=(), repr=False)
    description: str = ""

    def __post_init__(self) -> None:
        """Check what was given; make the voxels contiguous and the affine private."""
        voxels = np.asarray(self.voxels)
        if voxels.dtype != np.int16:
            raise TypeError(f"voxels must be HU as int16, got {voxels.dtype}: round and convert them first")
        _checked_shape(voxels.shape)
        object.__setattr__(self, "voxels", np.ascontiguousarray(voxels))
        object.__setattr__(self, "affine", _checked_affine(self.affine))
        object.__setattr__(self, "warnings", tuple(self.warnings))
        for name in ("sop_instance_uids", "frame_numbers"):
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)
            if len(values) not in (0, len(voxels)):
                raise ValueError(f"{name} must be empty or one per slice: expected {len(voxels)}, got {len(values)}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels (z, y, x)."""
        z, y, x = self.voxels.shape
        return z, y, x

    @property
    def geometry(self) -> Geometry:
        """Shape and affine."""
        return Geometry(self.shape, self.affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along x, y, z in mm."""
        return self.geometry.spacing

    def voxels_to_lps(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Convert (N, 3) continuous voxel indices x, y, z to LPS in mm."""
        return self.geometry.voxels_to_lps(points)

    def lps_to_voxels(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Convert (N, 3) LPS points in mm to continuous voxel indices x, y, z."""
        return self.geometry.lps_to_voxels(points)


@dataclass(frozen=True)
class AxisMap:
    """How a volume was transposed and flipped, and the way back.

    Axes are numbered x = 0, y = 1, z = 2; "source" is the volume before, "target" the one after.

    Parameters
    ----------
    axes
        ``axes[i]`` is the source axis that became target axis i.
    flips
        ``flips[i]`` tells whether target axis i runs against its source axis.
    source_shape
        Number of voxels (z, y, x) of the source.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    source_shape: tuple[int, int, int]

    @property
    def identity(self) -> bool:
        """Whether source and target are the same."""
        return self.axes == (0, 1, 2) and not any(self.flips)

    @property
    def axis_of_slices(self) -> int:
        """The source axis (x = 0, y = 1, z = 2) along which the target's slices are stacked."""
        return self.axes[2]

    def boxes_to_source(self, boxes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Convert boxes from the target's voxels to the source's.

        Parameters
        ----------
        boxes
            (N, 6): x1, y1, z1, x2, y2, z2 in continuous voxel indices of the target.

        Returns
        -------
        float32 (N, 6): the same boxes in the source's voxels, lower corner first.
        """
        low, high = _corners(boxes)
        source_low, source_high = np.empty_like(low), np.empty_like(high)
        for target, source in enumerate(self.axes):
            last = self._last_indices[target]
            first, second = low[:, target], high[:, target]
            if self.flips[target]:
                first, second = last - second, last - first
            source_low[:, source], source_high[:, source] = first, second
        return np.concatenate([source_low, source_high], axis=1).astype(np.float32)

    def boxes_from_source(self, boxes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Convert (N, 6) boxes from the source's voxels to the target's: the inverse of `boxes_to_source`."""
        low, high = _corners(boxes)
        target_low, target_high = low[:, list(self.axes)], high[:, list(self.axes)]
        for target in range(3):
            if self.flips[target]:
                last = self._last_indices[target]
                first, second = target_low[:, target].copy(), target_high[:, target].copy()
                target_low[:, target], target_high[:, target] = last - second, last - first
        return np.concatenate([target_low, target_high], axis=1).astype(np.float32)

    def voxels_to_target(self, voxels: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Return the source's voxels (z, y, x) in the target's order, as a view."""
        if voxels.shape != self.source_shape:
            raise ValueError(f"voxels must have the source's shape {self.source_shape}, got {voxels.shape}")
        # Array axes run against the numbering of this class: array axis 0 is z = 2.
        transposed = voxels.transpose([2 - axis for axis in reversed(self.axes)])
        return transposed[tuple(slice(None, None, -1) if flip else slice(None) for flip in reversed(self.flips))]

    def geometry_to_target(self, geometry: Geometry) -> Geometry:
        """Return the target's geometry: the same places in the patient, in the target's order."""
        affine = np.eye(4)
        origin = geometry.affine[:3, 3].copy()
        for target, source in enumerate(self.axes):
            step = geometry.affine[:3, source]
            affine[:3, target] = -step if self.flips[target] else step
            if self.flips[target]:
                origin += step * self._last_indices[target]
        affine[:3, 3] = origin
        z, y, x = (geometry.shape[2 - axis] for axis in reversed(self.axes))
        return Geometry((z, y, x), affine)

    @property
    def _last_indices(self) -> tuple[int, int, int]:
        """Last voxel index along the target's x, y, z."""
        x, y, z = (self.source_shape[2 - axis] - 1 for axis in self.axes)
        return x, y, z


def lps_axis_map(geometry: Geometry) -> AxisMap:
    """Find the transposition and flips that bring x to the left, y to the back and z to the head.

    An oblique volume gets the assignment of its axes with the largest sum of cosines; it is not resampled.

    Parameters
    ----------
    geometry
        Of the source.
    """
    directions = geometry.affine[:3, :3] / np.asarray(geometry.spacing)
    axes = max(permutations(range(3)), key=lambda order: sum(abs(directions[i, axis]) for i, axis in enumerate(order)))
    flip_x, flip_y, flip_z = (bool(directions[i, axis] < 0) for i, axis in enumerate(axes))
    return AxisMap((axes[0], axes[1], axes[2]), (flip_x, flip_y, flip_z), geometry.shape)


def to_lps_axes(volume: Volume) -> tuple[Volume, AxisMap]:
    """Transpose and flip a volume so that its axes run as closely to LPS as they can without resampling.

    Parameters
    ----------
    volume
        In any of the 48 axis orders and directions.

    Returns
    -------
    volume, axis_map
        The reoriented volume (the same object when nothing had to move; otherwise its voxels are one copy) and the
        way back. SOP Instance UIDs and frame numbers follow the slices, or are dropped when another axis became the
        slices'.
    """
    axis_map = lps_axis_map(volume.geometry)
    if axis_map.identity:
        return volume, axis_map
    kept = axis_map.axis_of_slices == 2
    order = slice(None, None, -1 if axis_map.flips[2] else 1)
    reoriented = replace(
        volume,
        voxels=axis_map.voxels_to_target(volume.voxels),
        affine=axis_map.geometry_to_target(volume.geometry).affine,
        sop_instance_uids=volume.sop_instance_uids[order] if kept else (),
        frame_numbers=volume.frame_numbers[order] if kept else (),
    )
    return reoriented, axis_map


def _corners(boxes: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    array = np.asarray(boxes, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 6:
        raise ValueError(f"boxes must have shape (N, 6): x1, y1, z1, x2, y2, z2; got {array.shape}")
    return array[:, :3], array[:, 3:]


def _checked_points(points: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"points must have shape (N, 3): x, y, z; got {array.shape}")
    return array


def _checked_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"a volume has three axes (z, y, x) with at least one voxel each, got shape {tuple(shape)}")
    z, y, x = (int(size) for size in shape)
    return z, y, x


def _checked_affine(affine: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.array(affine, dtype=np.float64)
    if array.shape != (4, 4):
        raise ValueError(f"affine must have shape (4, 4): voxel (x, y, z, 1) to LPS in mm; got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("affine must be finite, got NaN or infinity")
    if not np.array_equal(array[3], [0.0, 0.0, 0.0, 1.0]):
        raise ValueError(f"the last row of affine must be 0, 0, 0, 1, got {array[3].tolist()}")
    if abs(np.linalg.det(array[:3, :3])) < SMALLEST_DETERMINANT:
        raise ValueError("affine must be invertible: two of its axes are parallel or one has no length")
    array.flags.writeable = False
    return array
