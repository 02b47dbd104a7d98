"""Plays a clip through sealed children: one takes it apart, one decodes it, encodes it anew and decodes that again.

The host hands packets and pictures on, compares and shows pictures, and parses nothing. What the children say of
themselves is checked before it is used.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from PIL import Image, ImageChops, ImageStat

from command import Trouble
from contact_sheet import TILE, Tile
from interfaces import Codec, Demuxer, Packet, Picture, Track

LARGEST = 4096  # pixels a side
HELD_BACK = 32  # pictures that may be inside of encoder and decoder
QUALITY = 26  # x264's rate factor
SHOWN = 6  # pictures of a clip on its contact sheet


class NotBelieved(Trouble):
    """A child said what cannot be true."""


class Player:
    """Plays one clip with proxies of two children.

    Attributes:
        taken: Bytes of the clip's packets.
        given: Bytes that the encoder made of its pictures.
        quality: How near each picture is to what it was before the encoder, in dB (PSNR).
        seconds: How long it took to play.
    """

    def __init__(self, demuxer: Demuxer, codec: Codec) -> None:
        self.demuxer = demuxer
        self.codec = codec
        self.taken = 0
        self.given = 0
        self.quality: list[float] = []
        self.seconds = 0.0
        self._waiting: deque[Picture] = deque()
        self._packets = 0
        self._kept: list[tuple[Tile, Tile]] = []
        self._every = 1

    async def open(self, clip: bytes) -> Track:
        """Take *clip* apart. Raises Trouble unless it is H.264 of a size that can be, Unusable, BelljarError."""
        self.track = track = await self.demuxer.open(clip)
        if track.codec != "h264":
            raise Trouble(f"the video is {track.codec[:32]!a}, and this plugin plays h264: choose another clip")
        if not (0 < track.width <= LARGEST and 0 < track.height <= LARGEST):
            raise Trouble(f"the video has {track.width} x {track.height} pixels: {LARGEST} a side is the most")
        return track

    async def play(self, advance: Callable[[], object]) -> None:
        """Play all of it: four streams, each fed by the one before, so that the slowest sets the pace of all.

        *advance* hears of each packet that was sent. Raises Trouble, Unusable, BelljarError.
        """
        began = time.perf_counter()
        packets = self._counted(self.demuxer.packets(), advance)
        pictures = self._remembered(self.codec.decode(self.track.setup, packets))
        smaller = self._weighed(self.codec.encode(self.track.width, self.track.height, QUALITY, pictures))
        async with aclosing(self.codec.decode(b"", smaller)) as copies:
            async for copy in copies:
                self._compare(self._believed(copy))
        if self._waiting:
            raise NotBelieved(f"the codec lost {len(self._waiting)} pictures")
        self.seconds = time.perf_counter() - began

    async def _counted(self, packets: AsyncGenerator[Packet], advance: Callable[[], object]) -> AsyncGenerator[Packet]:
        async with aclosing(packets):
            async for packet in packets:
                self._packets += 1
                self.taken += len(packet.data)
                yield packet
                advance()

    async def _remembered(self, pictures: AsyncGenerator[Picture]) -> AsyncGenerator[Picture]:
        """*pictures*, each kept until its copy comes back."""
        async with aclosing(pictures):
            async for picture in pictures:
                self._waiting.append(self._believed(picture))
                if len(self.quality) + len(self._waiting) > self._packets:
                    raise NotBelieved(f"the codec made more pictures than it was given packets: {self._packets}")
                if len(self._waiting) > HELD_BACK:
                    raise NotBelieved(f"the codec holds {len(self._waiting)} pictures back")
                yield picture

    async def _weighed(self, packets: AsyncGenerator[Packet]) -> AsyncGenerator[Packet]:
        async with aclosing(packets):
            async for packet in packets:
                self.given += len(packet.data)
                yield packet

    def _believed(self, picture: Picture) -> Picture:
        width, height = picture.width, picture.height
        if (width, height) != (self.track.width, self.track.height):
            raise NotBelieved(f"a picture of {width} x {height} in a video of {self.track.width} x {self.track.height}")
        if len(picture.i420) != width * height + 2 * math.prod(_half(width, height)):
            raise NotBelieved(f"the codec sent {len(picture.i420)} bytes as a picture of {width} x {height} pixels")
        return picture

    def _compare(self, copy: Picture) -> None:
        if not self._waiting:
            raise NotBelieved("the codec made more pictures of its own packets than it had put in")
        original = self._waiting.popleft()
        number, decibel = len(self.quality), _psnr(original, copy)
        self.quality.append(decibel)
        if number % self._every == 0:
            when = f"{original.time / 1_000_000:.1f} s"
            before = Tile(f"picture {number + 1}", f"{when}, as the clip has it", _shown(original))
            self._kept.append((before, Tile(f"picture {number + 1}", f"encoded anew: {decibel:.1f} dB", _shown(copy))))
            self._thin_out()

    def _thin_out(self) -> None:
        """Nobody knows how long the clip is: keep twice what is shown, at most, evenly spread over what was played."""
        if len(self._kept) > 2 * SHOWN:
            del self._kept[1::2]
            self._every *= 2

    def tiles(self) -> list[Tile]:
        """A row of pictures from all over the clip, and a row of what the encoder made of them."""
        shown = min(SHOWN, len(self._kept))
        chosen = [self._kept[number * len(self._kept) // shown] for number in range(shown)]
        return [before for before, _ in chosen] + [after for _, after in chosen]


def _psnr(one: Picture, other: Picture) -> float:
    """How near two pictures of one size are, in dB, over all samples of their planes; 99 if nothing differs."""
    rows = [_gray((len(each.i420), 1), each.i420.view) for each in (one, other)]
    (squares,) = ImageStat.Stat(ImageChops.difference(*rows)).sum2
    return 10 * math.log10(255**2 * len(one.i420) / squares) if squares else 99.0


def _gray(size: tuple[int, int], samples: memoryview) -> Image.Image:
    view: Any = samples  # Pillow takes one, but does not say so
    return Image.frombuffer("L", size, view, "raw", "L", 0, 1)


def _half(width: int, height: int) -> tuple[int, int]:
    """The size of the planes U and V."""
    return (width + 1) // 2, (height + 1) // 2


def _shown(picture: Picture) -> Image.Image:
    """The picture at the size of a tile, in RGB: BT.601, with 16 as black and 235 as white."""
    size, half = (picture.width, picture.height), _half(picture.width, picture.height)
    second = math.prod(size)
    third = second + math.prod(half)
    samples = picture.i420.view
    y = _gray(size, samples[:second]).point([(n - 16) * 255 / 219 for n in range(256)])
    u, v = (
        _gray(half, plane).resize(size).point([(n - 128) * 255 / 224 + 128 for n in range(256)])
        for plane in (samples[second:third], samples[third:])
    )
    image = Image.merge("YCbCr", (y, u, v)).convert("RGB")
    image.thumbnail((TILE, TILE))
    return image
