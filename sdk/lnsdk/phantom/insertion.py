"""Inserting lesions into a CT: irregular solids, blurred as the scanner blurs, with noise like the scan's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lnsdk.phantom.canvas import BLUR_MM
from lnsdk.phantom.lesion_types import LESION_TYPES, LesionSpec, LesionTruth
from lnsdk.phantom.noise import Noise, make_noise, measure_noise, smooth_keeping_edges
from lnsdk.volume import Volume

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I16 = npt.NDArray[np.int16]

FINEST_MM = 0.5
"""A slice is sampled along z about this finely."""

HALF = 0.5
"""Share of a voxel from which on it belongs to the lesion's box."""

LEAST_SHARE = 0.35
"""A lesion of which less than this share of its volume remains within its organ is not inserted."""

THIN_MM = 5.5
"""Vessels and clefts thinner than this do not shape a lesion: it swallows them."""

LEAST_MM = 3.0
"""A lesion cut to less than this is not inserted; averaging over a slice narrows one of 4 mm to about 3.3 mm."""

REACH = 1.45
"""Half side of the patch a lesion is drawn in, in diameters / 2: room for spicules and irregular shapes."""


class Shape:
    """An irregular solid around the origin: an ellipsoid, turned, with lobes and spicules; size in mm.

    Parameters
    ----------
    spec
        Its seed decides the shape; its largest central in-plane diameter is `diameter_mm`.
    """

    def __init__(self, spec: LesionSpec) -> None:
        kind = LESION_TYPES[spec.type]
        rng = np.random.default_rng([spec.seed, 11])
        longest = float(rng.uniform(1.0, kind.elongation))
        axes = np.array([longest**0.6, longest**-0.4 * rng.uniform(0.9, 1.1), longest**-0.2 * rng.uniform(0.9, 1.1)])
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        self._inverse = (turn / axes) @ turn.T
        count = 7
        self._lobe_way = _directions(rng, count)
        self._lobe_rate = rng.uniform(1.5, 5.0, count)
        self._lobe_phase = rng.uniform(0, 2 * np.pi, count)
        rough = float(rng.uniform(0.04, 0.13))
        self._lobe_size = rough * 2.5 / (1.0 + self._lobe_rate) * rng.uniform(0.5, 1.5, count)
        lung = spec.type in ("lung_solid", "lung_part_solid")
        spikes = int(rng.integers(5, 14)) if lung and spec.diameter_mm > 8.0 and rng.random() < 0.35 else 0
        self._spike_way = _directions(rng, spikes)
        self._spike_size = rng.uniform(0.1, 0.45, spikes)
        self._spike_edge = rng.uniform(40.0, 140.0, spikes)
        self._scale = 1.0
        angles = np.arange(72) * (np.pi / 36)
        around = np.stack([np.cos(angles), np.sin(angles), np.zeros(72)], axis=1)
        outline = around * self._radius(around, spikes=False)[:, None]
        feret = max(float(np.ptp(outline @ way)) for way in around[:36])
        self._scale = spec.diameter_mm / feret

    def _radius(self, ways: F64, spikes: bool = True) -> F64:
        """Radius (N,) along unit vectors (N, 3)."""
        base = 1.0 / np.linalg.norm(ways @ self._inverse.T, axis=1)
        uneven = np.cos(self._lobe_rate * (ways @ self._lobe_way.T) + self._lobe_phase) @ self._lobe_size
        grown = 1.0 + uneven
        if spikes and len(self._spike_way):
            grown += np.exp(self._spike_edge * (ways @ self._spike_way.T - 1.0)) @ self._spike_size
        radius: F64 = self._scale * base * grown
        return radius

    def depth(self, points: F64) -> tuple[F64, F64]:
        """How far points (N, 3) lie below the surface (mm, negative outside), and their distance in radii."""
        distance = np.maximum(np.linalg.norm(points, axis=1), 1e-6)
        radius = self._radius(points / distance[:, None])
        return radius - distance, distance / np.maximum(radius, 1e-6)


def _directions(rng: np.random.Generator, count: int) -> F64:
    vectors = rng.normal(size=(count, 3))
    unit: F64 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if count else vectors
    return unit


def _patch_bounds(spec: LesionSpec, shape: tuple[int, int, int], spacing: F64) -> tuple[F64, F64]:
    """First and past-the-last voxel (x, y, z) of the patch that a lesion is drawn in."""
    center = np.array(spec.center)
    reach = (0.5 * REACH * spec.diameter_mm * 1.1 + 4.0) / spacing + 2.0
    low = np.maximum(np.floor(center - reach), 0)
    high = np.minimum(np.ceil(center + reach) + 1, np.array(shape[::-1]))
    return low.astype(np.int64), high.astype(np.int64)


def lesion_mask(spec: LesionSpec, low: npt.ArrayLike, high: npt.ArrayLike, spacing: npt.ArrayLike) -> tuple[F32, F32]:
    """Share of each voxel that a lesion fills, after in-plane blur and averaging over the slice.

    Parameters
    ----------
    spec
        The lesion.
    low, high
        First and past-the-last voxel (x, y, z) of the patch.
    spacing
        x, y, z in mm.

    Returns
    -------
    mask, radial : float32 (z, y, x)
        The share, 0..1, and the distance from the centre in radii.
    """
    first, last, step = np.asarray(low), np.asarray(high), np.asarray(spacing, dtype=np.float64)
    shape = Shape(spec)
    edge = float(np.hypot(0.5 * (step[0] + step[1]), BLUR_MM))
    x, y, z = ((np.arange(first[a], last[a]) - spec.center[a]) * step[a] for a in range(3))
    fine = max(1, int(np.ceil(step[2] / FINEST_MM)))
    offsets = ((np.arange(fine) + 0.5) / fine - 0.5) * step[2]
    mask = np.zeros((len(z), len(y), len(x)), dtype=np.float32)
    radial = np.zeros_like(mask)
    grid = np.stack(np.broadcast_arrays(x[None, :], y[:, None], 0.0), axis=-1).reshape(-1, 3)
    reach = 0.5 * REACH * 1.1 * spec.diameter_mm + edge
    for k, height in enumerate(z):
        for offset in offsets:
            if abs(height + offset) > reach:
                radial[k] += np.float32(9.0 / fine)
                continue
            depth, relative = shape.depth(grid + np.array([0.0, 0.0, height + offset]))
            share = np.clip(0.5 + depth / edge, 0.0, 1.0)
            share = share * share * (3.0 - 2.0 * share)
            mask[k] += (share / fine).reshape(mask.shape[1:]).astype(np.float32)
            radial[k] += (relative / fine).reshape(mask.shape[1:]).astype(np.float32)
    return mask, radial


def insert_lesions(
    volume: Volume, specs: Sequence[LesionSpec], rng: np.random.Generator, contrast_scale: float = 1.0
) -> tuple[Volume, tuple[LesionTruth, ...]]:
    """Insert lesions into a CT.

    Parameters
    ----------
    volume
        The CT; it is not changed.
    specs
        Lesions, as `draw_lesions` gives them.
    rng
        Source of the noise.
    contrast_scale
        Factor on every lesion's contrast. At 0 the code does all that it does otherwise, noise included, but the tissue
        stays.

    Returns
    -------
    The CT with the lesions, and what is known of each. A lesion that its organ's border would leave less than a third
    of, or less than 3 mm, is not inserted.
    """
    noise = measure_noise(volume.voxels, volume.spacing)
    voxels = volume.voxels.copy()
    truths = []
    for spec in specs:
        truth = _insert(voxels, np.array(volume.spacing), spec, noise, rng, contrast_scale)
        if truth is not None:
            truths.append(truth)
    return replace(volume, voxels=voxels), tuple(truths)


def _insert(
    voxels: I16, spacing: F64, spec: LesionSpec, noise: Noise, rng: np.random.Generator, contrast_scale: float
) -> LesionTruth | None:
    """Insert one lesion in place; None when its organ does not hold it."""
    low, high = _patch_bounds(spec, voxels.shape, spacing)
    where = tuple(slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True))
    native = voxels[where].astype(np.float32)
    mask, radial = lesion_mask(spec, low, high, spacing)
    smooth = smooth_keeping_edges(native, noise.sigma)
    full = float(mask.sum())
    mask = mask * _membership(spec, smooth, spacing)
    if full <= 0.0 or float(mask.sum()) < LEAST_SHARE * full:
        return None
    extent = _main_part(mask, np.array(spec.center) - low)
    if extent is None:
        return None
    mask = np.where(_grown(extent), mask, 0.0).astype(np.float32)
    truth = _truth(spec, mask, extent, low, spacing, contrast_scale, len(voxels))
    if truth.diameter_mm < LEAST_MM:
        return None
    rest = native - smooth
    changed = native + contrast_scale * mask * _change(spec, smooth, radial, noise)
    if LESION_TYPES[spec.type].replaces:
        local = _local_noise(rest, mask, noise)
        grain = np.clip(rest, -3.0 * local.sigma, 3.0 * local.sigma)  # what is left is structure, gone with the tissue
        made = make_noise(local, native.shape, rng)
        changed += made * np.sqrt(1.0 - (1.0 - mask) ** 2) - mask * (grain + contrast_scale * (rest - grain))
    touched = mask > 1e-4
    voxels[where][touched] = np.clip(np.rint(changed), -1024, 3071).astype(np.int16)[touched]
    return truth


def _change(spec: LesionSpec, smooth: F32, radial: F32, noise: Noise) -> F32:
    """HU to add where the lesion fills a voxel wholly."""
    texture = _texture(spec, radial)
    difference = spec.hu + texture - smooth
    if spec.type == "lymph_node":
        return difference
    if LESION_TYPES[spec.type].replaces or spec.type == "marrow_mass":
        darker = spec.contrast_hu < 0
        one_way: F32 = np.minimum(difference, 0.0) if darker else np.maximum(difference, 0.0)
        return one_way
    deviation = smooth - (spec.hu - spec.contrast_hu)
    tolerance = max(22.0, 1.2 * noise.sigma)
    strange = _ramp(
        np.abs(deviation), tolerance, 1.8 * tolerance
    )  # vessels and fat planes go, the organ's own noise stays
    return (spec.contrast_hu + texture - deviation * strange).astype(np.float32)


def _texture(spec: LesionSpec, radial: F32) -> F32:
    """Unevenness inside a lesion, HU, about 0 on average; a part-solid nodule may have a denser core."""
    rng = np.random.default_rng([spec.seed, 12])
    z, y, x = (np.linspace(-1.0, 1.0, n) for n in radial.shape)
    height = min(0.12 * abs(spec.contrast_hu), 45.0 if spec.type == "lung_part_solid" else 9.0)
    wave = np.zeros(radial.shape)
    for _ in range(5):
        rate, phase = rng.normal(0.0, 5.0, 3), rng.uniform(0, 2 * np.pi)
        wave += np.cos(rate[0] * x[None, None, :] + rate[1] * y[None, :, None] + rate[2] * z[:, None, None] + phase)
    texture = height * 0.6 * wave
    if spec.type == "lung_part_solid" and rng.random() < 0.4:
        core, rise = float(rng.uniform(0.3, 0.55)), min(20.0 - spec.hu, 350.0)
        inside = _ramp(core - radial, -0.12, 0.12)
        texture += rise * (inside - core**3) / (1.0 - core**3)
    return texture.astype(np.float32)


def _ramp(values: F32, low: float, high: float) -> F32:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    ramp: F32 = t * t * (3.0 - 2.0 * t)
    return ramp


def _extreme(patch: F32, reach: tuple[int, int], largest: bool) -> F32:
    """In-plane maximum or minimum over windows of 2 reach + 1 voxels (y, x)."""
    pick = np.maximum if largest else np.minimum
    for axis, r in ((1, reach[0]), (2, reach[1])):
        widths = [(0, 0)] * 3
        widths[axis] = (r, r)
        padded = np.pad(patch, widths, mode="edge")
        n = patch.shape[axis]
        patch = padded.take(range(n), axis=axis)
        for shift in range(1, 2 * r + 1):
            patch = pick(patch, padded.take(range(shift, shift + n), axis=axis))
    return patch


def _membership(spec: LesionSpec, smooth: F32, spacing: F64) -> F32:
    """Share of each voxel that is tissue the lesion may fill; structures thinner than `THIN_MM` do not count."""
    reach = (max(1, round(0.5 * THIN_MM / float(spacing[1]))), max(1, round(0.5 * THIN_MM / float(spacing[0]))))
    without_bright = _extreme(_extreme(smooth, reach, largest=False), reach, largest=True)
    without_dark = _extreme(_extreme(smooth, reach, largest=True), reach, largest=False)
    if spec.type in ("lung_solid", "lung_part_solid"):
        return 1.0 - _ramp(without_bright, -450.0, -200.0)
    if spec.type == "lymph_node":
        return (1.0 - _ramp(without_bright, -55.0, -5.0)) * _ramp(without_dark, -350.0, -220.0)
    around = spec.hu - spec.contrast_hu
    if spec.type == "liver":
        return _ramp(without_dark, around - 90.0, around - 45.0)
    if spec.type == "muscle_mass":
        return _ramp(without_dark, -220.0, -140.0) * (1.0 - _ramp(without_bright, around + 110.0, around + 170.0))
    return _ramp(without_dark, 65.0, 105.0)


def _main_part(mask: F32, center: F64) -> npt.NDArray[np.bool_] | None:
    """Voxels that are half the lesion's or more (half its peak where slices blur it), connected to its middle."""
    peak = float(mask.max())
    if peak < 0.2:
        return None
    extent = mask >= HALF * min(peak, 1.0)
    z, y, x = np.nonzero(extent)
    start = int(np.argmin((x - center[0]) ** 2 + (y - center[1]) ** 2 + (z - center[2]) ** 2))
    part = np.zeros_like(extent)
    part[z[start], y[start], x[start]] = True
    while True:
        wider = _grown(part) & extent
        if int(wider.sum()) == int(part.sum()):
            return part
        part = wider


def _grown(part: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Voxels within two steps in plane, or one along z."""
    wide = part.copy()
    for axis, shift in ((1, 1), (2, 1), (1, 1), (2, 1), (0, 1)):
        padded = np.pad(wide, [(shift, shift) if a == axis else (0, 0) for a in range(3)])
        n = wide.shape[axis]
        wide = wide | padded.take(range(n), axis=axis) | padded.take(range(2 * shift, 2 * shift + n), axis=axis)
    return wide


def _local_noise(rest: F32, mask: F32, noise: Noise) -> Noise:
    """The scan's noise with the strength it has around the lesion."""
    beside = rest[(mask < 1e-3)]
    if beside.size < 200:
        return noise
    spread = 1.4826 * float(np.median(np.abs(beside - np.median(beside))))
    return replace(noise, sigma=float(np.clip(spread, 0.5 * noise.sigma, 1.2 * noise.sigma)))


def _crossings(profile: F32, level: float) -> tuple[float, float]:
    """First and last place where a profile reaches `level`, linear between samples and 0 beyond its ends."""
    above = np.flatnonzero(profile >= level)
    first, last = int(above[0]), int(above[-1])
    before = float(profile[first - 1]) if first > 0 else 0.0
    after = float(profile[last + 1]) if last + 1 < len(profile) else 0.0
    start = first - (float(profile[first]) - level) / max(float(profile[first]) - before, 1e-9)
    end = last + (float(profile[last]) - level) / max(float(profile[last]) - after, 1e-9)
    return start, end


def _slice_box(plane: F32, level: float) -> tuple[float, float, float, float]:
    x1, x2 = _crossings(plane.max(axis=0), level)
    y1, y2 = _crossings(plane.max(axis=1), level)
    return x1, y1, x2, y2


def _diameter(plane: F32, level: float, spacing: F64) -> float:
    """Largest distance (mm) between two points of a slice's outline, over 36 directions."""
    points: list[tuple[float, float]] = []
    for j in np.flatnonzero((plane >= level).any(axis=1)):
        x1, x2 = _crossings(plane[j], level)
        points += [(x1, float(j)), (x2, float(j))]
    for i in np.flatnonzero((plane >= level).any(axis=0)):
        y1, y2 = _crossings(plane[:, i], level)
        points += [(float(i), y1), (float(i), y2)]
    angles = np.arange(36) * (np.pi / 36)
    along = (np.array(points, dtype=np.float64) * spacing[:2]) @ np.stack([np.cos(angles), np.sin(angles)])
    return float(np.ptp(along, axis=0).max())


def _truth(
    spec: LesionSpec, mask: F32, extent: npt.NDArray[np.bool_], low: F64, spacing: F64, scale: float, depth: int
) -> LesionTruth:
    """Box, slices and size of an inserted lesion; the box ends where the volume ends."""
    level = HALF * min(float(mask.max()), 1.0)
    own = np.where(_grown(extent), mask, 0.0)
    z1, z2 = _crossings(own.max(axis=(1, 2)), level)
    x1, y1, x2, y2 = _slice_box(own.max(axis=0), level)
    slices = np.flatnonzero(extent.any(axis=(1, 2)))
    boxes = np.array([_slice_box(own[k], level) for k in slices])
    box = np.array([x1, y1, z1, x2, y2, z2]) + np.tile(low, 2)
    box[[2, 5]] = np.clip(box[[2, 5]], -0.5, depth - 0.5)
    return LesionTruth(
        type=spec.type,
        box=box.astype(np.float32),
        diameter_mm=max(_diameter(own[k], level, spacing) for k in slices),
        contrast_hu=spec.contrast_hu * scale,
        spec=spec,
        slices=(slices + int(low[2])).astype(np.int64),
        slice_boxes=(boxes + np.tile(low[:2], 2)).astype(np.float32),
    )
