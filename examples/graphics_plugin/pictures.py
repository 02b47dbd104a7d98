"""The pictures that the host makes of a child's frames: a contact sheet, and a film of one turn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from .interfaces import HEIGHT, WIDTH

SMALL = (480, 270)
COLUMNS, MARGIN = 4, 12
PAPER = "#16161c"
FILM_SECONDS = 4.0


def picture(rgb: bytes) -> Image.Image:
    """The frame that a child sent, the right way up. Raises ValueError if it is none: the sender is not trusted."""
    if len(rgb) != WIDTH * HEIGHT * 3:
        raise ValueError(f"the child sent {len(rgb)} bytes as a picture of {WIDTH} x {HEIGHT} pixels")
    return Image.frombytes("RGB", (WIDTH, HEIGHT), rgb).transpose(Image.Transpose.FLIP_TOP_BOTTOM)


def small(frame: Image.Image) -> Image.Image:
    """*frame* as it stands on the sheet and in the film."""
    return frame.resize(SMALL, Image.Resampling.LANCZOS, reducing_gap=2.0)


def draw_sheet(frames: Sequence[Image.Image]) -> Image.Image:
    """All small *frames* in rows."""
    columns = min(COLUMNS, len(frames))
    across, down = SMALL[0] + MARGIN, SMALL[1] + MARGIN
    rows = -(-len(frames) // columns)
    sheet = Image.new("RGB", (columns * across + MARGIN, rows * down + MARGIN), PAPER)
    for number, frame in enumerate(frames):
        sheet.paste(frame, (MARGIN + number % columns * across, MARGIN + number // columns * down))
    return sheet


def save_film(frames: Sequence[Image.Image], path: Path) -> None:
    """Write small *frames* as a film without end, all in the colours of the first."""
    palette = frames[0].quantize(255)
    flat = [frame.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    duration = max(20, round(FILM_SECONDS * 1000 / len(flat)))
    flat[0].save(path, save_all=True, append_images=flat[1:], duration=duration, loop=0)
