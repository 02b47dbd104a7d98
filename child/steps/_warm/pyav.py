"""PyAV imports the class of a stream when the first container has one of its kind; FFmpeg's codecs are all in place.

The C library loads a module for the names of an MPEG-TS, which are in ISO 6937 (iconv_open(3)), and so does for other
character sets. With one thread for each codec nothing is left running; a decoder that a plugin makes without saying so
starts a thread for each processor, which takes a policy with threads and tens of megabytes of address space for each.
"""

# PyAV's stubs leave the types of packets and streams open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from av import VideoFrame

VideoCodec: TypeAlias = Literal["libx264", "libvpx-vp9"]
AudioCodec: TypeAlias = Literal["aac", "libmp3lame", "libopus"]

CLIPS: tuple[tuple[str, VideoCodec, AudioCodec], ...] = (
    ("mp4", "libx264", "aac"),
    ("matroska", "libx264", "libmp3lame"),
    ("mpegts", "libx264", "aac"),
    ("webm", "libvpx-vp9", "libopus"),
)


def warm() -> None:
    """Encode and decode a tiny clip of each kind, with sound, in memory, and packets without a container."""
    for container, video, audio in CLIPS:
        _decode(_clip(container, video, audio))
    _packets()
    _filter()
    _refuse()


def _clip(container: str, video: VideoCodec, audio: AudioCodec) -> bytes:
    import av

    file = BytesIO()
    with av.open(file, "w", format=container) as output:
        output.metadata.update(title="title", service_name="name")
        pictures = output.add_stream(video, rate=10, width=64, height=64, options={"threads": "1"})
        sound = output.add_stream(audio, rate=48_000)
        for number in range(5):
            output.mux(pictures.encode(_picture(number)))
        silence = av.AudioFrame("s16", "stereo", 48_000 // 2)
        silence.sample_rate = 48_000
        output.mux(sound.encode(silence))
        output.mux(pictures.encode(None))
        output.mux(sound.encode(None))
    return file.getvalue()


def _decode(clip: bytes) -> None:
    import av

    with av.open(BytesIO(clip), "r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(200_000)
        for frame in container.decode(stream):
            small = frame.reformat(width=32, height=32, format="rgb24", threads=1)
            bytes(small.planes[0])
            _ = (frame.time, frame.rotation, container.duration, container.metadata)
    with av.open(BytesIO(clip), "r") as container:
        sound = container.streams.audio[0]
        sound.codec_context.thread_count = 1
        resampler = av.AudioResampler(format="flt", layout="mono", rate=16_000)
        for heard in container.decode(sound):
            for part in resampler.resample(heard):
                bytes(part.planes[0])


def _packets() -> None:
    import av

    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 64, "yuv420p", Fraction(1, 10)
    encoder.options = {"preset": "superfast", "tune": "zerolatency", "threads": "1"}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    for number in range(3):
        for packet in encoder.encode(_picture(number)):
            for picture in decoder.decode(packet):
                bytes(picture.planes[0])


def _picture(number: int) -> VideoFrame:
    import av

    frame = av.VideoFrame(64, 64, "yuv422p").reformat(format="yuv420p", threads=1)
    frame.pts, frame.time_base = number, Fraction(1, 10)
    return frame


def _filter() -> None:
    import av.filter

    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(width=64, height=64, format=av.VideoFormat("yuv420p"), time_base=Fraction(1, 10))
    turned = graph.add("transpose")
    end = graph.add("buffersink")
    source.link_to(turned)
    turned.link_to(end)
    graph.configure()
    graph.push(_picture(0))
    graph.pull()


def _refuse() -> None:
    """Errors have classes and texts of their own, which are also found late."""
    import av
    from av.error import FFmpegError

    for junk in (b"no video at all", _clip("mp4", "libx264", "aac")[:100]):
        try:
            av.open(BytesIO(junk), "r").close()
        except FFmpegError as error:
            str(error)
    try:
        av.CodecContext.create("h264", "r").decode(av.Packet(b"no packet at all"))
    except FFmpegError as error:
        str(error)
