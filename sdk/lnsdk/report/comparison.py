"""Detections beside lesions that are known: which were found, what was found besides, and a picture of both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lnsdk import ops
from lnsdk.metrics import HIT_OVERLAP
from lnsdk.report.png import FOOTER, MOST_LESIONS, crosses, place_line, provenance_lines
from lnsdk.report.tiles import FOUND, KNOWN, Mark, Tile, draw_sheet
from lnsdk.results import Box, Detections, Lesion, Point


@dataclass(frozen=True)
class Known:
    """A lesion whose place is known.

    Attributes
    ----------
    name : str
        What it is, such as ``"lung solid"``.
    box : tuple of float
        x1, y1, z1, x2, y2, z2 in continuous voxel indices of the volume.
    center_mm : tuple of float
        Centre of the box in LPS mm.
    diameter_mm : float
        Largest in-plane diameter.
    """

    name: str
    box: Box
    center_mm: Point
    diameter_mm: float

    @property
    def key_slice(self) -> int:
        """Index of the slice through the middle."""
        return round((self.box[2] + self.box[5]) / 2)


@dataclass(frozen=True)
class Comparison:
    """Which known lesions were found.

    Attributes
    ----------
    known : tuple of Known
        In the order given.
    hits : tuple of Lesion or None
        For each, the best detection that hits it.
    false_positives : tuple of Lesion
        Detections that hit none, best first.
    """

    known: tuple[Known, ...]
    hits: tuple[Lesion | None, ...]
    false_positives: tuple[Lesion, ...]


def compare(detections: Detections, known: Sequence[Known]) -> Comparison:
    """Match detections with known lesions; a hit has `HIT_OVERLAP` of the detected box inside the known one."""
    lesions = detections.lesions
    found = np.array([lesion.box for lesion in lesions], np.float32).reshape(-1, 6)
    wanted = np.array([each.box for each in known], np.float32).reshape(-1, 6)
    hit = ops.iobb(found, wanted) >= HIT_OVERLAP
    hits = tuple(lesions[int(column.argmax())] if column.any() else None for column in hit.T)
    misses = np.flatnonzero(~hit.any(axis=1))
    return Comparison(tuple(known), hits, tuple(lesions[index] for index in misses))


def draw_comparison(detections: Detections, comparison: Comparison, source: str) -> Image.Image:
    """Draw known lesions with what was found of them, then the best false positives.

    Parameters
    ----------
    detections : Detections
        With the volume it was made from.
    comparison : Comparison
        Of these detections.
    source : str
        A sentence that says where the volume and its lesions come from.

    Returns
    -------
    PIL.Image.Image
        RGB, at most twelve tiles.
    """
    count = detections.volume.shape[0]
    tiles = [
        _tile(detections, comparison, known, known.name, "missed" if hit is None else f"found, score {hit.score:.2f}")
        for known, hit in zip(comparison.known, comparison.hits, strict=True)
    ]
    tiles += [
        _tile(detections, comparison, lesion, "false positive", f"score {lesion.score:.2f}")
        for lesion in comparison.false_positives
    ]
    if not tiles:
        tiles = [Tile(count // 2, None, (), ("nothing known, nothing found", f"slice {count // 2 + 1} of {count}"))]
    found = sum(hit is not None for hit in comparison.hits)
    header = (
        f"{found} of {len(comparison.known)} known lesions found, {len(comparison.false_positives)} false positives",
        f"{source} Blue: known. Amber: found, score {detections.provenance.threshold:.2f} or more.",
        *provenance_lines(detections),
    )
    return draw_sheet(detections.volume, tiles[:MOST_LESIONS], header, FOOTER)


def _tile(detections: Detections, comparison: Comparison, shown: Known | Lesion, name: str, verdict: str) -> Tile:
    index = shown.key_slice
    known = [Mark(each.box, KNOWN) for each in comparison.known if crosses(each.box, index)]
    found = [Mark(lesion.box, FOUND) for lesion in detections.lesions if crosses(lesion.box, index)]
    caption = (
        f"{name}   {shown.diameter_mm:.0f} mm   {verdict}",
        place_line(shown.center_mm, index, detections.volume.shape[0]),
    )
    return Tile(index, shown.box, known + found, caption)
