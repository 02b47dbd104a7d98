"""Pillow's images as attachments: their pixels, and nothing of the file that they came from.

What arrives is read-only. Its pixels are not copied where Pillow keeps them as they travel (``L``, ``RGBA``, ``CMYK``,
``I;16``); ``RGB`` takes four bytes a pixel there and three on the way.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from PIL import Image
from PIL import ImageFile as ImageFile  # what gives and takes pixels imports it when first used: too late after a seal

from .adapters import Adapter, Number
from .attachments import Attached, Attaching
from .buffers import keep
from .errors import ValueUnfit

_BYTES = dict(L=1, LA=2, RGB=3, RGBA=4, RGBX=4, CMYK=4, YCbCr=3, HSV=3, LAB=3, I=4, F=4) | {"I;16": 2}
_Mode = Literal["L", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"]
_Length = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
_Wire = tuple[_Mode, _Length, _Length, Number]


def _encode(value: Any, kind: Any, attaching: Attaching) -> tuple[str, int, int, int]:
    if not isinstance(value, Image.Image):
        raise ValueUnfit(f"Expected `Image`, got `{type(value).__name__}`")
    if value.mode not in _BYTES or not value.width or not value.height:
        raise ValueUnfit(f"an image of mode {value.mode} and size {value.size} cannot be sent; convert it")
    return value.mode, value.width, value.height, attaching.buffer(memoryview(value.tobytes()))


def _decode(wire: tuple[Any, int, int, int], kind: Any, attached: Attached) -> Image.Image:
    mode, width, height, number = wire
    buffer = attached.buffer(number)
    if width * height * _BYTES[mode] != len(buffer):
        raise ValueUnfit(f"an image of mode {mode} and size {width} x {height} has not {len(buffer)} bytes")
    view: Any = buffer.view  # Pillow takes one, but does not say so
    image = Image.frombuffer(mode, (width, height), view, "raw", mode, 0, 1)
    keep(buffer, image)
    return image


ADAPTER = Adapter(_Wire, _encode, _decode, "image")
