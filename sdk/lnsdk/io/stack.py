"""Stack: the verdict on a series' geometry. Either an order and a uniform grid, or the reason why there is none.

Slices are ordered by their position projected on the slice normal (row x column direction), never by number or file
name. Distances come from Image Position (Patient), never from Slice Thickness or Spacing Between Slices.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lnsdk.errors import InputError
from lnsdk.io.series import Slice
from lnsdk.volume import SPACING_RANGE_MM

SAME_POSITION_MM = 0.01
"""Slices closer than this lie in the same place."""

UNIFORM_TOLERANCE = 0.1
"""A slice within this share of the spacing from its place on a uniform grid is used as it is: positions are often
rounded to 0.1 mm, and a lesion moves by less than the grid's own sampling."""

SMALL_IRREGULARITY = 0.25
"""A gap within this share of the median gap is small: the series is resampled. Beyond it, it is refused."""

ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of a direction cosine between slices of one orientation (0.06 degrees)."""

SAME_SPACING = 1e-3
"""Largest relative difference between pixel spacings that count as the same."""

DRIFT_PIXELS = 0.5
"""Slices may be displaced within their plane by this share of a pixel."""

TILT_DEGREES = 1.0
"""Above this angle between the stack and the slice normal even a thin slab counts as tilted..."""

TILT_DRIFT_MM = 0.1
"""...when its slices are displaced by more than the rounding of their positions."""

LISTED = 3
"""How many places an error names."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order, and the uniform grid that they make.

    Parameters
    ----------
    slices
        One per position, along the slice normal.
    duplicates
        Further slices at a position: its index, and the slice.
    distances
        float64 (len(slices),): of each slice from the first, in mm.
    affine
        float64 (4, 4): voxel (x, y, z, 1) of the grid to LPS in mm.
    count, spacing
        The grid's number of slices and their distance in mm.
    warnings
        What is odd but can be used.
    """

    slices: tuple[Slice, ...]
    duplicates: tuple[tuple[int, Slice], ...]
    distances: npt.NDArray[np.float64]
    affine: npt.NDArray[np.float64]
    count: int
    spacing: float
    warnings: tuple[str, ...]

    @property
    def sources(self) -> list[tuple[int, int, float]]:
        """For each slice of the grid: the slices below and above it, and the upper one's weight (0: a plain copy)."""
        return [self._sources(index * self.spacing) for index in range(self.count)]

    def _sources(self, distance: float) -> tuple[int, int, float]:
        nearest = int(np.argmin(np.abs(self.distances - distance)))
        if abs(self.distances[nearest] - distance) <= UNIFORM_TOLERANCE * self.spacing:
            return nearest, nearest, 0.0
        above = int(np.searchsorted(self.distances, distance))
        below = above - 1
        weight = (distance - self.distances[below]) / (self.distances[above] - self.distances[below])
        return below, above, float(weight)


def arrange(slices: Sequence[Slice]) -> Stack:
    """Order the slices of a series and give the verdict on their geometry.

    Parameters
    ----------
    slices
        At least one.

    Raises
    ------
    InputError
        ``no-position``, ``bad-orientation``, ``mixed-orientation``, ``matrix-size``, ``pixel-spacing``,
        ``frame-of-reference``, ``gantry-tilt``, ``shifted-slices``, ``missing-slice`` or ``irregular-spacing``.
    """
    from highdicom.spatial import create_affine_matrix_from_attributes, get_normal_vector

    _check_alike(slices)
    orientation, pixel_spacing = slices[0].orientation, slices[0].pixel_spacing
    normal = get_normal_vector(orientation.tolist(), index_convention="RD")
    ordered, duplicates = _order(slices, normal)
    positions = _positions(ordered)
    distances = (positions - positions[0]) @ normal
    warnings = _check_straight(ordered, distances, normal, min(pixel_spacing))
    count, spacing, more = _grid(ordered, distances)
    affine = create_affine_matrix_from_attributes(positions[0].tolist(), orientation.tolist(), pixel_spacing, spacing)
    return Stack(ordered, duplicates, distances, affine, count, spacing, (*warnings, *more))


def _check_alike(slices: Sequence[Slice]) -> None:
    smallest, largest = SPACING_RANGE_MM
    for part in slices:
        if min(part.pixel_spacing) < smallest or max(part.pixel_spacing) > largest:
            spacing = " x ".join(f"{mm:g}" for mm in part.pixel_spacing)
            raise InputError(
                "pixel-spacing", f"the slice with {part.label} has pixels of {spacing} mm: export the original series"
            )
    _check_orientation(slices)
    sizes = [(part.pixels.columns, part.pixels.rows) for part in slices]
    _check_same("matrix-size", "sizes of the image", "{} x {} pixels", slices, sizes)
    _check_same("pixel-spacing", "pixel spacings", "{:g} x {:g} mm", slices, _spacings(slices))
    frames = {part.parent.frame_of_reference_uid for part in slices} - {""}
    if len(frames) > 1:
        raise InputError(
            "frame-of-reference",
            f"the series has {len(frames)} frames of reference, so its positions cannot be compared: "
            "give the files of one acquisition",
        )


def _spacings(slices: Sequence[Slice]) -> list[tuple[float, ...]]:
    """Return each slice's pixel spacing, replaced by the first one seen that counts as the same."""
    seen: list[tuple[float, ...]] = []
    found = []
    for part in slices:
        like = [spacing for spacing in seen if np.allclose(part.pixel_spacing, spacing, rtol=SAME_SPACING, atol=0)]
        if not like:
            seen.append(part.pixel_spacing)
        found.append(like[0] if like else part.pixel_spacing)
    return found


def _check_orientation(slices: Sequence[Slice]) -> None:
    orientations = np.array([part.orientation for part in slices])
    rows, columns = orientations[:, :3], orientations[:, 3:]
    lengths = np.linalg.norm(orientations.reshape(-1, 2, 3), axis=2)
    wrong = (np.abs(lengths - 1).max(axis=1) > ORIENTATION_TOLERANCE) | (
        np.abs((rows * columns).sum(axis=1)) > ORIENTATION_TOLERANCE
    )
    if wrong.any():
        label = slices[int(np.argmax(wrong))].label
        raise InputError(
            "bad-orientation",
            f"the slice with {label} has direction cosines that are no right angle of unit vectors: "
            "export the original series",
        )
    keys = [tuple(np.round(orientation, 2) + 0.0) for orientation in orientations]
    usual = orientations[keys.index(Counter(keys).most_common(1)[0][0])]
    odd = np.abs(orientations - usual).max(axis=1) > ORIENTATION_TOLERANCE
    if odd.any():
        raise InputError(
            "mixed-orientation",
            f"{int(odd.sum())} of {len(slices)} slices are oriented unlike the others: {_listed(slices, odd)}; "
            "remove them or export each orientation as its own series",
        )


def _check_same(
    reason: str, what: str, form: str, slices: Sequence[Slice], values: Sequence[tuple[float, ...]]
) -> None:
    counts = Counter(values).most_common()
    if len(counts) == 1:
        return
    odd = np.array([value != counts[0][0] for value in values])
    words = ", ".join(f"{form.format(*value)} ({count} of {len(slices)} slices)" for value, count in counts[:LISTED])
    raise InputError(
        reason,
        f"the series has {len(counts)} {what}: {words}; odd: {_listed(slices, odd)}; give the files of one acquisition",
    )


def _order(
    slices: Sequence[Slice], normal: npt.NDArray[np.float64]
) -> tuple[tuple[Slice, ...], tuple[tuple[int, Slice], ...]]:
    """Sort along the normal; of the slices in one place keep the first by number and return the rest apart."""
    distances = _positions(slices) @ normal
    groups: list[list[Slice]] = []
    last = -math.inf
    for index in np.argsort(distances, kind="stable"):
        if distances[index] - last > SAME_POSITION_MM:
            groups.append([])
            last = distances[index]
        groups[-1].append(slices[index])
    for group in groups:
        group.sort(key=lambda part: part.order)
    kept = tuple(group[0] for group in groups)
    return kept, tuple((index, part) for index, group in enumerate(groups) for part in group[1:])


def _check_straight(
    slices: Sequence[Slice], distances: npt.NDArray[np.float64], normal: npt.NDArray[np.float64], pixel: float
) -> list[str]:
    """Refuse slices that do not lie above each other; they lie where a sheared grid would be needed."""
    offsets = _positions(slices) - slices[0].position
    drift = offsets - distances[:, None] * normal
    largest = float(np.linalg.norm(drift, axis=1).max())
    if len(slices) == 1 or largest <= TILT_DRIFT_MM:
        return []
    # Medians: one displaced slice must neither look like a tilt nor hide in one.
    slope = np.median(np.diff(drift, axis=0) / np.diff(distances)[:, None], axis=0)
    angle = math.degrees(math.atan(float(np.linalg.norm(slope))))
    limit = DRIFT_PIXELS * pixel
    straightened = drift - distances[:, None] * slope
    residual = np.linalg.norm(straightened - np.median(straightened, axis=0), axis=1)
    if residual.max() > limit:
        label = slices[int(np.argmax(residual))].label
        raise InputError(
            "shifted-slices",
            f"the slice with {label} is displaced within its plane by {residual.max():.2f} mm: "
            "the slices do not lie above each other; export the original series",
        )
    if largest > limit or angle > TILT_DEGREES:
        raise InputError(
            "gantry-tilt",
            f"the stack is tilted by {angle:.1f} degrees (its last slice is displaced by {largest:.1f} mm): "
            "reformat it to untilted slices on the scanner or workstation",
        )
    return [f"slices are displaced within their plane by up to {largest:.2f} mm; this was ignored"]


def _grid(slices: Sequence[Slice], distances: npt.NDArray[np.float64]) -> tuple[int, float, list[str]]:
    """Find the uniform grid: its number of slices, spacing, and warnings."""
    if len(slices) == 1:
        thickness = slices[0].plane.thickness
        known = thickness is not None and SPACING_RANGE_MM[0] <= thickness <= SPACING_RANGE_MM[1]
        assumed = "its slice thickness" if known else "an assumed slice thickness"
        spacing = thickness if thickness is not None and known else 1.0
        return 1, spacing, [f"a single slice; it was given {assumed} of {spacing:g} mm"]
    spacing = float(distances[-1]) / (len(slices) - 1)
    if _is_uniform(slices, spacing):
        return len(slices), spacing, []
    gaps = np.diff(distances)
    # The lower median: of two gaps, one of them doubled, the single one.
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    steps = np.maximum(np.round(gaps / usual), 1)
    if np.abs(gaps - steps * usual).max() > SMALL_IRREGULARITY * usual:
        raise _irregular(slices, gaps, usual, steps)
    missing = int(steps.sum()) - len(gaps)
    if missing > 1:
        raise _missing(slices, gaps, usual, steps)
    count = len(slices) + missing
    spacing = float(distances[-1]) / (count - 1)
    return count, spacing, _gap_warnings(slices, gaps, steps, spacing)


def _is_uniform(slices: Sequence[Slice], spacing: float) -> bool:
    """Whether each slice has its own place on the grid of this spacing, within `UNIFORM_TOLERANCE`."""
    from highdicom.spatial import get_volume_positions

    # The mean spacing as a hint makes highdicom measure each slice's distance from its place on the grid, where
    # comparing neighbouring gaps would let small differences add up. Tilt was judged before, in pixels.
    _, indices = get_volume_positions(
        _positions(slices).tolist(),
        slices[0].orientation.tolist(),
        rtol=UNIFORM_TOLERANCE,
        perpendicular_tol=1.0,
        allow_missing_positions=True,
        spacing_hint=spacing,
        index_convention="RD",
    )
    return indices is not None and indices == list(range(len(slices)))


def _irregular(
    slices: Sequence[Slice], gaps: npt.NDArray[np.float64], usual: float, steps: npt.NDArray[np.float64]
) -> InputError:
    odd = np.abs(gaps - steps * usual) > SMALL_IRREGULARITY * usual
    return InputError(
        "irregular-spacing",
        f"slices are {usual:.2f} mm apart, but {_gaps(slices, gaps, odd)}: "
        "reconstruct or export the series with one spacing",
    )


def _missing(
    slices: Sequence[Slice], gaps: npt.NDArray[np.float64], usual: float, steps: npt.NDArray[np.float64]
) -> InputError:
    count = int(steps.sum()) - len(gaps)
    return InputError(
        "missing-slice",
        f"{count} slices are missing: slices are {usual:.2f} mm apart, but {_gaps(slices, gaps, steps > 1)}; "
        "send the whole series again",
    )


def _gap_warnings(
    slices: Sequence[Slice], gaps: npt.NDArray[np.float64], steps: npt.NDArray[np.float64], spacing: float
) -> list[str]:
    warnings = []
    if (steps > 1).any():
        where = _gaps(slices, gaps, steps > 1)
        warnings.append(f"one slice is missing and was interpolated: slices are {spacing:.2f} mm apart, but {where}")
    displaced = np.abs(np.cumsum(gaps) - np.cumsum(steps) * spacing) > UNIFORM_TOLERANCE * spacing
    if displaced.any():
        single = gaps / steps
        warnings.append(
            f"spacing varies from {single.min():.2f} to {single.max():.2f} mm; "
            f"slices were resampled to {spacing:.2f} mm"
        )
    return warnings


def _gaps(slices: Sequence[Slice], gaps: npt.NDArray[np.float64], odd: npt.NDArray[np.bool_]) -> str:
    where = np.flatnonzero(odd)
    words = [f"{gaps[i]:.2f} mm between {slices[i].label} and {slices[i + 1].label}" for i in where[:LISTED]]
    more = [f"{len(where) - LISTED} more places"] if len(where) > LISTED else []
    return "; ".join(words + more)


def _listed(slices: Sequence[Slice], odd: npt.NDArray[np.bool_]) -> str:
    where = np.flatnonzero(odd)
    more = [f"{len(where) - LISTED} more"] if len(where) > LISTED else []
    return "; ".join([slices[i].label for i in where[:LISTED]] + more)


def _positions(slices: Sequence[Slice]) -> npt.NDArray[np.float64]:
    return np.array([part.position for part in slices])
