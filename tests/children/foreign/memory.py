"""Arenas as a child sees them: those that it reads, and those that it writes."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

from wire import make_sealed, map_shared, read_sealed

Part = Any
SMALL = 4096


class Memory:
    """What travels beside payloads. *send* sends one frame."""

    def __init__(self, send: Callable[[list[Any]], None], max_payload: int) -> None:
        self.send = send
        self.max_payload = max_payload
        self.reading: dict[int, mmap.mmap] = {}
        self.writing: dict[int, mmap.mmap] = {}
        self.lent: dict[int, dict[int, int]] = {}
        self.seen: list[str] = []

    def share(self, fd: int, generation: int, size: int, written_by: str) -> None:
        """Map a new arena; an older one that this side wrote is used no more."""
        arenas = self.reading if written_by == "host" else self.writing
        arenas[generation] = map_shared(fd, size, writable=written_by == "child")
        if written_by == "host":
            self.send(["attached", generation])
        else:
            self.lent[generation] = {}
            self.drop_old()

    def drop_old(self) -> None:
        """Say of each older arena in which nothing lies any more that this is so."""
        for generation in sorted(self.writing)[:-1]:
            if not self.lent[generation]:
                self.writing.pop(generation).close()
                self.send(["unshare", generation])

    def release(self, generation: int, offsets: list[int]) -> None:
        """The host needs these pieces no more."""
        for offset in offsets:
            del self.lent[generation][offset]
        self.drop_old()

    def read(self, part: Part, fds: list[int]) -> bytes:
        """Return the bytes of *part*, a copy."""
        self.seen.append(part[0] if isinstance(part, list) else "inline")
        if isinstance(part, bytes):
            return part
        if part[0] == "sealed":
            return read_sealed(fds.pop(0), self.max_payload)
        _, generation, offset, length = part
        return self.reading[generation][offset : offset + length]

    def place(self, data: bytes) -> tuple[Part, tuple[int, ...]]:
        """Return the part for *data*, with the fd, to be closed once it was sent, if it is a memfd."""
        if len(data) <= SMALL:
            return data, ()
        newest = max(self.writing, default=0)
        if newest:
            lent, arena = self.lent[newest], self.writing[newest]
            offset = max((-(-(start + length) // 4096) * 4096 for start, length in lent.items()), default=0)
            if offset + len(data) <= len(arena):
                arena[offset : offset + len(data)] = data
                lent[offset] = len(data)
                return ["piece", newest, offset, len(data)], ()
        return ["sealed", len(data)], (make_sealed(data),)
