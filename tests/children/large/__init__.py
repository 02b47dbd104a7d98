"""A plugin for large payloads: takes them, gives them back, keeps them, makes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from belljar import Buffer, BufferLike, Fd, SealedBuffer, SharedBuffer, notify, service

from .interfaces import Desk, FileRead, Kinds, PipeWrite, Sealed


class Plug:
    """`Payloads`, as a child without an event loop answers them."""

    def __init__(self) -> None:
        self.kept: Any = None

    def echo(self, data: Buffer) -> Buffer:
        return data

    def echo_bytes(self, data: bytes) -> bytes:
        return data

    def fill(self, size: int, value: int) -> BufferLike:
        return bytes([value]) * size

    def look(self, size: int, value: int) -> SharedBuffer | bytes:
        return bytes([value]) * size

    def total(self, data: Buffer) -> int:
        return len(data) + data.view[0] + data.view[-1] if len(data) else 0

    def both(self, first: Buffer, second: Buffer) -> tuple[Buffer, Buffer]:
        return second, first

    def backwards(self, parts: list[Buffer]) -> list[Buffer]:
        return parts[::-1] if len(parts) != 7 else [bytes(part) for part in parts]  # type: ignore[misc]

    def rows(self, some: list[tuple[str, Buffer]], times: int) -> list[tuple[str, Buffer]]:
        return [(name, Buffer(b"x" * 70_000 if times > 1 else bytes(data))) for name, data in some * times]

    def keeps(self, data: Buffer) -> None:
        self.kept = data.view

    def forgets(self) -> None:
        self.kept = None

    def keep_sealed(self, data: SealedBuffer) -> SealedBuffer:
        self.kept = data
        return data

    def kept_sealed(self) -> bytes:
        return bytes(self.kept)

    @notify
    def note(self, data: Buffer) -> None:
        self.kept = len(data)

    def noted(self) -> int:
        return int(self.kept or 0)

    def frames(self, count: int, size: int) -> Iterator[BufferLike]:
        for number in range(count):
            yield bytes([number]) * size

    def sum_up(self, frames: Iterator[Buffer]) -> int:
        return sum(len(frame) for frame in frames)

    def give_away(self, size: int, value: int) -> int:
        """Hand *size* bytes to the host's desk, as a copy and as they lie; return what it makes of them."""
        desk, data = service(Desk), bytes([value]) * size
        return desk.take(data) + desk.peek(data)

    def through_fds(self, source: Fd[FileRead], sink: Fd[PipeWrite]) -> int:
        with source, sink:
            return os.write(sink.fileno(), os.read(source.fileno(), 1000))

    def takes(self, kinds: Kinds) -> None:
        """Nothing; what was passed is closed."""

    def makes_sealed(self) -> Fd[Sealed]:
        with SealedBuffer.seal(b"sealed") as sealed:
            return Fd(os.dup(sealed.fileno()), "memfd-sealed")
