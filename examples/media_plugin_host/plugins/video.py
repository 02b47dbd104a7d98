"""Facts, frames and packets of videos by PyAV, inside a sealed child: a buffer in, a stream out, no file opened."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from belljar import Buffer, raises
from interfaces import Clip, Frame, Packet, Track, Unusable


class Video:
    @raises(Unusable)
    def describe(self, data: Buffer) -> Clip:
        """What the header of *data* says. Raises Unusable if it is no video."""
        with _open(data) as container:
            stream = _video_stream(container)
            audio = container.streams.audio
            return Clip(
                codec=stream.codec_context.codec.canonical_name,
                audio=audio[0].codec_context.codec.canonical_name if audio else "",
                duration=_seconds(container),
                width=stream.codec_context.width,
                height=stream.codec_context.height,
            )

    @raises(Unusable)
    def frames(self, data: Buffer, count: int, size: int) -> Iterator[Frame]:
        """*count* frames spread evenly over *data*, each at most *size* pixels a side. Raises Unusable."""
        with _open(data) as container, _damage_told():
            stream = _video_stream(container)
            step = _seconds(container) / count
            start = (container.start_time or 0) / av.time_base  # broadcast formats do not begin at 0
            for number in range(count):
                frame = _frame_near(container, stream, start + step * (number + 0.5), step / 2)
                yield Frame(_time(frame) - start, _small(frame, size), frame.rotation)


class Demuxer:
    """Takes clips apart and decodes nothing."""

    @raises(Unusable)
    def open(self, data: Buffer) -> Track:
        """The video track of *data*, whose packets come next. Raises Unusable if it is no video."""
        self._container = _open(data)
        stream = _video_stream(self._container)
        context = stream.codec_context
        return Track(
            codec=context.codec.canonical_name,
            width=context.width,
            height=context.height,
            packets=stream.frames,
            setup=context.extradata or b"",
        )

    @raises(Unusable)
    def packets(self) -> Iterator[Packet]:
        """The packets of that track, in their order. Raises Unusable."""
        with _damage_told():
            for packet in self._container.demux(video=0):
                if packet.size:
                    yield Packet(bytes(packet), _microseconds(packet))


@contextmanager
def _damage_told() -> Generator[None]:
    try:
        yield
    except FFmpegError as error:
        raise Unusable(f"damaged video: {error.strerror}") from None


def _microseconds(packet: av.Packet[VideoStream]) -> int:
    return 0 if packet.pts is None else int(packet.pts * packet.time_base * 1_000_000)


def _open(data: Buffer) -> InputContainer:
    try:
        return av.open(BytesIO(data.view), mode="r")
    except FFmpegError as error:
        raise Unusable(f"not a video, or one cut short: {error.strerror}") from None


def _video_stream(container: InputContainer) -> VideoStream:
    if not container.streams.video:
        raise Unusable("no video track")
    stream = container.streams.video[0]
    # Decoder threads cost address space by the dozen of megabytes each, and the child's is limited.
    stream.codec_context.thread_count = 1
    return stream


def _seconds(container: InputContainer) -> float:
    return (container.duration or 0) / av.time_base


def _frame_near(container: InputContainer, stream: VideoStream, seconds: float, slack: float) -> VideoFrame:
    """The frame shown at *seconds*, or the last one if it is at most *slack* seconds earlier."""
    for origin in (seconds, 0.0):  # a format without an index may seek too far: then from the beginning
        container.seek(int(origin * av.time_base))
        last: VideoFrame | None = None
        for frame in container.decode(stream):
            last = frame
            if _time(frame) >= seconds:
                break
        if last is not None and _time(last) >= seconds - slack:
            return last
    raise Unusable(f"video cut short: its header promises more than {seconds:.1f} s, the pictures end earlier")


def _time(frame: VideoFrame) -> float:
    return 0.0 if frame.pts is None else frame.time  # a raw stream has no times


def _small(frame: VideoFrame, size: int) -> Image.Image:
    scale = min(size / max(frame.width, frame.height), 1.0)
    width, height = (max(round(side * scale), 1) for side in (frame.width, frame.height))
    (plane,) = frame.reformat(width=width, height=height, format="rgb24", threads=1).planes
    lines: Any = memoryview(plane)  # each with the padding that FFmpeg leaves at its end
    return Image.frombuffer("RGB", (width, height), lines, "raw", "RGB", plane.line_size, 1)
