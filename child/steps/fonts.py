"""The step ``fonts``: fonts read into memory before the seal, and handed on to be used at any size.

Facts: ``PIL.ImageFont.truetype(path)`` opens the file each time, in C, and says "cannot open resource" once sealed.
FreeType works as well on bytes in memory: no fd stays open, and a font made of bytes makes its other sizes from them.
Pillow loads FriBiDi, for right-to-left text, with dlopen(3) as ``PIL.ImageFont`` is imported, and parts of itself as it
first draws a text, so the step draws one with each font. No thread is started, so a zygote shares the
bytes with all its children; each font that a child takes is a copy of its own in FreeType. The font that Pillow brings
(``ImageFont.load_default``) needs no step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ..step import StepError, early_init
from ._nearest import nearest

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont


@early_init(needs=["files", "executable-memory"], shared=True)
def fonts(files: tuple[Path, ...]) -> Fonts:
    """Read the font *files*, of any kind that FreeType knows; a collection gives all its faces."""
    faces: dict[str, FreeTypeFont] = {}
    for path in files:
        for index, face in enumerate(_faces(path)):
            family, style = face.getname()
            names = (path.stem if index == 0 else f"{path.stem} {index}", f"{family} {style}")
            for name in dict.fromkeys(names):
                if name in faces:
                    raise StepError(f"two fonts are called {name!r}, the second in {path}; leave one of them out")
                faces[name] = face
            _draw(face)
    return Fonts(faces)


class Fonts:
    """What the step hands on. A font is called as its file, without the suffix, or by its family and style."""

    def __init__(self, faces: Mapping[str, FreeTypeFont]) -> None:
        self._faces = faces

    @property
    def names(self) -> tuple[str, ...]:
        """All names that `font` knows."""
        return tuple(self._faces)

    def font(self, name: str, size: float) -> FreeTypeFont:
        """Return the font *name* at *size* pixels: a new one, whose variations can be set without harm to others.

        Raises:
            StepError: no font of that name was read; the text says which is nearest.
        """
        if name not in self._faces:
            raise StepError(f"no font {name!r} was read before the seal{nearest(name, self._faces)}")
        return self._faces[name].font_variant(size=size)


def _faces(path: Path) -> Iterator[FreeTypeFont]:
    """Yield each face of a file: FreeType itself does not say how many it has, only that there is none so far on."""
    from PIL import ImageFont

    data = path.read_bytes()
    for index in itertools.count():
        try:
            yield ImageFont.truetype(BytesIO(data), 16, index)
        except OSError as error:
            if index > 0:
                return
            raise StepError(f"{path} is not a font: {error}") from None


def _draw(face: FreeTypeFont) -> None:
    """Take the ways that text takes into a picture, and the picture's own way out."""
    from PIL import Image, ImageDraw

    image = Image.new("RGBA", (32, 32))
    draw = ImageDraw.Draw(image)
    draw.text((0, 0), "Ag", font=face, fill="black")
    draw.multiline_text((0, 0), "Ag\nÄß", font=face, stroke_width=1, embedded_color=True)
    draw.textbbox((0, 0), "Ag", font=face)
    image.tobytes()
