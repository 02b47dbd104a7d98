"""What a hostile child says of memory on its channel."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import cast

from belljar.child import services
from belljar.ipc import datagram
from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.frames import Attached, Frame, Handle, Part, Piece, Release, Reply, Sealed, Unshare, Within, encode
from belljar.ipc.payload import make_sealed
from belljar.ipc.peer.blocking import BlockingPeer

NUMBER = b"\x00"
"""A result that is its first attachment."""

MAX_PAYLOAD = 1 << 20
"""What the host of this child allows."""


def peer() -> BlockingPeer:
    """Return what this process talks to its host through."""
    found = services._services
    assert found is not None
    return cast(BlockingPeer, found.peer)


def say(*frames: Frame, fd: int | None = None) -> None:
    """Send *frames* past the peer."""
    channel = peer().channel
    assert isinstance(channel, SocketChannel)
    datagram.send(channel.sock, encode(frames), () if fd is None else (fd,))


def running() -> int:
    """Return the id of the call that is answered now."""
    return peer()._running[-1].call_id


def unsealed(size: int, seals: int = 0) -> int:
    """Return a memfd of *size* bytes that lacks seals."""
    fd = os.memfd_create("payload", os.MFD_ALLOW_SEALING)
    os.write(fd, b"x" * size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def lying() -> tuple[int, int]:
    """Return the generation and the size of the arena that this child writes."""
    arena = peer().store._writing
    assert arena is not None
    return arena.generation, arena.size


def told(*parts: Part, payload: bytes | None = NUMBER, fd: int | None = None) -> None:
    """Answer the call that runs."""
    say(Reply(running(), payload, parts), fd=fd)


def piece(offset: int, length: int, generation: int = 0) -> Piece:
    return Piece(lying()[0] + generation, offset, length)


def take_back() -> None:
    """Take the arena back, and then answer with a piece of it."""
    generation, _ = lying()
    say(Unshare(generation))
    told(Piece(generation, 0, 64))


def host_arena() -> int:
    """Return the generation of the arena that the host writes."""
    (generation,) = peer().store._reading
    return generation


LIES: dict[str, Callable[[], object]] = {
    "a piece that ends outside": lambda: told(piece(lying()[1] - 64, 128)),
    "a piece far outside": lambda: told(piece(1 << 52, 64)),
    "a piece that is not aligned": lambda: told(piece(1, 100)),
    "a piece of nothing": lambda: told(piece(0, 0)),
    "a piece over max_payload": lambda: told(piece(0, MAX_PAYLOAD + 1)),
    "a piece of an arena to come": lambda: told(piece(0, 64, 100)),
    "a piece of the host's arena": lambda: told(Piece(host_arena(), 0, 64)),
    "a piece of an arena that is gone": take_back,
    "one piece many times": lambda: told(*[piece(0, MAX_PAYLOAD)] * 64),
    "a payload outside": lambda: told(piece(lying()[1], 64), payload=None),
    "release of what was never lent": lambda: say(Release(host_arena(), (0,))),
    "release of an argument": lambda: say(Release(host_arena(), tuple(range(0, 1 << 16, 64)))),
    "release of a piece of its own": lambda: say(Release(lying()[0], (0,))),
    "word of an arena twice": lambda: say(Attached(host_arena())),
    "word of the arena that it writes": lambda: say(Attached(lying()[0])),
    "taking the host's arena back": lambda: say(Unshare(host_arena())),
    "taking its arena back twice": lambda: say(Unshare(lying()[0]), Unshare(lying()[0])),
    "a memfd of another length": lambda: told(Sealed(50), fd=make_sealed(b"x" * 100)),
    "a memfd without seals": lambda: told(Sealed(100), fd=unsealed(100, 0)),
    "a memfd that can be written": lambda: told(Sealed(100), fd=unsealed(100, fcntl.F_SEAL_SHRINK)),
    "a file instead of a memfd": lambda: told(Sealed(100), fd=2),
    "an fd instead of a buffer": lambda: told(Handle("memfd-sealed"), fd=make_sealed(b"x")),
    "a part of memory that is not there": lambda: told(Within(1, 0, 10)),
    "a part of itself": lambda: told(Within(0, 0, 10)),
    "a part of a piece": lambda: told(Within(1, 0, 10), piece(0, 64)),
    "a part of no bytes": lambda: told(Within(1, 0, 0), Sealed(100), fd=make_sealed(b"x" * 100)),
    "a part past its memory": lambda: told(Within(1, 91, 10), Sealed(100), fd=make_sealed(b"x" * 100)),
    "an attachment that is not there": lambda: told(piece(0, 64), payload=b"\x05"),
}
