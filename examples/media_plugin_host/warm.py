"""Warm-ups: run in the child at stage 6, before the seal, and trusted as the host is.

Media libraries import their parts when they first need them, and hide it when that fails: sealed too early, Pillow
says of every good picture that it cannot identify it. So a warm-up pushes a real sample through the whole path that
the plugin will take (open, decode, convert), and the last import happens here. Each function imports its own library,
so that a child for pictures does not carry FFmpeg.
"""

# PyAV's stubs leave the type of packets open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from typing import Literal, TypeAlias

VideoCodec: TypeAlias = Literal["libx264", "libvpx-vp9"]
AudioCodec: TypeAlias = Literal["aac", "libmp3lame", "libopus"]

FORMATS = ("BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
CLIPS: tuple[tuple[str, VideoCodec, AudioCodec], ...] = (
    ("mp4", "libx264", "aac"),
    ("matroska", "libx264", "libmp3lame"),
    ("mpegts", "libx264", "aac"),  # has names in ISO 6937, for which the C library loads a module (iconv_open(3))
    ("webm", "libvpx-vp9", "libopus"),
)


def pillow() -> None:
    """Decode, turn and shrink a small picture of each format, with and without transparency."""
    from PIL import Image

    Image.init()  # registers every format, also those that nothing here can write
    for name in FORMATS:
        for mode in ("RGB", "RGBA", "P", "L"):
            if sample := _sample(name, mode):
                _shrink(sample)


def _sample(name: str, mode: str) -> bytes:
    """A picture of format *name* with an orientation tag where it takes one; nothing where it does not take *mode*."""
    from PIL import Image

    file = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned to the right
    try:
        Image.radial_gradient("L").resize((64, 48)).convert(mode).save(file, name, exif=exif)
    except OSError:
        return b""
    return file.getvalue()


def _shrink(sample: bytes) -> None:
    from PIL import Image, ImageOps

    with Image.open(BytesIO(sample)) as image:
        image.draft("RGB", (16, 16))
        small = ImageOps.exif_transpose(image)
        small.thumbnail((16, 16))
        layer = small.convert("RGBA")
        Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB").tobytes()


def pyav() -> None:
    """Encode and decode a tiny clip of each kind, with sound, in memory."""
    for container, video, audio in CLIPS:
        _decode(_clip(container, video, audio))


def _clip(container: str, video: VideoCodec, audio: AudioCodec) -> bytes:
    import av

    file = BytesIO()
    with av.open(file, "w", format=container) as output:
        # One thread: each more takes tens of megabytes of the child's address space.
        pictures = output.add_stream(video, rate=10, width=64, height=64, options={"threads": "1"})
        sound = output.add_stream(audio, rate=48_000)
        for number in range(5):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            output.mux(pictures.encode(frame))
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
            _ = (frame.time, frame.rotation, container.duration)
    _refuse(b"no video at all")


def _refuse(junk: bytes) -> None:
    """Errors have classes and texts of their own, which are also found late."""
    import av
    from av.error import FFmpegError

    try:
        av.open(BytesIO(junk), "r").close()
    except FFmpegError as error:
        str(error)


def h264() -> None:
    """Encode and decode a few pictures as bare packets, without a container, and turn one from another format."""
    import av
    from av.error import FFmpegError

    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 64, "yuv420p", Fraction(1, 10)
    encoder.options = {"preset": "superfast", "tune": "zerolatency", "threads": "1"}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    for number in range(3):
        frame = av.VideoFrame(64, 64, "yuv422p").reformat(format="yuv420p", threads=1)
        frame.pts = number
        for packet in encoder.encode(frame):
            for picture in decoder.decode(packet):
                bytes(picture.planes[0])
    try:
        decoder.decode(av.Packet(b"no packet at all"))
    except FFmpegError as error:
        str(error)
