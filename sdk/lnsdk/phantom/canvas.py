"""Canvas: a CT being painted, solid after solid, in patient millimetres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lnsdk.phantom.kernels import PAINT_ELLIPSOID, PAINT_OUTLINE, PAINT_TUBES
from lnsdk.phantom.organs import Organ

F64 = npt.NDArray[np.float64]

ANGLES = 180
"""Samples of an outline around its centre."""

THETA = np.arange(ANGLES) * (2.0 * np.pi / ANGLES)
"""Angles of an outline's samples, from +x (patient's left) towards +y (back)."""

NO_LEVEL = 1e6
"""A fluid level below everything: nothing is cut."""

BLUR_MM = 0.9
"""Width (mm) by which the scanner's in-plane blur widens an edge, beside the pixel itself."""


def superellipse(a: F64, b: F64, power: float = 2.0) -> F64:
    """Outline radii (N, ANGLES) of superellipses with half axes `a` along x and `b` along y (N,), in mm."""
    a, b = np.maximum(a, 1e-3)[:, None], np.maximum(b, 1e-3)[:, None]
    norm = (np.abs(np.cos(THETA)) / a) ** power + (np.abs(np.sin(THETA)) / b) ** power
    radii: F64 = norm ** (-1.0 / power)
    return radii


def smooth_steps(z: F64, knots: npt.ArrayLike) -> F64:
    """Interpolate `knots` (position, value) with cosine ramps; the ends extend as constants."""
    at, values = np.asarray(knots, dtype=np.float64).T
    i = np.clip(np.searchsorted(at, z) - 1, 0, len(at) - 2)
    t = np.clip((z - at[i]) / (at[i + 1] - at[i]), 0.0, 1.0)
    t = 0.5 * t + 0.5 * t * t * (3.0 - 2.0 * t)
    mixed: F64 = values[i] * (1.0 - t) + values[i + 1] * t
    return mixed


def curve(points: npt.ArrayLike, step: float = 4.0) -> F64:
    """Pass a Catmull-Rom curve through `points` (N, D), sampled about every `step` mm of the first three columns."""
    p = np.asarray(points, dtype=np.float64)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    pieces = []
    for i in range(1, len(p) - 2):
        n = max(int(np.ceil(np.linalg.norm(p[i + 1, :3] - p[i, :3]) / step)), 1)
        t = (np.arange(n) / n)[:, None]
        a, b, c, d = p[i - 1], p[i], p[i + 1], p[i + 2]
        pieces.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.concatenate([*pieces, p[-2:-1]])


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> F64:
    """Rotation matrix: `yaw` about z, then `pitch` about x, then `roll` about y (degrees)."""
    a, b, c = np.deg2rad([yaw, pitch, roll])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    about_y = np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    turned: F64 = about_y @ about_x @ about_z
    return turned


class Canvas:
    """A CT under construction.

    Parameters
    ----------
    shape
        Voxels (z, y, x).
    spacing
        Voxel size (x, y, z) in mm.
    origin
        Centre of the first voxel (x, y, z) in mm.
    """

    def __init__(self, shape: tuple[int, int, int], spacing: Sequence[float], origin: Sequence[float]) -> None:
        self.hu = np.full(shape, -1000.0, dtype=np.float32)
        self.organ = np.full(shape, Organ.AIR, dtype=np.uint8)
        self.spacing = np.array(spacing, dtype=np.float64)
        self.origin = np.array(origin, dtype=np.float64)
        self.heights: F64 = self.origin[2] + np.arange(shape[0]) * self.spacing[2]
        self.edge = float(np.hypot(self.spacing[0], BLUR_MM))

    def outline(self, centers: F64, radii: F64, value: float, organ: Organ) -> None:
        """Paint what lies inside `radii` (z, ANGLES) around `centers` (z, 2), one row for each slice of the canvas."""
        PAINT_OUTLINE(
            self.hu,
            self.organ,
            self.origin,
            self.spacing,
            self.edge,
            np.ascontiguousarray(centers),
            np.ascontiguousarray(radii),
            float(value),
            int(organ),
        )

    def column(self, rows: npt.ArrayLike, value: float, organ: Organ, power: float = 2.0, grow: float = 0.0) -> None:
        """Paint an upright solid through rows (z, x, y, half width, half depth), ascending in z, from first to last."""
        table = np.asarray(rows, dtype=np.float64)
        x, y, a, b = (smooth_steps(self.heights, table[:, [0, c]]) for c in range(1, 5))
        radii = superellipse(a + grow, b + grow, power)
        radii[(self.heights < table[0, 0]) | (self.heights > table[-1, 0])] = 0.0
        self.outline(np.stack([x, y], axis=1), radii, value, organ)

    def ellipsoid(
        self,
        center: npt.ArrayLike,
        radii: npt.ArrayLike,
        value: float,
        organ: Organ,
        turn: F64 | None = None,
        power: float = 2.0,
        wobble: float = 0.0,
        phase: float = 0.0,
        level: float = NO_LEVEL,
        within: Organ | None = None,
    ) -> None:
        """Paint a (super)ellipsoid with half axes `radii`, turned by the rotation matrix `turn`; see the kernel.

        `within` an organ, only its voxels are painted, and they keep their label.
        """
        axes = np.diag(np.maximum(np.asarray(radii, dtype=np.float64), 0.1))
        if turn is not None:
            axes = turn @ axes
        stretch = 3.0 ** (0.5 - 1.0 / power)
        PAINT_ELLIPSOID(
            self.hu,
            self.organ,
            self.origin,
            self.spacing,
            self.edge,
            np.array(center, dtype=np.float64),
            (1.0 + 1.6 * wobble) * stretch * np.sqrt((axes**2).sum(axis=1)),
            np.ascontiguousarray(np.linalg.inv(axes)),
            float(power),
            np.array([wobble, 2.6, phase, 1.7 * phase + 1.0, 2.3 * phase + 2.0]),
            float(level),
            float(value),
            int(organ),
            -1 if within is None else int(within),
        )

    def segments(
        self, rows: F64, value: float, organ: Organ, flatten: float = 1.0, within: Organ | None = None
    ) -> None:
        """Paint tubes from rows (x, y, z, radius, x, y, z, radius); `within` an organ, only its voxels, unlabelled."""
        PAINT_TUBES(
            self.hu,
            self.organ,
            self.origin,
            self.spacing,
            self.edge,
            np.ascontiguousarray(rows[:, :8], dtype=np.float64),
            float(flatten),
            float(value),
            int(organ),
            -1 if within is None else int(within),
        )

    def tube(self, points: npt.ArrayLike, value: float, organ: Organ, grow: float = 0.0, flatten: float = 1.0) -> None:
        """Paint a tube along a smooth curve through rows (x, y, z, radius), its radius changed by `grow` mm."""
        line = curve(points)
        line[:, 3] = np.maximum(line[:, 3] + grow, 0.05)
        self.segments(np.concatenate([line[:-1], line[1:]], axis=1), value, organ, flatten)
