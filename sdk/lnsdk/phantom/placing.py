"""Drawing lesions: which types, how large, how dense, and where in the body they lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from lnsdk.phantom.lesion_types import LESION_TYPES, ROSE_LIMIT, LesionSpec, LesionType, draw_diameter
from lnsdk.phantom.noise import Noise, measure_noise
from lnsdk.phantom.organs import Organ
from lnsdk.volume import Volume

F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]

DRAWS = 30
"""Diameters tried for one lesion before its type is given up here."""

PLACES = 60
"""Places tried for one diameter."""

LEAST_SIGMA = 0.5
"""Noise (HU) that rounding alone leaves."""

MARGIN_MM = 6.0
"""Least distance between the surfaces of two lesions."""

SOFT = (Organ.MUSCLE, Organ.VESSEL, Organ.OTHER, Organ.LIVER, Organ.SPLEEN)

HOLDS: dict[str, tuple[tuple[Organ, ...], float, tuple[Organ, ...], float]] = {
    "lung_solid": ((Organ.LUNG, Organ.VESSEL), 0.72, (), 0.0),
    "lung_part_solid": ((Organ.LUNG, Organ.VESSEL), 0.85, (), 0.0),
    "liver": ((Organ.LIVER, Organ.VESSEL), 0.85, (), 0.0),
    "lymph_node": ((Organ.FAT,), 0.62, (Organ.FAT, *SOFT), 0.94),
    "muscle_mass": (
        (Organ.MUSCLE,),
        0.80,
        (Organ.MUSCLE, Organ.FAT, Organ.SUBCUTANEOUS, Organ.VESSEL, Organ.OTHER),
        0.95,
    ),
    "marrow_mass": ((Organ.MARROW,), 0.72, (Organ.MARROW, Organ.BONE), 0.93),
}
"""Organs that must fill a share of the lesion's ball, and a wider set with its share."""


def _ball(rings: Sequence[tuple[float, int]]) -> F64:
    """Points (N, 3) on spheres of given radius and number of points (Fibonacci spirals)."""
    parts = []
    for radius, count in rings:
        i = np.arange(count) + 0.5
        z = 1.0 - 2.0 * i / count
        angle = np.pi * (1.0 + 5.0**0.5) * i
        flat = np.sqrt(1.0 - z * z)
        parts.append(radius * np.stack([flat * np.cos(angle), flat * np.sin(angle), z], axis=1))
    return np.concatenate(parts)


BALL = _ball([(0.0, 1), (0.45, 16), (0.75, 32), (0.95, 50)])
SHELL = _ball([(1.0, 40)])
CIRCLE = np.stack([np.cos(np.arange(24) * np.pi / 12), np.sin(np.arange(24) * np.pi / 12), np.zeros(24)], axis=1)


class _Scene:
    """Organ map and voxels of one volume, asked about places in it."""

    def __init__(self, volume: Volume, organs: U8) -> None:
        self.voxels = volume.voxels
        self.organs = organs
        self.spacing = np.array(volume.spacing)
        self.size = np.array(volume.voxels.shape[::-1])
        self.noise: Noise = measure_noise(volume.voxels, volume.spacing)
        self._sites: dict[Organ, npt.NDArray[np.int64]] = {}
        self.step = max(1, round(1.5 / float(self.spacing[0])))

    def site(self, homes: tuple[Organ, ...], rng: np.random.Generator) -> F64 | None:
        """Draw a place (x, y, z voxels) in one of the organs; None when the volume has none of them."""
        home = homes[int(rng.integers(len(homes)))]
        if home not in self._sites:
            self._sites[home] = np.flatnonzero(self.organs[:, :: self.step, :: self.step] == home)
        at = self._sites[home]
        if len(at) < 20:
            return None
        coarse = self.organs[:, :: self.step, :: self.step].shape
        z, y, x = np.unravel_index(int(at[int(rng.integers(len(at)))]), coarse)
        jitter = rng.uniform(-0.5, 0.5, 3)
        return np.array([int(x) * self.step, int(y) * self.step, int(z)], dtype=np.float64) + jitter

    def labels(self, center: F64, offsets_mm: F64) -> U8 | None:
        """Organs at offsets (N, 3) from a place; beyond the ends along z is left out, beyond the sides gives None."""
        at = np.round(center + offsets_mm / self.spacing).astype(np.int64)
        if (at[:, :2] < 0).any() or (at[:, :2] >= self.size[:2]).any():
            return None
        at = at[(at[:, 2] >= 0) & (at[:, 2] < self.size[2])]
        labels: U8 = self.organs[at[:, 2], at[:, 1], at[:, 0]]
        return labels

    def mean_of(self, center: F64, reach_mm: float, organs: Iterable[Organ]) -> float | None:
        """Median HU of some organs within a cube around a place; None when fewer than 30 voxels are theirs."""
        low = np.maximum(np.floor(center - reach_mm / self.spacing).astype(int), 0)
        high = np.minimum(np.ceil(center + reach_mm / self.spacing).astype(int) + 1, self.size)
        where = tuple(slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True))
        values = self.voxels[where][np.isin(self.organs[where], list(organs))]
        return float(np.median(values)) if len(values) >= 30 else None

    def holds(self, kind: LesionType, center: F64, radius: float) -> bool:
        """Whether a lesion of this type may lie here."""
        last = self.size[2] - 1
        inset = min(0.5, 0.5 * last)
        if not inset <= center[2] <= last - inset:
            return False
        labels = self.labels(center, BALL * radius)
        if labels is None or labels[0] not in kind.homes:
            return False
        inner, share, outer, outer_share = HOLDS[kind.name]
        if np.isin(labels, inner).mean() < share or (outer and np.isin(labels, outer).mean() < outer_share):
            return False
        return kind.name != "lymph_node" or self._beside_soft_tissue(center, radius)

    def _beside_soft_tissue(self, center: F64, radius: float) -> bool:
        """Nodes lie along vessels and muscles, and not right under the skin."""
        around = self.labels(center, SHELL * (radius + 6.0))
        if around is None or np.isin(around, (Organ.MUSCLE, Organ.VESSEL, Organ.OTHER)).mean() < 0.12:
            return False
        for distance, most in ((20.0, 0.17), (40.0, 0.40)):
            ring = self.labels(center, CIRCLE * (radius + distance))
            if ring is None or (ring == Organ.AIR).mean() > most:
                return False
        return True


def draw_lesions(
    volume: Volume,
    organs: U8,
    count: int,
    rng: np.random.Generator,
    types: Sequence[str] | None = None,
    keep_out: npt.ArrayLike = (),
) -> list[LesionSpec]:
    """Draw lesions that fit into a volume, in places where such lesions live, apart from each other.

    Parameters
    ----------
    volume
        The CT.
    organs
        uint8 (z, y, x), its `Organ` map.
    count
        Number of lesions wanted.
    rng
        Source of randomness.
    types
        As many names as lesions are wanted (one for each, repeats allowed), or names to choose from by their frequency;
        all when None.
    keep_out
        (N, 6) boxes x1, y1, z1, x2, y2, z2 in voxels that no lesion may touch.

    Returns
    -------
    At most `count` lesions; fewer where no more fit. Types for which the volume has no place are skipped.

    Raises
    ------
    ValueError
        When the organ map has another shape than the volume, or a type is unknown.
    """
    if organs.shape != volume.shape:
        raise ValueError(f"organs must have the volume's shape {volume.shape}, got {organs.shape}")
    unknown = sorted(set(types or ()) - set(LESION_TYPES))
    if unknown:
        raise ValueError(f"types must be among {', '.join(LESION_TYPES)}, got {', '.join(unknown)}")
    blocked = np.asarray(keep_out, dtype=np.float64).reshape(-1, 6)
    scene = _Scene(volume, organs)
    specs: list[LesionSpec] = []
    impossible: set[str] = set()
    for wanted in _wanted(types, count):
        choices = [name for name in wanted if name not in impossible]
        while choices:
            share = np.array([LESION_TYPES[name].frequency for name in choices])
            name = choices[int(rng.choice(len(choices), p=share / share.sum()))]
            spec = _draw_one(scene, LESION_TYPES[name], rng, specs, blocked)
            if spec is not None:
                specs.append(spec)
                break
            impossible.add(name)
            choices.remove(name)
    return specs


def _wanted(types: Sequence[str] | None, count: int) -> list[tuple[str, ...]]:
    """For each lesion the types it may have."""
    if types is not None and len(types) == count:
        return [(name,) for name in types]
    return [tuple(dict.fromkeys(types or LESION_TYPES))] * count


def _draw_one(
    scene: _Scene, kind: LesionType, rng: np.random.Generator, others: Sequence[LesionSpec], blocked: F64
) -> LesionSpec | None:
    for _ in range(DRAWS):
        diameter = draw_diameter(kind, rng)
        low, high = kind.hu[int(rng.integers(len(kind.hu)))]
        value = float(rng.uniform(low, high))
        center = _free_place(scene, kind, diameter, rng, others, blocked)
        if center is None:
            continue
        density = _density(scene, kind, center, diameter, value)
        if density is None:
            continue
        hu, contrast = density
        if rose_ratio(contrast, diameter, scene.noise, float(scene.spacing[2])) < ROSE_LIMIT:
            continue
        x, y, z = (float(v) for v in center)
        return LesionSpec(kind.name, (x, y, z), diameter, hu, contrast, int(rng.integers(2**31)))
    return None


def rose_ratio(contrast: float, diameter: float, noise: Noise, thickness: float) -> float:
    """Signal-to-noise ratio of a lesion as a reader sees it: contrast x sqrt(noise areas in its cross-section) / sigma.

    A lesion thinner than the slices loses contrast in proportion.
    """
    areas = 0.25 * np.pi * diameter**2 / noise.area_mm2
    return float(abs(contrast) * min(1.0, diameter / thickness) * np.sqrt(areas) / max(noise.sigma, LEAST_SIGMA))


def _free_place(
    scene: _Scene,
    kind: LesionType,
    diameter: float,
    rng: np.random.Generator,
    others: Sequence[LesionSpec],
    blocked: F64,
) -> F64 | None:
    for _ in range(PLACES):
        center = scene.site(kind.homes, rng)
        if center is None:
            return None
        if scene.holds(kind, center, 0.5 * diameter) and _apart(scene.spacing, center, diameter, others, blocked):
            return center
    return None


def _apart(spacing: F64, center: F64, diameter: float, others: Sequence[LesionSpec], blocked: F64) -> bool:
    """Whether a lesion keeps its distance from the others and from blocked boxes."""
    for other in others:
        gap = np.linalg.norm((center - np.array(other.center)) * spacing)
        if gap < 0.6 * (diameter + other.diameter_mm) + MARGIN_MM:
            return False
    reach = (0.6 * diameter + 3.0) / spacing
    clear = (center + reach < blocked[:, :3]) | (center - reach > blocked[:, 3:])
    return bool(clear.any(axis=1).all())


def _density(scene: _Scene, kind: LesionType, center: F64, diameter: float, value: float) -> tuple[float, float] | None:
    """HU of a lesion and its difference to what is around it; None where its tissue has no sensible mean."""
    reach = 0.5 * diameter + 8.0
    around = scene.mean_of(center, reach, kind.homes)
    if around is None:
        return None
    if kind.relative_to == "":
        return value, value - around
    if kind.relative_to == "organ":
        return around + value, value
    soft = scene.mean_of(center, reach + 12.0, (Organ.MUSCLE,))
    if soft is None:
        return None
    return soft + value, soft + value - around
