"""Thumbnails by Pillow, inside a sealed child: a buffer in, a picture out, no file opened."""

from __future__ import annotations

import warnings
from io import BytesIO

from PIL import Image, ImageOps, UnidentifiedImageError

from belljar import Buffer, raises
from interfaces import Thumbnail, Unusable

# Pillow refuses a picture of more than twice this number of pixels and only warns between once and twice. In a child
# that lives for thumbnails a warning helps nobody, so it is an error here: the bomb is refused before it is decoded.
Image.MAX_IMAGE_PIXELS = 64_000_000
warnings.simplefilter("error", Image.DecompressionBombWarning)


class Thumbnailer:
    @raises(Unusable)
    def thumbnail(self, data: Buffer, size: int) -> Thumbnail:
        """A thumbnail of *data* of at most *size* pixels a side. Raises Unusable if there can be none."""
        try:
            with Image.open(BytesIO(data.view)) as image:
                return _shrink(image, size)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise Unusable(f"refused before decoding: {_first_sentence(error)}") from None
        except UnidentifiedImageError:
            raise Unusable("not a picture that Pillow knows") from None
        except (OSError, SyntaxError, EOFError) as error:
            raise Unusable(f"damaged picture: {error}") from None


def _shrink(image: Image.Image, size: int) -> Thumbnail:
    source_width, source_height = image.size
    name = image.format or "unknown"
    image.draft("RGB", (size, size))  # a JPEG decodes straight to a fraction of its size
    small = ImageOps.exif_transpose(image)
    small.thumbnail((size, size))
    return Thumbnail(_on_white(small), name, source_width, source_height)


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _first_sentence(error: Warning | Exception) -> str:
    return str(error).split(", could be")[0].lower()
