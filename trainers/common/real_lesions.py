"""Checks of a detector on the few real lesions with a known place: a LIDC-IDRI nodule and soft-tissue sarcomas.

They say how far training on simulated lesions carries; there are too few of them for a sensitivity.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnsdk.metrics import HIT_OVERLAP
from lnsdk.ops import iobb, iou
from lnsdk.trainers.common.evaluation import Detect, Found
from lnsdk.volume import Volume

UNKNOWN_DIAMETER_MM: Final = 10.0
"""Diameter of an annotation that has none (official LUNA16 script)."""

FIELD_MM: Final = (480.0, 400.0)
"""Size in x and y of the field that a cropped image is pasted into: a large body."""

FIELD_MARGIN_MM: Final = 120.0
"""How much deeper the field is than the image along z."""

FIELD_HU: Final = (-100.0, 15.0)
"""Mean and standard deviation of the field: fat, so that the body box does not give the image away."""

BORDER_MM: Final = 10.0
"""Air around the field in x and y."""

AIR_HU: Final = -1000


class Annotation(NamedTuple):
    """A nodule as LUNA16 annotates it.

    Attributes
    ----------
    center_mm : tuple of float
        LPS.
    diameter_mm : float
        In mm.
    """

    center_mm: tuple[float, float, float]
    diameter_mm: float


class Ranked(NamedTuple):
    """The best-ranked box at a place.

    Attributes
    ----------
    rank : int
        1 is the box with the highest score.
    boxes : int
        How many boxes there were.
    score : float
        Of this box.
    distance_mm : float
        From its centre to the place.
    """

    rank: int
    boxes: int
    score: float
    distance_mm: float


@dataclass(frozen=True)
class Placement:
    """A sarcoma image pasted at one place, and what was found.

    Attributes
    ----------
    name : str
        Of the image.
    offset : tuple of int
        Voxel x, y, z of the field at which the image begins.
    boxes : int
        How many boxes were found in the field.
    rank, score, iou : int, float, float, or None
        Of the best-ranked box that hits the sarcoma (IoBB of at least 0.3); None when none does.
    top_iou : float
        IoU of the box with the highest score, 0 without a box.
    best_rank, best_iou : int or None, float
        Rank and IoU of the box with the highest IoU.
    blind_iou : float
        IoU of a box of the median sarcoma's size in the middle of the field, which never saw the image.
    blind_hit : bool
        Whether that box hits the sarcoma.
    """

    name: str
    offset: tuple[int, int, int]
    boxes: int
    rank: int | None
    score: float | None
    iou: float | None
    top_iou: float
    best_rank: int | None
    best_iou: float
    blind_iou: float
    blind_hit: bool


def read_luna16_annotations(path: Path, series_uid: str) -> tuple[Annotation, ...]:
    """Nodules of one series from LUNA16's ``annotations.csv`` (seriesuid, coordX, coordY, coordZ, diameter_mm)."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["seriesuid"] == series_uid]
    return tuple(
        Annotation((float(row["coordX"]), float(row["coordY"]), float(row["coordZ"])), _diameter(row["diameter_mm"]))
        for row in rows
    )


def _diameter(text: str) -> float:
    diameter = float(text)
    return UNKNOWN_DIAMETER_MM if diameter < 0 else diameter


def rank_at(found: Found, volume: Volume, center_mm: ArrayLike, radius_mm: float) -> Ranked | None:
    """Rank of the first box whose centre lies within a radius of a place, as LUNA16 counts a hit.

    Parameters
    ----------
    found : Found
        With every box, whatever its score.
    volume : Volume
        In whose voxels the boxes are.
    center_mm : array_like, (3,)
        The place, LPS.
    radius_mm : float
        A hit's squared distance is strictly below its square.

    Returns
    -------
    Ranked or None
        None when no box lies there.
    """
    boxes = np.asarray(found.boxes, np.float64).reshape(-1, 6)
    centers = volume.voxels_to_lps((boxes[:, :3] + boxes[:, 3:]) / 2)
    squared = ((centers - np.asarray(center_mm, np.float64)) ** 2).sum(axis=1)
    order = _by_score(found)
    hits = np.flatnonzero(squared[order] < radius_mm**2)
    if len(hits) == 0:
        return None
    first = order[hits[0]]
    return Ranked(int(hits[0]) + 1, len(boxes), float(found.scores[first]), float(np.sqrt(squared[first])))


def read_sarcoma_boxes(path: Path) -> dict[str, NDArray[np.float32]]:
    """Boxes of the sarcomas by patient, from ``lesion_boxes.csv``.

    Parameters
    ----------
    path : Path
        With the columns patient, x0, y0, z0, x1, y1, z1, which are inclusive voxel indices.

    Returns
    -------
    dict of str to ndarray, (6,)
        In continuous voxel indices: widened by 0.5.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    widen = np.array([-0.5, -0.5, -0.5, 0.5, 0.5, 0.5], np.float32)
    return {
        row["patient"]: np.array([row[k] for k in ("x0", "y0", "z0", "x1", "y1", "z1")], np.float32) + widen
        for row in rows
    }


def median_size_mm(boxes: ArrayLike, spacings: ArrayLike) -> NDArray[np.float64]:
    """Median extent of boxes (N, 6) in voxels of spacings (N, 3), x, y, z in mm."""
    corners = np.asarray(boxes, np.float64)
    return np.asarray(np.median((corners[:, 3:] - corners[:, :3]) * np.asarray(spacings, np.float64), axis=0))


def paste_in_field(
    volume: Volume, rng: np.random.Generator, field_mm: tuple[float, float] = FIELD_MM
) -> tuple[Volume, tuple[int, int, int]]:
    """Paste a cropped image at a random place into a larger field of fat in air.

    The sarcoma images are cropped around the tumour, so a box in their middle is a hit. In the field it is not, and
    fat around the image keeps a crop to the body from undoing that.

    Parameters
    ----------
    volume : Volume
        The cropped image, axial.
    rng : numpy.random.Generator
        Chooses the place and the field's noise.
    field_mm : tuple of float
        Size of the field in x and y; along z it is `FIELD_MARGIN_MM` deeper than the image.

    Returns
    -------
    volume, offset
        The field, its affine such that the image stays where it was in the patient; and the voxel x, y, z of the field
        at which the image begins.

    Raises
    ------
    ValueError
        When the image does not fit into the field.
    """
    x, y, z = volume.spacing
    depth, height, width = volume.shape
    border = (round(BORDER_MM / x), round(BORDER_MM / y), 0)
    size = (round(field_mm[0] / x), round(field_mm[1] / y), depth + round(FIELD_MARGIN_MM / z))
    room = [whole - 2 * edge - part for whole, edge, part in zip(size, border, (width, height, depth), strict=True)]
    if min(room) < 0:
        raise ValueError(
            f"field_mm must hold the image of {width * x:.0f} x {height * y:.0f} mm with {BORDER_MM:.0f} mm around it, "
            f"got {field_mm[0]:.0f} x {field_mm[1]:.0f} mm"
        )
    i, j, k = (edge + int(rng.integers(free + 1)) for edge, free in zip(border, room, strict=True))
    field = np.full(size[::-1], AIR_HU, np.int16)
    inside = field[:, border[1] : size[1] - border[1], border[0] : size[0] - border[0]]
    inside[:] = np.rint(rng.normal(*FIELD_HU, inside.shape))
    field[k : k + depth, j : j + height, i : i + width] = volume.voxels
    affine = volume.affine.copy()
    affine[:3, 3] = volume.voxels_to_lps([[-i, -j, -k]])[0]
    return replace(volume, voxels=field, affine=affine, sop_instance_uids=()), (i, j, k)


def sarcoma_placements(
    detect: Detect,
    images: Sequence[tuple[str, Volume, ArrayLike]],
    size_mm: ArrayLike,
    *,
    placements: int = 3,
    seed: int = 0,
) -> tuple[Placement, ...]:
    """Look for sarcomas in images pasted at random places, beside a box that never saw the image.

    Parameters
    ----------
    detect : callable
        Volume to `Found`, with every box.
    images : sequence of (name, volume, box)
        Cropped images, and their sarcomas' boxes (6,) in their voxels.
    size_mm : array_like, (3,)
        Size of the blind box: the median of sarcomas that were trained on (`median_size_mm`).
    placements : int
        Places per image.
    seed : int
        Of the places.

    Returns
    -------
    tuple of Placement
    """
    return tuple(
        _placement(detect, name, volume, np.asarray(box, np.float64), size_mm, np.random.default_rng((seed, n, p)))
        for n, (name, volume, box) in enumerate(images)
        for p in range(placements)
    )


def placements_markdown(placements: Sequence[Placement]) -> str:
    """A table of placements; the sarcomas are real, the field around each image is not."""
    lines = [
        "| real sarcoma in a simulated field | begins at x, y, z | boxes | rank of first hit | its score | its IoU "
        "| IoU of the top box | highest IoU (its rank) | IoU of the blind box | blind box hits |",
        "|" + "---|" * 10,
    ]
    for p in placements:
        hit = ("none", "", "") if p.rank is None else (str(p.rank), f"{p.score:.3f}", f"{p.iou:.3f}")
        best = f"{p.best_iou:.3f} ({'none' if p.best_rank is None else p.best_rank})"
        cells = [p.name, ", ".join(map(str, p.offset)), str(p.boxes), *hit, f"{p.top_iou:.3f}", best]
        cells += [f"{p.blind_iou:.3f}", "yes" if p.blind_hit else "no"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _placement(
    detect: Detect,
    name: str,
    volume: Volume,
    box: NDArray[np.float64],
    size_mm: ArrayLike,
    rng: np.random.Generator,
) -> Placement:
    field, offset = paste_in_field(volume, rng)
    sarcoma = box[None] + np.tile(offset, 2)
    found = detect(field)
    order = _by_score(found)
    boxes = np.asarray(found.boxes, np.float64).reshape(-1, 6)[order]
    overlaps = iou(boxes, sarcoma)[:, 0]
    hits = np.flatnonzero(iobb(boxes, sarcoma)[:, 0] >= HIT_OVERLAP)
    blind = _middle_box(field, size_mm)
    first = None if len(hits) == 0 else int(hits[0])
    best = None if len(overlaps) == 0 else int(overlaps.argmax())
    return Placement(
        name=name,
        offset=offset,
        boxes=len(boxes),
        rank=None if first is None else first + 1,
        score=None if first is None else float(found.scores[order[first]]),
        iou=None if first is None else float(overlaps[first]),
        top_iou=0.0 if best is None else float(overlaps[0]),
        best_rank=None if best is None else best + 1,
        best_iou=0.0 if best is None else float(overlaps[best]),
        blind_iou=float(iou(blind, sarcoma)[0, 0]),
        blind_hit=bool(iobb(blind, sarcoma)[0, 0] >= HIT_OVERLAP),
    )


def _middle_box(field: Volume, size_mm: ArrayLike) -> NDArray[np.float64]:
    middle = (np.array(field.shape[::-1]) - 1) / 2
    half = np.asarray(size_mm, np.float64) / np.array(field.spacing) / 2
    return np.concatenate([middle - half, middle + half])[None]


def _by_score(found: Found) -> NDArray[np.intp]:
    order: NDArray[np.intp] = np.argsort(-np.asarray(found.scores, np.float64), kind="stable")
    return order
