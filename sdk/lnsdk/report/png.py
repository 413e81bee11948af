"""The picture of a result: each lesion in its key slice, with box, score, size and position."""

from PIL import Image

from lnsdk.report.tiles import FOUND, Mark, Tile, draw_sheet
from lnsdk.results import Box, Detections, Lesion, Point

MOST_LESIONS = 12
"""Lesions on a picture; the others are in the JSON."""

FOOTER = "Positions in DICOM LPS, mm. Slices count from 1. Not a medical device."


def draw(detections: Detections) -> Image.Image:
    """Draw the best lesions of a result; without any, the middle slice and a sentence that says so.

    Parameters
    ----------
    detections : Detections
        With the volume it was made from.

    Returns
    -------
    PIL.Image.Image
        RGB. It shows no patient data: model, engine and geometry only.
    """
    count = detections.volume.shape[0]
    lesions = detections.lesions[:MOST_LESIONS]
    tiles = [_lesion_tile(number, lesion, lesions, count) for number, lesion in enumerate(lesions, start=1)]
    if not tiles:
        middle = count // 2
        tiles = [Tile(middle, None, (), ("no box reached that score", f"slice {middle + 1} of {count}"))]
    return draw_sheet(detections.volume, tiles, _header(detections), FOOTER)


def provenance_lines(detections: Detections) -> tuple[str, str]:
    """Return model and engine, and the volume's geometry, in words."""
    provenance = detections.provenance
    z, y, x = detections.volume.shape
    spacing = " x ".join(f"{value:.2f}" for value in detections.volume.spacing)
    return (
        f"{provenance.model} {provenance.model_version} ({provenance.model_sha256[:8]}), "
        f"{provenance.backend} {provenance.device} {provenance.precision}, lnsdk {provenance.versions['lnsdk']}",
        f"{x} x {y} x {z} voxels of {spacing} mm",
    )


def place_line(center_mm: Point, key_slice: int, count: int) -> str:
    """Return a position and its slice in words; slices count from 1."""
    x, y, z = center_mm
    return f"LPS {x:.1f}, {y:.1f}, {z:.1f} mm   slice {key_slice + 1} of {count}"


def crosses(box: Box, index: int) -> bool:
    """Tell whether a box reaches into a slice; one over slices i to j runs from i - 0.5 to j + 0.5."""
    return box[2] - 0.5 < index < box[5] + 0.5


def _lesion_tile(number: int, lesion: Lesion, lesions: tuple[Lesion, ...], count: int) -> Tile:
    others = [other for other in lesions if other is not lesion and crosses(other.box, lesion.key_slice)]
    marks = [Mark(each.box, FOUND) for each in (*others, lesion)]
    expert = max(lesion.expert_scores, key=lambda name: lesion.expert_scores[name]).replace("_", " ")
    caption = (
        f"{number}   score {lesion.score:.2f}   {lesion.diameter_mm:.0f} mm   ({expert})",
        place_line(lesion.center_mm, lesion.key_slice, count),
    )
    return Tile(lesion.key_slice, lesion.box, marks, caption)


def _header(detections: Detections) -> tuple[str, ...]:
    provenance = detections.provenance
    found = len(detections.lesions)
    number = {0: "No lesion", 1: "1 lesion"}.get(found, f"{found} lesions")
    shown = f", the best {MOST_LESIONS} shown" if found > MOST_LESIONS else ""
    return (
        f"{number} scoring {provenance.threshold:.2f} or more{shown}",
        *provenance_lines(detections),
    )
