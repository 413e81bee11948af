"""A patient as a picture: one lesion in all studies and series, with what is labelled and what is not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lnsdk.report.slices import View, Window, view_slice
from lnsdk.report.tiles import CAPTION_LINE, FAINT, FRAME, HEADER_LINE, INK, MARGIN, PAPER
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.grid import GRID_SPACING
from lnsdk.trainers.common.labels import Truth
from lnsdk.trainers.networks.lens import FULL_WINDOW
from lnsdk.volume import Volume

LABELLED, UNLABELLED = (60, 220, 110), (255, 84, 84)
"""Colours of boxes; those without a label are dashed too, for the colour-blind."""

SIDE = 420
"""Width of a picture in pixels."""

INSET, INSET_MM = 150, 56.0
"""Side of the enlarged part in pixels, and what it shows."""

DASH, GAP = 5, 4

Point = tuple[float, float]


def most_telling(patients: Sequence[Sequence[GridCase]]) -> list[GridCase] | None:
    """Cases of the patient whose lesions are seen most often, some labelled and some not; None where none is."""
    told = [(_shown_lesion(cases), list(cases)) for cases in patients]
    fit = [(score, cases) for (score, _), cases in told if score > 0]
    return max(fit, key=lambda one: one[0])[1] if fit else None


def draw_patient(cases: Sequence[GridCase]) -> Image.Image:
    """Draw a patient's most telling lesion on its key slice in every case that shows it: a row for each study.

    Parameters
    ----------
    cases : sequence of GridCase
        Of one patient, with a truth.

    Returns
    -------
    PIL.Image.Image
        RGB. Labelled lesions have a green box, the others a red, dashed one.

    Raises
    ------
    ValueError
        When no lesion is labelled in one case and seen without a label in another.
    """
    score, identity = _shown_lesion(cases)
    if score == 0:
        raise ValueError("cases must show a lesion with a label and again without one; this patient has none such")
    showing = [case for case in cases if identity in _truth(case).identities]
    studies = list(dict.fromkeys(case.study for case in showing))
    rows = [[case for case in showing if case.study == study] for study in studies]
    tiles = [[_tile(case, identity) for case in row] for row in rows]
    heights = [max(tile.height for tile in row) for row in tiles]
    top = MARGIN + 2 * HEADER_LINE + MARGIN
    width = max(len(row) for row in rows) * (SIDE + MARGIN) + MARGIN
    sheet = Image.new("RGB", (max(width, 2 * (SIDE + MARGIN) + MARGIN), top + sum(heights) + MARGIN * len(rows)), PAPER)
    pen = ImageDraw.Draw(sheet)
    patient = _truth(showing[0]).types[_index(showing[0], identity)].replace("_", " ")
    pen.text((MARGIN, MARGIN), f"One simulated patient, one {patient} lesion", INK, ImageFont.load_default(20))
    _legend(pen, MARGIN + HEADER_LINE)
    for row, y in zip(tiles, np.cumsum([top, *(height + MARGIN for height in heights[:-1])]), strict=True):
        for column, tile in enumerate(row):
            sheet.paste(tile, (MARGIN + column * (SIDE + MARGIN), int(y)))
    return sheet


def _shown_lesion(cases: Sequence[GridCase]) -> tuple[int, str]:
    """The lesion that is seen most often, with a label and without; 0 where there is none."""
    best = (0, "")
    for identity in sorted({name for case in cases for name in _truth(case).identities}):
        seen = [case for case in cases if identity in _truth(case).identities]
        labelled = sum(bool(_truth(case).labelled[_index(case, identity)]) for case in seen)
        if 0 < labelled < len(seen):
            best = max(best, (len(seen), identity))
    return best


def _truth(case: GridCase) -> Truth:
    if case.truth is None:
        raise ValueError(f"cases must have a truth to be drawn, but {case.name} has none")
    return case.truth


def _index(case: GridCase, identity: str) -> int:
    return _truth(case).identities.index(identity)


def _tile(case: GridCase, identity: str) -> Image.Image:
    """The key slice of a lesion in one case, the lesion enlarged in a corner, and what the case is."""
    truth, lesion = _truth(case), _index(case, identity)
    own = truth.rows[truth.owners == lesion]
    z = int(own[np.argmax(np.prod(own[:, 3:] - own[:, 1:3], axis=1))][0])
    view = _view(case, z)
    boxes = [
        (row[1:], bool(truth.labelled[owner]))
        for row, owner in zip(truth.rows, truth.owners, strict=True)
        if row[0] == z
    ]
    box = own[own[:, 0] == z][0, 1:]
    window = view.window_for((float(box[0]), float(box[1]), z - 0.5, float(box[2]), float(box[3]), z + 0.5))
    rows, columns = view.hu.shape
    picture = _field(view, window, (0.0, 0.0, float(columns), float(rows)), SIDE, boxes)
    center = (0.5 * float(box[0] + box[2]) + 0.5, 0.5 * float(box[1] + box[3]) + 0.5)
    half = 0.5 * INSET_MM / GRID_SPACING[0]
    near = (center[0] - half, center[1] - half, center[0] + half, center[1] + half)
    inset = _field(view, window, near, INSET, boxes)
    ImageDraw.Draw(inset).rectangle((0, 0, INSET - 1, INSET - 1), outline=INK)
    left, upper = center[0] < columns / 2, center[1] < rows / 2
    picture.paste(inset, (SIDE - INSET - 5 if left else 5, picture.height - INSET - 5 if upper else 5))
    tile = Image.new("RGB", (SIDE, picture.height + 2 * CAPTION_LINE + 8), PAPER)
    tile.paste(picture, (0, 0))
    pen = ImageDraw.Draw(tile)
    pen.rectangle((0, 0, SIDE - 1, picture.height - 1), outline=FRAME)
    state = "labelled" if truth.labelled[lesion] else "not labelled"
    study, series = case.study.rsplit("-", 1)[-1], case.series.rsplit("-", 1)[-1]
    pen.text((0, picture.height + 5), f"study {study}, series {series}: {state}", INK, ImageFont.load_default(16))
    said = f"{truth.diameters[lesion]:.0f} mm, slice {z}, {window.name}"
    pen.text((0, picture.height + 5 + CAPTION_LINE), said, FAINT, ImageFont.load_default(14))
    return tile


def _view(case: GridCase, z: int) -> View:
    """A slice of the grid, in HU."""
    low, high = FULL_WINDOW
    hu = np.rint(np.asarray(case.grid[z : z + 1], np.float32) * (high - low) / 255.0 + low)
    return view_slice(Volume(hu.astype(np.int16), np.diag([*GRID_SPACING, 1.0])), 0)


def _field(
    view: View,
    window: Window,
    field: tuple[float, float, float, float],
    width: int,
    boxes: Sequence[tuple[np.ndarray, bool]],
) -> Image.Image:
    """A field (left, top, right, bottom; pixel i from i to i + 1) of a slice, `width` pixels wide, with boxes."""
    left, top, right, bottom = field
    zoom = width / (right - left)
    size = (width, round((bottom - top) * zoom))
    grey = Image.fromarray(view.grey(window))
    picture = grey.transform(size, Image.Transform.EXTENT, field, Image.Resampling.BICUBIC).convert("RGB")
    pen = ImageDraw.Draw(picture)
    for box, labelled in boxes:
        x1, y1, x2, y2 = ((float(v) + 0.5 - start) * zoom for v, start in zip(box, (left, top, left, top), strict=True))
        rectangle = (x1 - 2, y1 - 2, x2 + 1, y2 + 1)
        if labelled:
            pen.rectangle(rectangle, outline=LABELLED, width=2)
        else:
            _dashed(pen, rectangle)
    return picture


def _dashed(pen: ImageDraw.ImageDraw, rectangle: tuple[float, float, float, float]) -> None:
    x1, y1, x2, y2 = rectangle
    corners: list[Point] = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
    for (ax, ay), (bx, by) in pairwise(corners):
        length = max(abs(bx - ax), abs(by - ay), 1e-6)
        for start in np.arange(0.0, length, DASH + GAP):
            a, b = float(start) / length, min(float(start) + DASH, length) / length
            ends = (ax + a * (bx - ax), ay + a * (by - ay), ax + b * (bx - ax), ay + b * (by - ay))
            pen.line(ends, fill=UNLABELLED, width=2)


def _legend(pen: ImageDraw.ImageDraw, y: int) -> None:
    x = MARGIN
    for text, labelled in (
        ("labelled in this series (on its key slice)", True),
        ("not labelled in this series", False),
    ):
        rectangle = (x, y + 3, x + 22, y + 17)
        if labelled:
            pen.rectangle(rectangle, outline=LABELLED, width=2)
        else:
            _dashed(pen, rectangle)
        pen.text((x + 30, y), text, FAINT, ImageFont.load_default(15))
        x += 30 + int(ImageFont.load_default(15).getlength(text)) + 30
