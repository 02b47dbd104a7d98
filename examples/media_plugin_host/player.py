"""Plays a clip through sealed children: one takes it apart, one decodes it, encodes it anew and decodes that again.

The host hands packets and pictures on, compares and shows pictures, and parses nothing. What the children say of
themselves is checked before it is used.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from PIL import Image, ImageChops, ImageStat

from command import Trouble, in_time
from contact_sheet import TILE, Tile
from interfaces import Codec, Demuxer, Packet, Picture, Track

T = TypeVar("T")

BATCH = 8  # packets a call
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
        seconds: How long the calls of each method took.
    """

    def __init__(self, demuxer: Demuxer, codec: Codec) -> None:
        self.demuxer = demuxer
        self.codec = codec
        self.taken = 0
        self.given = 0
        self.quality: list[float] = []
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._waiting: deque[Picture] = deque()
        self._packets = 0
        self._kept: list[tuple[Tile, Tile]] = []
        self._every = 1

    async def open(self, clip: bytes) -> Track:
        """Take *clip* apart and get ready. Raises Trouble unless it is H.264 of a size that can be."""
        self.track = track = await self._call("open", self.demuxer.open(clip))
        if track.codec != "h264":
            raise Trouble(f"the video is {track.codec[:32]!a}, and this plugin plays h264: choose another clip")
        if not (0 < track.width <= LARGEST and 0 < track.height <= LARGEST):
            raise Trouble(f"the video has {track.width} x {track.height} pixels: {LARGEST} a side is the most")
        self._decoder = await self._call("open", self.codec.open_decoder(track.setup))
        self._encoder = await self._call("open", self.codec.open_encoder(track.width, track.height, QUALITY))
        self._checker = await self._call("open", self.codec.open_decoder(b""))
        return track

    async def play(self, advance: Callable[[int], object]) -> None:
        """Play all of it; *advance* hears how many packets are done. Raises Trouble, BelljarError."""
        while packets := await self._call("demux", self.demuxer.packets(BATCH)):
            if len(packets) > BATCH:
                raise NotBelieved(f"the demuxer sent {len(packets)} packets when asked for {BATCH}")
            await self._pass_on(packets)
            advance(len(packets))
        await self._pass_on([], last=True)
        if self._waiting:
            raise NotBelieved(f"the codec lost {len(self._waiting)} pictures")

    async def _pass_on(self, packets: list[Packet], *, last: bool = False) -> None:
        pictures = await self._call("decode", self.codec.decode(self._decoder, packets, last))
        self._packets += len(packets)
        if len(self.quality) + len(self._waiting) + len(pictures) > self._packets:
            raise NotBelieved(f"the codec made more pictures than it was given packets: {self._packets}")
        self._waiting += map(self._believed, pictures)
        smaller = await self._call("encode", self.codec.encode(self._encoder, pictures, last))
        for copy in await self._call("check", self.codec.decode(self._checker, smaller, last)):
            self._compare(self._believed(copy))
        if len(self._waiting) > HELD_BACK:
            raise NotBelieved(f"the codec holds {len(self._waiting)} pictures back")
        self.taken += sum(len(packet.data) for packet in packets)
        self.given += sum(len(packet.data) for packet in smaller)

    async def _call(self, name: str, call: Awaitable[T]) -> T:
        began = time.perf_counter()
        try:
            return await in_time(call)
        finally:
            self.seconds[name] += time.perf_counter() - began

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
        number, decibel = len(self.quality), _psnr(original.i420, copy.i420)
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


def _psnr(one: bytes, other: bytes) -> float:
    """How near two pictures of one size are, in dB, over all samples of their planes; 99 if nothing differs."""
    rows = [Image.frombytes("L", (len(samples), 1), samples) for samples in (one, other)]
    (squares,) = ImageStat.Stat(ImageChops.difference(*rows)).sum2
    return 10 * math.log10(255**2 * len(one) / squares) if squares else 99.0


def _half(width: int, height: int) -> tuple[int, int]:
    """The size of the planes U and V."""
    return (width + 1) // 2, (height + 1) // 2


def _shown(picture: Picture) -> Image.Image:
    """The picture at the size of a tile, in RGB: BT.601, with 16 as black and 235 as white."""
    size, half = (picture.width, picture.height), _half(picture.width, picture.height)
    second = math.prod(size)
    third = second + math.prod(half)
    y = Image.frombytes("L", size, picture.i420[:second]).point([(n - 16) * 255 / 219 for n in range(256)])
    u, v = (
        Image.frombytes("L", half, plane).resize(size).point([(n - 128) * 255 / 224 + 128 for n in range(256)])
        for plane in (picture.i420[second:third], picture.i420[third:])
    )
    image = Image.merge("YCbCr", (y, u, v)).convert("RGB")
    image.thumbnail((TILE, TILE))
    return image
