"""A plugin that draws text. Its host draws the same text with the same code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from belljar import handed

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont


def drawn(font: FreeTypeFont) -> bytes:
    """Return the pixels of a text of two lines, with kerning, accents, and letters that the font lacks."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (300, 120), "white")
    ImageDraw.Draw(image).multiline_text((4, 4), "AVATAR fi Äß\nΩΔ 文 123 (x)", font=font, fill=(20, 40, 160))
    return image.tobytes()


class Typeset:
    """Draws with fonts that were handed on, or that it opens itself."""

    def text(self, name: str, size: float) -> bytes:
        return drawn(handed("fonts").font(name, size))

    def names(self) -> list[str]:
        return list(handed("fonts").names)

    def by_itself(self, path: str) -> bytes:
        from PIL import ImageFont

        return drawn(ImageFont.truetype(path, 24))

    def default(self) -> bytes:
        from PIL import ImageFont

        font = ImageFont.load_default(24)
        assert isinstance(font, ImageFont.FreeTypeFont)
        return drawn(font)
