"""The demo's own material: real photographs and a real recording that Python packages ship, and clips made of them.

scikit-image ships the photographs and pyo the recording (see README.md for their licences). Their files are found by
the packages' metadata: importing the packages would load hundreds of megabytes of code that nobody needs here.
"""

# PyAV's stubs leave the type of packets open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, distribution
from io import BytesIO
from pathlib import Path
from typing import Literal, TypeAlias

import av
from PIL import Image

VideoCodec: TypeAlias = Literal["libx264", "libvpx-vp9"]
AudioCodec: TypeAlias = Literal["aac", "libopus"]

PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "rocket.jpg",
)
ON_FILM = ("rocket.jpg", "coffee.png", "chelsea.png", "hubble_deep_field.jpg")
CLIP_SIZE = (640, 360)
CLIP_RATE = 12  # frames a second


@dataclass(frozen=True)
class Material:
    """One thing to make thumbnails of: the bytes of a picture or of a video."""

    name: str
    data: bytes
    video: bool = False
    damaged: bool = False

    @property
    def label(self) -> str:
        """What stands under its thumbnails."""
        return Path(self.name).name


class MaterialMissing(Exception):
    """A file that the demo needs is not there; the message says which and what to do."""


def photographs() -> list[Material]:
    """The photographs that scikit-image ships. Raises MaterialMissing."""
    return [Material(name, _shipped("scikit-image", f"skimage/data/{name}").read_bytes()) for name in PHOTOGRAPHS]


def h264_clip() -> Material:
    """A clip made on the spot from the photographs and the recording of a flute: H.264 in MP4."""
    return Material("flute-h264.mp4", _encode("mp4", "libx264", {"preset": "superfast"}, "aac"), video=True)


def clips() -> list[Material]:
    """That clip, and another one with VP9 in WebM."""
    return [
        h264_clip(),
        Material(
            "flute-vp9.webm",
            _encode("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, "libopus"),
            video=True,
        ),
    ]


def damaged(photograph: Material, clip: Material) -> list[Material]:
    """Three inputs that a careless program chokes on: a corrupt picture, a truncated video, a decompression bomb."""
    middle = len(photograph.data) // 2
    corrupt = photograph.data[:middle] + bytes(64) + photograph.data[middle + 64 :]
    half = clip.data[: len(clip.data) // 2]
    return [
        Material(f"corrupt-{photograph.name}", corrupt, damaged=True),
        Material(f"truncated-{clip.name}", half, video=True, damaged=True),
        Material("bomb.png", bomb(30_000), damaged=True),
    ]


def bomb(side: int) -> bytes:
    """A black PNG of *side* x *side* pixels, one bit each: small, but it would decode to ``side * side`` bytes."""
    line = bytes(1 + (side + 7) // 8)
    packed = zlib.compress(line * side, 1)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _shipped(package: str, name: str) -> Path:
    try:
        path = Path(str(distribution(package).locate_file(name)))
    except PackageNotFoundError:
        raise MaterialMissing(
            f"{package} is not installed: pip install 'belljar[demo]', or name your own files"
        ) from None
    if not path.is_file():
        raise MaterialMissing(f"{package} ships no {name} any more: install the version that constraints.txt names")
    return path


def _encode(container: str, video: VideoCodec, options: dict[str, str], audio: AudioCodec) -> bytes:
    """A clip as long as the recording, in memory."""
    film = BytesIO()
    with (
        av.open(film, "w", format=container) as output,
        av.open(str(_shipped("pyo", "pyo/examples/snds/flute.aif"))) as sound,
    ):
        pictures = output.add_stream(video, rate=CLIP_RATE, options=options, width=CLIP_SIZE[0], height=CLIP_SIZE[1])
        track = output.add_stream(audio, rate=48_000)
        for number, image in enumerate(_pan(round((sound.duration or 0) / av.time_base * CLIP_RATE))):
            frame = av.VideoFrame.from_bytes(image.convert("RGBA").tobytes(), *CLIP_SIZE)
            frame.pts, frame.time_base = number, Fraction(1, CLIP_RATE)
            output.mux(pictures.encode(frame))
        for samples in sound.decode(audio=0):
            output.mux(track.encode(samples))
        output.mux(pictures.encode(None))
        output.mux(track.encode(None))
    return film.getvalue()


def _pan(count: int) -> Iterator[Image.Image]:
    """*count* frames that move slowly over each photograph in turn."""
    photos = [_wide(Image.open(_shipped("scikit-image", f"skimage/data/{name}")).convert("RGB")) for name in ON_FILM]
    each = -(-count // len(photos))
    for number in range(count):
        photo, step = photos[number // each], number % each
        zoom = 1 - 0.25 * step / each
        width, height = photo.width * zoom, photo.height * zoom
        left, top = (photo.width - width) / 2, (photo.height - height) / 2
        yield photo.resize(CLIP_SIZE, box=(left, top, left + width, top + height))


def _wide(photo: Image.Image) -> Image.Image:
    """The middle of *photo* in the clip's proportions."""
    height = min(photo.height, photo.width * CLIP_SIZE[1] // CLIP_SIZE[0])
    width = height * CLIP_SIZE[0] // CLIP_SIZE[1]
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    return photo.crop((left, top, left + width, top + height))
