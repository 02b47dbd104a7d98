"""What host and plugins say to each other: typed both ways, so each side checks what the other sends.

The host imports this file and never a plugin's: a plugin's code runs in its sealed child and nowhere else.
"""

from __future__ import annotations

from typing import Literal, Protocol

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
