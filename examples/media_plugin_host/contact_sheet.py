"""The contact sheet: labelled thumbnails in rows, drawn by the host from pixels that children sent."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

TILE = 200  # pixels a side that a thumbnail may have
MARGIN = 16
LABEL_HEIGHT = 40
COLUMNS = 6
PAPER, INK, FAINT, ALARM = "#f7f5f0", "#222222", "#777777", "#a03030"


@dataclass(frozen=True)
class Tile:
    """One place on the sheet: a picture with its name and a line of facts, or the reason why there is none."""

    name: str
    facts: str
    image: Image.Image | None = None


def believed(image: Image.Image) -> Image.Image:
    """The picture that a child sent. Raises ValueError if it has no place here: it comes from untrusted code."""
    if image.mode != "RGB" or max(image.size) > TILE:
        raise ValueError(f"the child sent a picture of {image.width} x {image.height} pixels, {image.mode}")
    return image


def draw_sheet(tiles: Sequence[Tile]) -> Image.Image:
    """All *tiles* on one sheet, in their order."""
    columns = max(min(COLUMNS, len(tiles)), 1)
    rows = max(-(-len(tiles) // columns), 1)
    across, down = TILE + MARGIN, TILE + LABEL_HEIGHT + MARGIN
    sheet = Image.new("RGB", (columns * across + MARGIN, rows * down + MARGIN), PAPER)
    for number, tile in enumerate(tiles):
        _draw_tile(sheet, tile, MARGIN + number % columns * across, MARGIN + number // columns * down)
    return sheet


def _draw_tile(sheet: Image.Image, tile: Tile, left: int, top: int) -> None:
    pen = ImageDraw.Draw(sheet)
    if tile.image:
        sheet.paste(tile.image, (left + (TILE - tile.image.width) // 2, top + (TILE - tile.image.height) // 2))
    else:
        pen.rectangle((left, top, left + TILE - 1, top + TILE - 1), outline=ALARM)
        reason = textwrap.fill(tile.facts, 28, max_lines=8)
        pen.multiline_text((left + 10, top + 10), reason, fill=ALARM, font=_font(13), spacing=6)
    pen.text((left, top + TILE + 4), _fit(tile.name, 15), fill=INK, font=_font(15))
    pen.text(
        (left, top + TILE + 22), _fit(tile.facts if tile.image else "no thumbnail", 12), fill=FAINT, font=_font(12)
    )


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fit(text: str, size: int) -> str:
    """*text*, cut with an ellipsis to the width of a tile."""
    font = _font(size)
    if font.getlength(text) <= TILE:
        return text
    while text and font.getlength(text + "...") > TILE:
        text = text[:-1]
    return text + "..."
