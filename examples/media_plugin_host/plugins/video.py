"""Facts, frames and packets of videos by PyAV, inside a sealed child: bytes in, bytes out, no file opened."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from itertools import islice

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from interfaces import Clip, Frame, Packet, Track


class Video:
    def describe(self, data: bytes) -> Clip:
        """What the header of *data* says. Raises ValueError if it is no video."""
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

    def frames(self, data: bytes, count: int, size: int) -> list[Frame]:
        """*count* frames spread evenly over *data*, each at most *size* pixels a side. Raises ValueError."""
        with _open(data) as container:
            stream = _video_stream(container)
            step = _seconds(container) / count
            start = (container.start_time or 0) / av.time_base  # broadcast formats do not begin at 0
            times = (start + step * (n + 0.5) for n in range(count))
            try:
                found = [_frame_near(container, stream, time, step / 2) for time in times]
                return [_small(frame, size, _time(frame) - start) for frame in found]
            except FFmpegError as error:
                raise ValueError(f"damaged video: {error.strerror}") from None


class Demuxer:
    """Takes clips apart and decodes nothing."""

    def __init__(self) -> None:
        self._packets: Iterator[Packet] = iter(())

    def open(self, data: bytes) -> Track:
        """The video track of *data*, whose packets come next. Raises ValueError if it is no video."""
        container = _open(data)
        stream = _video_stream(container)
        self._packets = (
            Packet(bytes(packet), _microseconds(packet)) for packet in container.demux(stream) if packet.size
        )
        context = stream.codec_context
        return Track(
            codec=context.codec.canonical_name,
            width=context.width,
            height=context.height,
            packets=stream.frames,
            setup=context.extradata or b"",
        )

    def packets(self, count: int) -> list[Packet]:
        """The next *count* packets, as far as there are any. Raises ValueError."""
        try:
            return list(islice(self._packets, count))
        except FFmpegError as error:
            raise ValueError(f"damaged video: {error.strerror}") from None


def _microseconds(packet: av.Packet[VideoStream]) -> int:
    return 0 if packet.pts is None else int(packet.pts * packet.time_base * 1_000_000)


def _open(data: bytes) -> InputContainer:
    try:
        return av.open(BytesIO(data), mode="r")
    except FFmpegError as error:
        raise ValueError(f"not a video, or one cut short: {error.strerror}") from None


def _video_stream(container: InputContainer) -> VideoStream:
    if not container.streams.video:
        raise ValueError("no video track")
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
    raise ValueError(f"video cut short: its header promises more than {seconds:.1f} s, the pictures end earlier")


def _time(frame: VideoFrame) -> float:
    return 0.0 if frame.pts is None else frame.time  # a raw stream has no times


def _small(frame: VideoFrame, size: int, seconds: float) -> Frame:
    scale = min(size / max(frame.width, frame.height), 1.0)
    rgb = frame.reformat(
        width=max(round(frame.width * scale), 1), height=max(round(frame.height * scale), 1), format="rgb24", threads=1
    )
    return Frame(seconds=seconds, width=rgb.width, height=rgb.height, rgb=_pixels(rgb), rotation=frame.rotation)


def _pixels(frame: VideoFrame) -> bytes:
    """The pixels of *frame* without the padding that FFmpeg leaves at the end of each line."""
    plane = frame.planes[0]
    lines, used = memoryview(plane), frame.width * 3
    starts = range(0, frame.height * plane.line_size, plane.line_size)
    return b"".join(lines[start : start + used] for start in starts)
