"""A plugin that uses each library which the step warm-imports knows."""

from __future__ import annotations

import codecs
import ssl
import zoneinfo
from collections.abc import Callable
from io import BytesIO
from typing import Any

from belljar import handed


def _picture(name: str, data: bytes) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(data)) as image:
            small = image.convert("RGB").resize((20, 20))
        from PIL import ImageFilter

        file = BytesIO()
        small.filter(ImageFilter.BLUR).save(file, name)
    except (UnidentifiedImageError, ImportError, KeyError) as error:
        return type(error).__name__
    return "well" if len(file.getvalue()) > 20 else "empty"


class Wants:
    """Each method takes one library through what it is for."""

    def idna(self) -> str:
        import idna

        return idna.encode("BÜCHER.example", uts46=True).decode()

    def locale(self) -> str:
        return b"\x82\xb1".decode("shift_jis") + b"\xc8".decode("iso8859-2") + codecs.encode("abc", "rot13")

    def numpy(self) -> list[float]:
        import numpy as np

        spectrum = np.abs(np.fft.rfft(np.ones(4)))
        drawn = np.random.default_rng(1).integers(0, 9, 3)
        return [float(spectrum[0]), float(np.polynomial.Polynomial([1, 2])(3)), float(drawn.max() < 9)]

    def pillow(self, pictures: dict[str, bytes]) -> dict[str, str]:
        """Open, convert and blur each picture and write it in its format; say what became of it."""
        return {name: _picture(name, data) for name, data in pictures.items()}

    def pyav(self, clip: bytes) -> tuple[int, int, str]:
        """The number of pictures and of sound frames, and how junk is refused."""
        import av
        from av.error import FFmpegError

        with av.open(BytesIO(clip), "r") as container:
            container.streams.video[0].codec_context.thread_count = 1
            pictures = [frame.reformat(format="rgb24", threads=1) for frame in container.decode(video=0)]
        with av.open(BytesIO(clip), "r") as container:
            container.streams.audio[0].codec_context.thread_count = 1
            sounds = list(container.decode(audio=0))
        try:
            av.open(BytesIO(b"junk")).close()
        except FFmpegError as error:
            return len(pictures), len(sounds), type(error).__name__
        return len(pictures), len(sounds), ""

    def ssl(self) -> int:
        """How many authorities a new context trusts."""
        return ssl.create_default_context().cert_store_stats()["x509_ca"]

    def ssl_handed(self) -> int:
        context: ssl.SSLContext = handed("warm-imports")["ssl"]
        return context.cert_store_stats()["x509_ca"]

    def zoneinfo(self) -> int:
        """How many of these it knows."""
        known = 0
        for name in ("Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Antarctica/Troll"):
            try:
                known += zoneinfo.ZoneInfo(name).key == name
            except zoneinfo.ZoneInfoNotFoundError:
                continue
        return known

    def attempt(self, method: str) -> str:
        """Call *method*; return the kind of error that it raises, or what it returns, as text."""
        function: Callable[[], Any] = getattr(self, method)
        try:
            return str(function())
        except (ImportError, LookupError, AttributeError) as error:
            return f"{type(error).__name__}: {error}"
