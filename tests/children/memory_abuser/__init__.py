"""A plugin that keeps the fds of the arenas of its own process, and says on its channel of memory what it likes."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Iterator
from typing import Any

from belljar import Buffer, BufferLike, Fd, SealedBuffer, SharedBuffer, service
from belljar.ipc.frames import Call, Handle, Items, Release, Unshare
from belljar.ipc.payload import make_sealed

from .interfaces import Desk, FileRead
from .kernel import CUTS, WRITABLE, WRITES
from .lies import LIES, NUMBER, host_arena, lying, peer, piece, running, say, told, unsealed

kept: dict[str, tuple[int, int]] = {}
"""An fd and the size of each arena, by who writes it."""


def keep_arenas() -> None:
    """Duplicate the fd of each arena that comes from now on."""
    store = peer().store
    attach = store.attach

    def attach_and_keep(fd: int, size: int, generation: int, *, writable: bool) -> list[int]:
        kept["child" if writable else "host"] = os.dup(fd), size
        return attach(fd, size, generation, writable=writable)

    store.attach = attach_and_keep  # type: ignore[method-assign]


class Plug:
    """Answers honestly until it is told otherwise."""

    def __init__(self) -> None:
        self.changing = False

    def keeps(self) -> None:
        keep_arenas()

    def echo(self, data: BufferLike) -> BufferLike:
        return data

    def look(self, size: int, value: int) -> SharedBuffer | bytes:
        return bytes([value]) * size

    def lies(self, name: str, data: Buffer) -> BufferLike:
        """Do one of the `LIES`, while *data* is an argument, and answer once more."""
        LIES[name]()
        return b"honest"

    def seals(self, name: str) -> SealedBuffer | bytes:
        LIES[name]()
        return b"honest"

    def opens(self) -> Fd[FileRead]:
        told(Handle("memfd-sealed"), fd=make_sealed(b"x"))
        return Fd(os.dup(2), "file-read")

    def again(self) -> BufferLike:
        """Answer with the piece that the last result lay in."""
        told(piece(0, 100_000))
        return b"honest"

    def take_back(self) -> None:
        say(Unshare(lying()[0]))

    def frames(self) -> Iterator[BufferLike]:
        """Send one item more than there is credit for, at once."""
        say(*[Items(running(), 0, (NUMBER,), (piece(number * 4096, 4096),)) for number in range(9)])
        yield b"honest"

    def releases_twice(self, frames: Iterator[Buffer]) -> int:
        """Release an item of the host's that it has released already."""
        for frame in frames:
            assert len(frame)
            generation = host_arena()
            say(Release(generation, (0,)), Release(generation, (0,)))
        return 0

    def asks(self, overlap: bool) -> int:
        """Give a service of the host a piece that is none."""
        desk: Any = service(Desk)
        part = piece(0, 64) if overlap else piece(1 << 52, 64)
        say(Call(1, 1, "take", b"\x91\x00", (part, part) if overlap else (part,)))
        return int(desk.take(b"honest"))

    def attacks(self, name: str, which: str) -> str:
        """Do something to an arena, or to a memfd of its own; return the errno, or an empty string if it worked."""
        fd, size = kept[which] if which != "none" else (unsealed(mmap.PAGESIZE, 0), mmap.PAGESIZE)
        try:
            (WRITES | CUTS)[name](fd, size)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return ""

    def changes(self, size: int) -> SharedBuffer | bytes:
        """Answer with *size* bytes that a thread goes on changing."""
        fd, whole = kept["child"]
        memory = mmap.mmap(fd, whole, mmap.MAP_SHARED, WRITABLE)

        def change() -> None:
            while True:
                for pattern in (b"a", b"b"):
                    memory[:size] = pattern * size

        threading.Thread(target=change, daemon=True).start()
        told(piece(0, size))
        threading.Event().wait()
        return b""
