"""The plugin that attacks belljar: it finds the channel of its own process and says on it what it likes."""

from __future__ import annotations

import functools
import mmap
import os
import select
import socket
import time
from collections.abc import Callable

import msgspec

from belljar.ipc.frames import Call, Reply, Sealed, Share, decode_from_host, encode
from belljar.ipc.payload import make_sealed

MEMFD = 1 << 20


@functools.cache
def channel() -> socket.socket:
    """Return the channel of this process: the one socket that keeps messages apart."""
    for fd in range(256):
        try:
            sock = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if sock.type == socket.SOCK_SEQPACKET:
            return sock
    raise LookupError("no channel")


def send(data: bytes, fds: tuple[int, ...] = ()) -> None:
    """Send one datagram."""
    socket.send_fds(channel(), [data], fds)


def memfd(data: bytes) -> int:
    """Return memory with no seal on it."""
    fd = os.memfd_create("payload", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    return fd


DAMAGE: dict[str, Callable[[int, int], object]] = {
    "shrunk": lambda fd, size: os.ftruncate(fd, 0),
    "grown": lambda fd, size: os.ftruncate(fd, 2 * size),
    "written": lambda fd, size: mmap.mmap(fd, size),
}


def damage(fd: int, share: Share) -> list[str]:
    """Try everything on an arena; return what could be done. A child may write its own."""
    done = [f"taken: {share.written_by}"]
    for name, attempt in DAMAGE.items():
        try:
            attempt(fd, share.size)
        except PermissionError:
            continue
        done += [name] if (name, share.written_by) != ("written", "child") else []
    return done


class Hostile:
    """One method an attack. A child's first call has the id 1."""

    def forge(self) -> None:
        """Answer calls that were not made to this child."""
        for call_id in range(2, 10):
            send(encode([Reply(call_id, b"\xa6forged")]))

    def listen(self, seconds: float) -> bytes:
        """Return what comes over the channel within that time."""
        heard, until, sock = b"", time.monotonic() + seconds, channel()
        while (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([sock], [], [], left)
            heard += sock.recv(1 << 16) if readable else b""
        return heard

    def take_arenas(self) -> None:
        """Take the arenas that the host shares, in place of the runtime, and answer the second call with the damage."""
        data = b"\xc6" + MEMFD.to_bytes(4, "big") + bytes(MEMFD)
        send(encode([Reply(1, None, (Sealed(len(data)),))]), (make_sealed(data),))
        done: list[str] = []
        while True:  # the host shares an arena once a large result has come, and one once it has large arguments
            received, fds, _, _ = socket.recv_fds(channel(), 1 << 16, 4)
            frame = decode_from_host(received)[0]
            if isinstance(frame, Share):
                done += damage(fds[0], frame)
            elif isinstance(frame, Call):
                send(encode([Reply(frame.call_id, msgspec.msgpack.encode(done))]))

    def shrink(self) -> None:
        """Answer with memory that has no seal, and shrink it."""
        fd = memfd(b"\xc6" + (MEMFD - 5).to_bytes(4, "big") + bytes(MEMFD - 5))
        send(encode([Reply(1, None, (Sealed(MEMFD),))]), (fd,))
        os.ftruncate(fd, 0)

    def stuff(self, count: int) -> None:
        """Answer with many fds."""
        send(encode([Reply(1, b"\xc0")]), (2,) * count)

    def bomb(self, count: int) -> list[list[None]]:
        """Return many empty arrays."""
        return [[]] * count

    def pickled(self) -> None:
        """Answer with a pickle that runs code."""
        send(encode([Reply(1, b"cos\ngetpid\n(tR.")]))
