"""Sheets of slices: each tile shows one slice with boxes, an enlarged part, and lines of text; Pillow only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lnsdk import ops
from lnsdk.report.slices import SOFT_TISSUE, View, Window, view_slice
from lnsdk.results import Box
from lnsdk.volume import Volume

Rectangle = tuple[float, float, float, float]

PICTURE = 440
"""Side of a tile's picture in pixels."""

MARGIN = 14
CAPTION_LINE = 21
HEADER_LINE = 26
INSET_SHARE = 0.36
"""Side of the enlarged part, as a share of the picture's."""

INSET_MM = 36.0
"""Least field of the enlarged part; a larger lesion takes INSET_FIELD times its own size."""

INSET_FIELD = 1.8

INK = (236, 239, 244)
FAINT = (150, 158, 170)
PAPER = (17, 19, 24)
FRAME = (62, 68, 80)
FOUND = (255, 176, 0)
KNOWN = (0, 200, 255)
"""Colours: text, lesser text, background, edges, boxes that were found and boxes that are known; they differ for the
colour-blind too."""


@dataclass(frozen=True)
class Mark:
    """A box to draw, in the volume's voxels."""

    box: Box
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Tile:
    """One slice to show.

    Attributes
    ----------
    slice_index : int
        Along the volume's first array axis.
    focus : Box or None
        What is enlarged and chooses the CT window; None shows the slice alone.
    marks : sequence of Mark
        Boxes to draw.
    caption : sequence of str
        Lines below the picture; the first is the title, and the CT window's name is added to the last.
    """

    slice_index: int
    focus: Box | None
    marks: Sequence[Mark]
    caption: Sequence[str]


def draw_sheet(volume: Volume, tiles: Sequence[Tile], header: Sequence[str], footer: str) -> Image.Image:
    """Draw tiles in a grid below a header.

    Parameters
    ----------
    volume : Volume
        What the slices are cut from.
    tiles : sequence of Tile
        At least one.
    header : sequence of str
        Lines above the tiles; the first is the title.
    footer : str
        Line below them.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    columns = _columns(len(tiles))
    rows = -(-len(tiles) // columns)
    caption_lines = max(len(tile.caption) for tile in tiles)
    tile_height = PICTURE + caption_lines * CAPTION_LINE + MARGIN
    top = MARGIN + len(header) * HEADER_LINE + MARGIN
    longest = max(_font(size).getlength(text) for text, size in _sized(header, footer))
    width = max(columns * (PICTURE + MARGIN), int(longest) + MARGIN) + MARGIN
    sheet = Image.new("RGB", (width, top + rows * (tile_height + MARGIN) + CAPTION_LINE + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    for line, (text, size) in enumerate(_sized(header, footer)[:-1]):
        pen.text((MARGIN, MARGIN + line * HEADER_LINE), text, INK if line == 0 else FAINT, _font(size))
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        corner = (MARGIN + column * (PICTURE + MARGIN), top + row * (tile_height + MARGIN))
        view = view_slice(volume, tile.slice_index)
        window = SOFT_TISSUE if tile.focus is None else view.window_for(tile.focus)
        sheet.paste(_picture(view, window, tile), corner)
        for line, text in enumerate((*tile.caption[:-1], f"{tile.caption[-1]}   {window.name}")):
            place = (corner[0], corner[1] + PICTURE + 7 + line * CAPTION_LINE)
            pen.text(place, text, INK if line == 0 else FAINT, _font(17 if line == 0 else 14))
    pen.text((MARGIN, sheet.height - CAPTION_LINE - MARGIN // 2), footer, FAINT, _font(14))
    return sheet


def _picture(view: View, window: Window, tile: Tile) -> Image.Image:
    grey = Image.fromarray(view.grey(window))
    field = _body_field(view, [mark.box for mark in tile.marks])
    picture = _shown(grey, view, field, PICTURE)
    pen = ImageDraw.Draw(picture)
    for mark in tile.marks:
        _draw_box(pen, _placed(view.rectangle(mark.box), field, PICTURE), mark.color, width=2)
    _draw_letters(pen, view)
    if tile.focus is not None:
        _paste_inset(picture, grey, view, tile.focus, tile.marks, field)
    pen.rectangle((0, 0, PICTURE - 1, PICTURE - 1), outline=FRAME)
    return picture


def _paste_inset(
    picture: Image.Image, grey: Image.Image, view: View, focus: Box, marks: Sequence[Mark], field: Rectangle
) -> None:
    """Put the enlarged focus into the corner that is farthest from it."""
    side = round(PICTURE * INSET_SHARE)
    rectangle = view.rectangle(focus)
    near = _focus_field(view, rectangle)
    inset = _shown(grey, view, near, side)
    pen = ImageDraw.Draw(inset)
    for mark in marks:
        _draw_box(pen, _placed(view.rectangle(mark.box), near, side), mark.color, width=1)
    pen.rectangle((0, 0, side - 1, side - 1), outline=INK)
    left, top, right, bottom = _placed(rectangle, field, PICTURE)
    x = 6 if (left + right) / 2 > PICTURE / 2 else PICTURE - side - 6
    y = 6 if (top + bottom) / 2 > PICTURE / 2 else PICTURE - side - 6
    picture.paste(inset, (x, y))


def _body_field(view: View, boxes: Sequence[Box]) -> Rectangle:
    """Return the square field, in view pixels, that shows the body and all boxes."""
    _, rows, columns = ops.body_box(view.hu[None], (*view.pixel_mm, max(view.pixel_mm)))
    rectangles = np.array([(columns[0], rows[0], columns[1], rows[1]), *map(view.rectangle, boxes)], np.float64)
    left, top = rectangles[:, :2].min(axis=0).tolist()
    right, bottom = rectangles[:, 2:].max(axis=0).tolist()
    return _square(view, (left, top, right, bottom))


def _focus_field(view: View, rectangle: Rectangle) -> Rectangle:
    left, top, right, bottom = rectangle
    x_mm, y_mm = view.pixel_mm
    side = max(INSET_MM, INSET_FIELD * max((right - left) * x_mm, (bottom - top) * y_mm))
    x, y, half_x, half_y = (left + right) / 2, (top + bottom) / 2, side / 2 / x_mm, side / 2 / y_mm
    return x - half_x, y - half_y, x + half_x, y + half_y


def _square(view: View, field: Rectangle) -> Rectangle:
    """Widen a field about its centre until it is square in mm."""
    left, top, right, bottom = field
    x_mm, y_mm = view.pixel_mm
    half = max((right - left) * x_mm, (bottom - top) * y_mm) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return x - half / x_mm, y - half / y_mm, x + half / x_mm, y + half / y_mm


def _shown(grey: Image.Image, view: View, field: Rectangle, side: int) -> Image.Image:
    """Return a field of a slice as a square RGB picture; what lies outside the slice is background."""
    width, height = grey.size
    left, top, right, bottom = field
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    x1, y1, x2, y2 = (round(value) for value in _placed(inside, field, side))
    picture = Image.new("RGB", (side, side), PAPER)
    if x2 > x1 and y2 > y1 and inside[2] > inside[0] and inside[3] > inside[1]:
        part = grey.resize((x2 - x1, y2 - y1), Image.Resampling.BICUBIC, box=inside)
        picture.paste(part.convert("RGB"), (x1, y1))
    return picture


def _placed(rectangle: Rectangle, field: Rectangle, side: int) -> Rectangle:
    """Return where a rectangle of the view lies on a picture of a field."""
    left, top, right, bottom = field
    across, down = side / (right - left), side / (bottom - top)
    return (
        (rectangle[0] - left) * across,
        (rectangle[1] - top) * down,
        (rectangle[2] - left) * across,
        (rectangle[3] - top) * down,
    )


def _draw_box(pen: ImageDraw.ImageDraw, rectangle: Rectangle, color: tuple[int, int, int], width: int) -> None:
    """Draw a box around what it encloses: the line lies outside."""
    x1, y1, x2, y2 = (round(value) for value in rectangle)
    pen.rectangle((x1 - width, y1 - width, x2 + width - 1, y2 + width - 1), outline=color, width=width)


def _draw_letters(pen: ImageDraw.ImageDraw, view: View) -> None:
    left, right, top, bottom = view.letters
    middle, near, far = PICTURE // 2, 12, PICTURE - 12
    for letter, place in (
        (left, (near, middle)),
        (right, (far, middle)),
        (top, (middle, near)),
        (bottom, (middle, far)),
    ):
        pen.text(place, letter, INK, _font(16), anchor="mm", stroke_width=2, stroke_fill=PAPER)


def _columns(count: int) -> int:
    return min(count, 4 if count > 6 else 3 if count > 4 or count == 3 else 2)


def _sized(header: Sequence[str], footer: str) -> list[tuple[str, int]]:
    return [(text, 20 if line == 0 else 15) for line, text in enumerate(header)] + [(footer, 14)]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
