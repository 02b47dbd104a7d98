"""Pillow registers the formats at the first ``open``, and imports parts of itself, C extensions among them, at the
first ``save``, ``tobytes``, ``convert``, filter or drawing. What it cannot import it takes for a format that does not
fit. No thread stays; that the decoder of AVIF starts some while it works takes a policy with threads.
"""

# Pillow's stubs leave the types of some parameters open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from io import BytesIO

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")
ANIMATED = ("GIF", "PNG", "TIFF", "WEBP")

_ELSEWHERE = frozenset(("BUFR", "EPS", "GRIB", "HDF5", "WMF"))
"""Formats that take another program or library."""


def warm() -> None:
    """Encode and decode a small picture in each format and mode, and do with pictures what is done with pictures."""
    from PIL import Image

    Image.init()
    for name in sorted((set(Image.SAVE) & set(Image.OPEN)) - _ELSEWHERE):
        for mode in MODES:
            if sample := _sample(name, mode):
                _decode(sample)
                if name == "ICNS":  # 0.1 s each, for it has a picture of each size in it
                    break
    for name in ANIMATED:
        _animate(name)
    _edit()
    _refuse()


def _sample(name: str, mode: str) -> bytes:
    """A picture of format *name* with an orientation tag where it takes one; nothing where it does not take *mode*."""
    from PIL import Image

    file = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned to the right
    try:
        Image.radial_gradient("L").resize((64, 48)).convert(mode).save(file, name, exif=exif, dpi=(72, 72))
    except (OSError, ValueError):
        return b""
    return file.getvalue()


def _decode(sample: bytes) -> None:
    from PIL import Image, ImageOps

    with Image.open(BytesIO(sample)) as image:
        image.draft("RGB", (16, 16))
        small = ImageOps.exif_transpose(image)
        small.thumbnail((16, 16))
        layer = small.convert("RGBA")
        Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB").tobytes()


def _animate(name: str) -> None:
    from PIL import Image, ImageSequence

    file = BytesIO()
    pictures = [Image.new("RGB", (16, 16), colour) for colour in ("red", "hsl(120, 100%, 50%)", "#00f")]
    pictures[0].save(file, name, save_all=True, append_images=pictures[1:])
    with Image.open(BytesIO(file.getvalue())) as image:
        for frame in ImageSequence.Iterator(image):
            frame.convert("RGB").tobytes()


def _edit() -> None:
    from PIL import Image, ImageChops, ImageCms, ImageDraw, ImageEnhance, ImageFilter, ImageOps, ImageStat

    image = Image.radial_gradient("L").resize((32, 32)).convert("RGB")
    image.filter(ImageFilter.GaussianBlur(1)).filter(ImageFilter.UnsharpMask())
    image.quantize(8).convert("RGB").rotate(30, expand=True)
    ImageEnhance.Color(ImageOps.autocontrast(image)).enhance(0.5)
    ImageDraw.Draw(image).ellipse((2, 2, 20, 20), fill="rebeccapurple")
    ImageStat.Stat(ImageChops.invert(image)).mean  # noqa: B018 - computed as it is read
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    ImageCms.profileToProfile(image, profile, profile)
    file = BytesIO()
    image.save(file, "JPEG", icc_profile=profile.tobytes(), quality=50, progressive=True)
    with Image.open(BytesIO(file.getvalue())) as again:
        again.getexif()
        again.verify()


def _refuse() -> None:
    """Errors, too, are found late: of what is no picture, and of one that is cut short."""
    from PIL import Image

    for junk in (b"no picture at all", _sample("PNG", "RGB")[:-40], _sample("JPEG", "RGB")[:-200]):
        try:
            with Image.open(BytesIO(junk)) as image:
                image.load()
        except (OSError, SyntaxError) as error:
            str(error)
