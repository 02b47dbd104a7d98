"""What host and plugins say to each other: typed both ways, so each side checks what the other sends.

The host imports this file and never a plugin's: a plugin's code runs in its sealed child and nowhere else.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

import msgspec


class Thumbnail(msgspec.Struct, frozen=True):
    """A small picture: *rgb* holds ``width * height * 3`` bytes; *format* and the source's size describe the file."""

    width: int
    height: int
    rgb: bytes
    format: str
    source_width: int
    source_height: int


class Frame(msgspec.Struct, frozen=True):
    """One frame of a video, *seconds* after its start; *rotation* is how far to turn it, in degrees, anticlockwise."""

    seconds: float
    width: int
    height: int
    rgb: bytes
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

    async def thumbnail(self, data: bytes, size: int) -> Thumbnail: ...


class Video(Protocol):
    """Describes videos and takes frames out of them."""

    async def describe(self, data: bytes) -> Clip: ...

    async def frames(self, data: bytes, count: int, size: int) -> list[Frame]: ...


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
    i420: bytes


RecordName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{1,64}\Z")]
"""No path, and no hidden file."""

Record = Annotated[bytes, msgspec.Meta(max_length=64 << 10)]


class RecordStore(Protocol):
    """What a plugin may ask of its host, during a call: who it is, and what it wrote in earlier ones."""

    def storage_id(self) -> bytes:
        """32 bytes, the same in each run and no other's: those of this plugin, origin and profile."""
        ...

    def read(self, name: RecordName) -> Record:
        """What the record *name* holds; nothing, if there is none."""
        ...

    def write(self, name: RecordName, data: Record) -> None:
        """Have the record *name* hold *data*, or be gone, if there is no data."""
        ...


class History(msgspec.Struct, frozen=True):
    """What a codec remembers: earlier *plays* and their *pictures*, unless its record came from a *foreign* profile."""

    plays: int = 0
    pictures: int = 0
    foreign: bool = False


class Demuxer(Protocol):
    """Takes clips apart, one at a time."""

    async def open(self, data: bytes) -> Track: ...

    async def packets(self, count: int) -> list[Packet]:
        """The next *count* packets; fewer, and at last none, at the end."""
        ...


class Codec(Protocol):
    """Decodes and encodes H.264, in sessions that have numbers. With the *last* call comes all that one held back."""

    async def history(self) -> History: ...

    async def remember(self) -> None:
        """Add what was decoded to the history."""
        ...

    async def open_decoder(self, setup: bytes) -> int: ...

    async def decode(self, session: int, packets: list[Packet], last: bool) -> list[Picture]: ...

    async def open_encoder(self, width: int, height: int, quality: int) -> int: ...

    async def encode(self, session: int, pictures: list[Picture], last: bool) -> list[Packet]: ...
