"""H.264 by FFmpeg's decoder and libx264, inside a sealed child: packets in, pictures out, and back.

What Gecko calls a GMP: a native codec that a page plays video with, loaded when the sandbox is on. It sees no container
and no file; what it wants to remember, its host stores. Its streams feed each other, so they run on an event loop: one
that waits for packets lets another encode.
"""

# PyAV's stubs leave the type of packets open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from typing import Any, TypeVar

import av
import msgspec
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane

from belljar import Buffer, raises, service
from interfaces import History, Packet, Picture, RecordStore, Unusable

T = TypeVar("T")
U = TypeVar("U")

RECORD = "history"
TAG = 32  # bytes of the HMAC that ends the record
MICROSECONDS = Fraction(1, 1_000_000)
REALTIME = {"preset": "superfast", "tune": "zerolatency", "threads": "1"}


class Codec:
    def __init__(self) -> None:
        self._store = service(RecordStore)
        self._decoded = 0

    async def history(self) -> History:
        """What is remembered of earlier plays."""
        record = await self._store.read(RECORD)
        known, tag = record[:-TAG], record[-TAG:]
        if hmac.compare_digest(tag, await self._tag(known)):
            return msgspec.msgpack.decode(known, type=History)
        return History(foreign=bool(record))

    async def remember(self) -> None:
        """Add what was played to the history."""
        earlier = await self.history()
        known = msgspec.msgpack.encode(History(earlier.plays + 1, earlier.pictures + self._decoded))
        await self._store.write(RECORD, known + await self._tag(known))
        self._decoded = 0

    async def _tag(self, known: bytes) -> bytes:
        return hmac.digest(await self._store.storage_id(), known, "sha256")

    @raises(Unusable)
    async def decode(self, setup: bytes, packets: AsyncIterator[Packet]) -> AsyncIterator[Picture]:
        """The pictures of *packets*, in the order in which they are shown."""
        context = av.CodecContext.create("h264", "r")
        context.extradata = setup or None
        context.thread_count = 1  # each thread more takes address space, and the child's is limited
        try:
            async for packet in _flushed(packets, _compressed):
                for frame in context.decode(packet):
                    self._decoded += 1
                    yield _picture(frame)
        except FFmpegError as error:
            raise Unusable(f"damaged video: {error.strerror}") from None

    @raises(Unusable)
    async def encode(
        self, width: int, height: int, quality: int, pictures: AsyncIterator[Picture]
    ) -> AsyncIterator[Packet]:
        """*pictures*, all of one size, as packets."""
        context = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = MICROSECONDS
        context.options = {**REALTIME, "crf": str(quality)}
        try:
            async for frame in _flushed(pictures, _frame):
                for packet in context.encode(frame):
                    yield Packet(bytes(packet), packet.pts or 0)
        except FFmpegError as error:
            raise Unusable(f"libx264 cannot encode this: {error.strerror}") from None


async def _flushed(items: AsyncIterator[T], convert: Callable[[T], U]) -> AsyncIterator[U | None]:
    """*items* as FFmpeg has them, and at last None, upon which it gives what it held back."""
    async for item in items:
        yield convert(item)
    yield None


def _compressed(packet: Packet) -> av.Packet[Any]:
    compressed = av.Packet(packet.data)
    compressed.pts, compressed.time_base = packet.time, MICROSECONDS
    return compressed


def _picture(frame: VideoFrame) -> Picture:
    plain = frame.reformat(format="yuv420p", threads=1)  # the frame itself, if it is so already
    i420 = b"".join(_packed(plane) for plane in plain.planes)
    return Picture(frame.width, frame.height, frame.pts or 0, Buffer(memoryview(i420)))


def _packed(plane: VideoPlane) -> bytes:
    """The samples of *plane* without the padding that FFmpeg leaves at the end of each line."""
    lines = memoryview(plane)
    starts = range(0, plane.height * plane.line_size, plane.line_size)
    return b"".join(lines[start : start + plane.width] for start in starts)


def _frame(picture: Picture) -> VideoFrame:
    frame = VideoFrame(picture.width, picture.height, "yuv420p")
    frame.pts, frame.time_base = picture.time, MICROSECONDS
    rest = picture.i420.view
    for plane in frame.planes:
        size = plane.width * plane.height
        plane.update(_padded(plane, rest[:size]))
        rest = rest[size:]
    return frame


def _padded(plane: VideoPlane, samples: memoryview) -> bytes:
    padding = bytes(plane.line_size - plane.width)
    starts = range(0, len(samples), plane.width)
    return b"".join(part for start in starts for part in (samples[start : start + plane.width], padding))
