"""What host and plugins say to each other: typed both ways, so each side checks what the other sends.

The host imports this file and never a plugin's: a plugin's code runs in its sealed child and nowhere else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Literal, Protocol

import msgspec
from PIL import Image

from belljar import Buffer, BufferLike, raises


class Unusable(ValueError):
    """The plugin refused its input; the text is one sentence for people."""


class Thumbnail(msgspec.Struct, frozen=True):
    """A small picture in RGB; *format* and the source's size describe the file."""

    image: Image.Image
    format: str
    source_width: int
    source_height: int


class Frame(msgspec.Struct, frozen=True):
    """One frame of a video, *seconds* after its start; *rotation* is how far to turn it, in degrees, anticlockwise."""

    seconds: float
    image: Image.Image
    rotation: int


class Clip(msgspec.Struct, frozen=True):
    """What a video's header says: codec names, duration in seconds (0 if unknown), size in pixels."""

    codec: str
    audio: str
    duration: float
    width: int
    height: int


class Attempt(msgspec.Struct, frozen=True):
    """One thing a hostile plugin tried, and what came of it; *error* is the name of the errno, if there is one."""

    outcome: Literal["succeeded", "refused"]
    detail: str
    error: str = ""


class Thumbnailer(Protocol):
    """Makes small pictures of large ones."""

    @raises(Unusable)
    async def thumbnail(self, data: BufferLike, size: int) -> Thumbnail: ...


class Video(Protocol):
    """Describes videos and takes frames out of them."""

    @raises(Unusable)
    async def describe(self, data: BufferLike) -> Clip: ...

    @raises(Unusable)
    def frames(self, data: BufferLike, count: int, size: int) -> AsyncGenerator[Frame]:
        """*count* frames spread evenly over *data*, each at most *size* pixels a side."""
        ...


class Track(msgspec.Struct, frozen=True):
    """The video track of a clip: *packets* as its header counts them (0 if it does not), *setup* for the decoder."""

    codec: str
    width: int
    height: int
    packets: int
    setup: bytes


class Packet(msgspec.Struct, frozen=True):
    """The compressed form of one picture, shown *time* microseconds after the start."""

    data: bytes
    time: int


class Picture(msgspec.Struct, frozen=True):
    """One picture as video codecs have it: *i420* holds the planes Y, U and V, the latter two of half the size."""

    width: int
    height: int
    time: int
    i420: Buffer


RecordName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{1,64}\Z")]
"""No path, and no hidden file."""

Record = Annotated[bytes, msgspec.Meta(max_length=64 << 10)]


class RecordStore(Protocol):
    """What a plugin may ask of its host, during a call: who it is, and what it wrote in earlier ones."""

    async def storage_id(self) -> bytes:
        """32 bytes, the same in each run and no other's: those of this plugin, origin and profile."""
        ...

    async def read(self, name: RecordName) -> Record:
        """What the record *name* holds; nothing, if there is none."""
        ...

    async def write(self, name: RecordName, data: Record) -> None:
        """Have the record *name* hold *data*, or be gone, if there is no data."""
        ...


class History(msgspec.Struct, frozen=True):
    """What a codec remembers: earlier *plays* and their *pictures*, unless its record came from a *foreign* profile."""

    plays: int = 0
    pictures: int = 0
    foreign: bool = False


class Demuxer(Protocol):
    """Takes clips apart, one at a time."""

    @raises(Unusable)
    async def open(self, data: BufferLike) -> Track: ...

    @raises(Unusable)
    def packets(self) -> AsyncGenerator[Packet]:
        """The packets of the clip that was opened last."""
        ...


class Codec(Protocol):
    """Decodes and encodes H.264: streams in, streams out, as many at the same time as the host likes."""

    async def history(self) -> History: ...

    async def remember(self) -> None:
        """Add what was decoded to the history."""
        ...

    @raises(Unusable)
    def decode(self, setup: bytes, packets: AsyncIterator[Packet]) -> AsyncGenerator[Picture]:
        """*setup* as the container has it, or nothing if the packets carry it (Annex B of H.264)."""
        ...

    @raises(Unusable)
    def encode(self, width: int, height: int, quality: int, pictures: AsyncIterator[Picture]) -> AsyncGenerator[Packet]:
        """*quality* is x264's rate factor: 0 loses nothing, 51 nearly everything."""
        ...
