"""What a plugin for large payloads answers, and what its host offers to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Literal, Protocol, TypeAlias

import msgspec

from belljar import Buffer, BufferLike, Fd, SealedBuffer, SharedBuffer, notify

FileRead: TypeAlias = Literal["file-read"]
PipeWrite: TypeAlias = Literal["pipe-write"]
Sealed: TypeAlias = Literal["memfd-sealed"]


class Kinds(msgspec.Struct):
    """An fd of each kind that a host may pass."""

    stream: Fd[Literal["socket-stream"]]
    writable: Fd[Literal["file-read-write"]]
    pipe: Fd[Literal["pipe-read"]]
    sealed: Fd[Sealed]


class Desk(Protocol):
    """Offered by the host: takes bytes as a copy, or looks at them where they lie."""

    def take(self, data: BufferLike) -> int: ...

    def peek(self, data: SharedBuffer | bytes) -> int: ...


class Payloads(Protocol):
    """For each way that large bytes can go."""

    async def echo(self, data: BufferLike) -> Buffer: ...

    async def echo_bytes(self, data: bytes) -> bytes: ...

    async def fill(self, size: int, value: int) -> Buffer: ...

    async def look(self, size: int, value: int) -> SharedBuffer: ...

    async def total(self, data: BufferLike) -> int:
        """Return the sum of the length, the first and the last byte."""
        ...

    async def both(self, first: BufferLike, second: BufferLike) -> tuple[Buffer, Buffer]: ...

    async def backwards(self, parts: list[Buffer]) -> list[Buffer]: ...

    async def rows(self, some: list[tuple[str, Buffer]], times: int) -> list[tuple[str, Buffer]]: ...

    async def keeps(self, data: BufferLike) -> None:
        """Keep a view of an argument, which nobody may."""
        ...

    async def forgets(self) -> None: ...

    async def keep_sealed(self, data: SealedBuffer) -> SealedBuffer: ...

    async def kept_sealed(self) -> bytes: ...

    @notify
    async def note(self, data: BufferLike) -> None: ...

    async def noted(self) -> int: ...

    def frames(self, count: int, size: int) -> AsyncGenerator[Buffer]: ...

    async def sum_up(self, frames: AsyncIterator[BufferLike]) -> int: ...

    async def give_away(self, size: int, value: int) -> int: ...

    async def through_fds(self, source: Fd[FileRead], sink: Fd[PipeWrite]) -> int: ...

    async def takes(self, kinds: Kinds) -> None: ...

    async def makes_sealed(self) -> Fd[Sealed]: ...
