"""An interface with a method of every kind, and what stands behind it in a host, in a `SyncHost` and in a child."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal, Protocol

import msgspec

from belljar.ipc.interface import notify, raises
from belljar.ipc.interface.fd import Fd
from belljar.ipc.memory.buffer import Buffer, SealedBuffer, SharedBuffer

MOST = 300


class Broken(Exception):
    """Declared."""


class Progress(Protocol):
    """Passed by reference."""

    def at(self, step: int) -> int: ...


class Everything(Protocol):
    """What a peer offers to a fuzzer."""

    def add(self, first: int, second: int) -> int: ...

    def echo(self, data: Buffer) -> Buffer: ...

    def shared(self, data: SharedBuffer) -> int: ...

    def sealed(self, data: SealedBuffer) -> SealedBuffer: ...

    def file(self, fd: Fd[Literal["file-read"]]) -> str: ...

    def pipe(self, fd: Fd[Literal["pipe-write"]] | None) -> Fd[Literal["pipe-write"]] | None: ...

    def many(
        self, items: Annotated[list[tuple[str, Buffer]], msgspec.Meta(max_length=8)], number: float = 1.0
    ) -> dict[str, int]: ...

    def numbers(self, count: int) -> Iterator[int]: ...

    def buffers(self, count: int) -> Iterator[Buffer]: ...

    def total(self, items: Iterator[int]) -> int: ...

    def doubled(self, items: Iterator[Buffer]) -> Iterator[Buffer]: ...

    @notify
    def note(self, text: str) -> None: ...

    @notify
    def keep(self, data: Buffer) -> None: ...

    def watched(self, progress: Progress) -> int: ...

    @raises(Broken)
    def fail(self, text: str) -> None: ...


class Plain:
    """`Everything` for threads."""

    def add(self, first: int, second: int) -> int:
        return first + second

    def echo(self, data: Buffer) -> Any:
        return bytes(data)

    def shared(self, data: SharedBuffer) -> int:
        with data:
            return len(data)

    def sealed(self, data: SealedBuffer) -> SealedBuffer:
        return data

    def file(self, fd: Any) -> str:
        with fd:
            return str(fd.kind)

    def pipe(self, fd: Any) -> None:
        if fd is not None:
            fd.close()

    def many(self, items: list[tuple[str, Buffer]], number: float = 1.0) -> dict[str, int]:
        return {name: len(data) for name, data in items}

    def numbers(self, count: int) -> Iterator[int]:
        yield from range(min(count, MOST))

    def buffers(self, count: int) -> Iterator[Any]:
        for number in range(min(count, MOST)):
            yield bytes([number & 255]) * 5000

    def total(self, items: Iterator[int]) -> int:
        return sum(items)

    def doubled(self, items: Iterator[Buffer]) -> Iterator[Any]:
        for item in items:
            yield bytes(item) * 2

    def note(self, text: str) -> None: ...

    def keep(self, data: Buffer) -> None:
        assert len(data) >= 0

    def watched(self, progress: Any) -> int:
        return int(progress.at(1))

    def fail(self, text: str) -> None:
        raise Broken(text)


class Awaiting(Plain):
    """`Everything` for an event loop."""

    async def total(self, items: AsyncIterator[int]) -> int:  # type: ignore[override]
        return sum([item async for item in items])

    async def doubled(self, items: AsyncIterator[Buffer]) -> AsyncIterator[Any]:  # type: ignore[override]
        async for item in items:
            yield bytes(item) * 2

    async def watched(self, progress: Any) -> int:  # type: ignore[override]
        return int(await progress.at(1))
