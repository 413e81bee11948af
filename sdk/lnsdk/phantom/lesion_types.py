"""The simulated lesions: their types, the ranges they are drawn from, and what is known of each one inserted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lnsdk.phantom.organs import Organ

ROSE_LIMIT = 5.0
"""Signal-to-noise ratio below which no reader sees a lesion (Rose 1948: about 5)."""

LARGEST_MM, SMALLEST_MM = 60.0, 4.0
"""No lesion is larger or smaller, in its largest in-plane diameter."""


@dataclass(frozen=True)
class LesionType:
    """The ranges of one type of lesion; fixed, not tuned to a detector.

    Parameters
    ----------
    name
        Name of the type.
    diameter_mm
        Smallest and largest in-plane diameter.
    median_mm, spread
        Median and log-standard deviation of the diameters before they are cut to the range.
    hu
        Ranges (low, high), one of them drawn with equal chance: HU of the lesion if `relative_to` is empty, else the
        difference to the local mean of that tissue.
    relative_to
        "organ" (the organ around it), "soft tissue" (muscle and vessels near it) or "".
    homes
        Organs that a centre may lie in.
    frequency
        Share among all lesions where every type is possible.
    elongation
        Largest ratio of the longest to the shortest axis.
    replaces
        Whether the tissue is replaced, with noise made like the scan's, or only changed in HU, its own noise kept.
    """

    name: str
    diameter_mm: tuple[float, float]
    median_mm: float
    spread: float
    hu: tuple[tuple[float, float], ...]
    relative_to: str
    homes: tuple[Organ, ...]
    frequency: float
    elongation: float
    replaces: bool


LESION_TYPES: dict[str, LesionType] = {
    kind.name: kind
    for kind in (
        LesionType("lung_solid", (4.0, 30.0), 8.0, 0.50, ((-50.0, 60.0),), "", (Organ.LUNG,), 0.30, 1.5, True),
        LesionType("lung_part_solid", (5.0, 30.0), 10.0, 0.45, ((-700.0, -300.0),), "", (Organ.LUNG,), 0.12, 1.5, True),
        LesionType("liver", (6.0, 60.0), 12.0, 0.55, ((-60.0, -15.0),), "organ", (Organ.LIVER,), 0.16, 1.5, False),
        LesionType(
            "lymph_node", (5.0, 40.0), 11.0, 0.45, ((-30.0, 30.0),), "soft tissue", (Organ.FAT,), 0.26, 2.0, True
        ),
        LesionType(
            "muscle_mass",
            (8.0, 60.0),
            18.0,
            0.60,
            ((-50.0, -15.0), (20.0, 60.0)),
            "organ",
            (Organ.MUSCLE,),
            0.08,
            2.0,
            False,
        ),
        LesionType(
            "marrow_mass",
            (8.0, 60.0),
            12.0,
            0.45,
            ((-200.0, -70.0), (120.0, 450.0)),
            "organ",
            (Organ.MARROW,),
            0.08,
            1.6,
            False,
        ),
    )
}
"""All lesion types by name."""


@dataclass(frozen=True)
class LesionSpec:
    """A lesion to insert.

    Parameters
    ----------
    type
        Key of `LESION_TYPES`.
    center
        x, y, z in continuous voxel indices of the volume.
    diameter_mm
        Largest in-plane diameter.
    hu
        Mean HU inside.
    contrast_hu
        `hu` less the local mean of what it lies in.
    seed
        Seed of its shape and texture.
    """

    type: str
    center: tuple[float, float, float]
    diameter_mm: float
    hu: float
    contrast_hu: float
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON."""
        return {
            "type": self.type,
            "center": list(self.center),
            "diameter_mm": self.diameter_mm,
            "hu": self.hu,
            "contrast_hu": self.contrast_hu,
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> LesionSpec:
        """Restore what `to_dict` wrote."""
        x, y, z = (float(v) for v in entry["center"])
        return cls(
            str(entry["type"]),
            (x, y, z),
            float(entry["diameter_mm"]),
            float(entry["hu"]),
            float(entry["contrast_hu"]),
            int(entry["seed"]),
        )


@dataclass(frozen=True, eq=False)
class LesionTruth:
    """Where an inserted lesion is.

    Parameters
    ----------
    type
        Key of `LESION_TYPES`.
    box
        float32 (6,): x1, y1, z1, x2, y2, z2 in continuous voxel indices, where the blurred lesion is half there or
        more.
    diameter_mm
        Largest in-plane diameter of that region.
    contrast_hu
        Mean difference to the tissue around it.
    spec
        What was asked for.
    slices
        int64 (n,): indices of the slices it can be seen in, ascending.
    slice_boxes
        float32 (n, 4): its box x1, y1, x2, y2 in each of them.
    """

    type: str
    box: npt.NDArray[np.float32]
    diameter_mm: float
    contrast_hu: float
    spec: LesionSpec
    slices: npt.NDArray[np.int64]
    slice_boxes: npt.NDArray[np.float32]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON; boxes in continuous voxel indices, first voxel's centre at 0."""
        return {
            "type": self.type,
            "box": self.box.tolist(),
            "diameter_mm": self.diameter_mm,
            "contrast_hu": self.contrast_hu,
            "spec": self.spec.to_dict(),
            "slices": self.slices.tolist(),
            "slice_boxes": self.slice_boxes.tolist(),
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> LesionTruth:
        """Restore what `to_dict` wrote."""
        return cls(
            str(entry["type"]),
            np.array(entry["box"], dtype=np.float32),
            float(entry["diameter_mm"]),
            float(entry["contrast_hu"]),
            LesionSpec.from_dict(entry["spec"]),
            np.array(entry["slices"], dtype=np.int64),
            np.array(entry["slice_boxes"], dtype=np.float32).reshape(-1, 4),
        )


def draw_diameter(kind: LesionType, rng: np.random.Generator) -> float:
    """Draw a diameter (mm) from a type's log-normal distribution, cut to its range by drawing again."""
    low, high = kind.diameter_mm
    while True:
        diameter = kind.median_mm * float(np.exp(kind.spread * rng.normal()))
        if low <= diameter <= high:
            return diameter


def describe_ranges() -> str:
    """Return the ranges of all lesion types as a table, one type a row."""
    head = f"{'type':16s} {'share':>6s} {'diameter mm':>12s} {'median':>7s}  HU"
    rows = [head, "-" * len(head)]
    for kind in LESION_TYPES.values():
        low, high = kind.diameter_mm
        spans = " or ".join(f"{a:+.0f}..{b:+.0f}" for a, b in kind.hu)
        against = f"{spans} against the local {kind.relative_to}" if kind.relative_to else spans
        rows.append(f"{kind.name:16s} {kind.frequency:6.2f} {low:5.0f} ..{high:4.0f} {kind.median_mm:7.0f}  {against}")
    rows.append(
        "A lesion is drawn again when no reader could see it (Rose): |contrast| x sqrt(independent noise areas in its "
        f"largest cross-section) / sigma < {ROSE_LIMIT:.0f}, sigma and noise area measured in the scan."
    )
    return "\n".join(rows)
