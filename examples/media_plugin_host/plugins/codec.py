"""H.264 by FFmpeg's decoder and libx264, inside a sealed child: packets in, pictures out, and back.

What Gecko calls a GMP: a native codec that a page plays video with, loaded when the sandbox is on. It sees no container
and no file; what it wants to remember, its host stores.
"""

# PyAV's stubs leave the type of packets open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import hmac
from fractions import Fraction
from typing import Any

import av
import msgspec
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane

from belljar import service
from interfaces import History, Packet, Picture, RecordStore

RECORD = "history"
TAG = 32  # bytes of the HMAC that ends the record
MICROSECONDS = Fraction(1, 1_000_000)
REALTIME = {"preset": "superfast", "tune": "zerolatency", "threads": "1"}


class Codec:
    def __init__(self) -> None:
        self._store = service(RecordStore)
        self._sessions: list[VideoCodecContext] = []
        self._decoded = 0

    def history(self) -> History:
        """What is remembered of earlier plays."""
        record = self._store.read(RECORD)
        known, tag = record[:-TAG], record[-TAG:]
        if hmac.compare_digest(tag, self._tag(known)):
            return msgspec.msgpack.decode(known, type=History)
        return History(foreign=bool(record))

    def remember(self) -> None:
        """Add what was played to the history."""
        earlier = self.history()
        known = msgspec.msgpack.encode(History(earlier.plays + 1, earlier.pictures + self._decoded))
        self._store.write(RECORD, known + self._tag(known))
        self._decoded = 0

    def _tag(self, known: bytes) -> bytes:
        return hmac.digest(self._store.storage_id(), known, "sha256")

    def open_decoder(self, setup: bytes) -> int:
        """A new session; *setup* as the container has it, or nothing if the packets carry it (Annex B of H.264)."""
        context = av.CodecContext.create("h264", "r")
        context.extradata = setup or None
        context.thread_count = 1  # each thread more takes address space, and the child's is limited
        return self._session(context)

    def open_encoder(self, width: int, height: int, quality: int) -> int:
        """A new session; *quality* is x264's rate factor: 0 loses nothing, 51 nearly everything."""
        context = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = MICROSECONDS
        context.options = {**REALTIME, "crf": str(quality)}
        return self._session(context)

    def _session(self, context: VideoCodecContext) -> int:
        self._sessions.append(context)
        return len(self._sessions) - 1

    def decode(self, session: int, packets: list[Packet], last: bool) -> list[Picture]:
        """The pictures that are ready now, in the order in which they are shown. Raises ValueError."""
        context = self._sessions[session]
        given: list[av.Packet[Any] | None] = [*map(_compressed, packets), *[None] * last]
        try:
            frames = [frame for packet in given for frame in context.decode(packet)]
        except FFmpegError as error:
            raise ValueError(f"damaged video: {error.strerror}") from None
        self._decoded += len(frames)
        return [_picture(frame) for frame in frames]

    def encode(self, session: int, pictures: list[Picture], last: bool) -> list[Packet]:
        """The packets that are ready now. Raises ValueError."""
        context = self._sessions[session]
        given: list[VideoFrame | None] = [*map(_frame, pictures), *[None] * last]
        try:
            made = [packet for frame in given for packet in context.encode(frame)]
        except FFmpegError as error:
            raise ValueError(f"libx264 cannot encode this: {error.strerror}") from None
        return [Packet(bytes(packet), packet.pts or 0) for packet in made]


def _compressed(packet: Packet) -> av.Packet[Any]:
    compressed = av.Packet(packet.data)
    compressed.pts, compressed.time_base = packet.time, MICROSECONDS
    return compressed


def _picture(frame: VideoFrame) -> Picture:
    plain = frame.reformat(format="yuv420p", threads=1)  # the frame itself, if it is so already
    i420 = b"".join(_packed(plane) for plane in plain.planes)
    return Picture(frame.width, frame.height, frame.pts or 0, i420)


def _packed(plane: VideoPlane) -> bytes:
    """The samples of *plane* without the padding that FFmpeg leaves at the end of each line."""
    lines = memoryview(plane)
    starts = range(0, plane.height * plane.line_size, plane.line_size)
    return b"".join(lines[start : start + plane.width] for start in starts)


def _frame(picture: Picture) -> VideoFrame:
    frame = VideoFrame(picture.width, picture.height, "yuv420p")
    frame.pts, frame.time_base = picture.time, MICROSECONDS
    rest = memoryview(picture.i420)
    for plane in frame.planes:
        size = plane.width * plane.height
        plane.update(_padded(plane, rest[:size]))
        rest = rest[size:]
    return frame


def _padded(plane: VideoPlane, samples: memoryview) -> bytes:
    padding = bytes(plane.line_size - plane.width)
    starts = range(0, len(samples), plane.width)
    return b"".join(part for start in starts for part in (samples[start : start + plane.width], padding))
