"""The plugin that attacks belljar: it finds the channel of its own process and says on it what it likes."""

from __future__ import annotations

import os
import select
import socket
import time

from belljar.ipc.frames import Reply, Sealed, encode

MEMFD = 1 << 20


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


class Hostile:
    """One method an attack. A child's first call has the id 1."""

    def forge(self) -> None:
        """Answer calls that were not made to this child."""
        for call_id in range(2, 10):
            send(encode([Reply(call_id, b"\xa6forged")]))

    def listen(self, seconds: float) -> bytes:
        """Return whatever can be read from any fd within that time."""
        heard, until, sock = b"", time.monotonic() + seconds, channel()
        while (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([sock], [], [], left)
            heard += sock.recv(1 << 16) if readable else b""
        return heard

    def shrink(self) -> None:
        """Answer with memory that is then cut off, and cut off whatever else there is."""
        fd = memfd(b"\xc6" + (MEMFD - 5).to_bytes(4, "big") + bytes(MEMFD - 5))
        send(encode([Reply(1, None, (Sealed(MEMFD),))]), (fd,))
        for each in range(256):
            try:
                os.ftruncate(each, 0)
            except OSError:
                continue

    def stuff(self, count: int) -> None:
        """Answer with many fds."""
        send(encode([Reply(1, b"\xc0")]), (2,) * count)

    def bomb(self, count: int) -> list[list[None]]:
        """Return many empty arrays."""
        return [[]] * count

    def pickled(self) -> None:
        """Answer with a pickle that runs code."""
        send(encode([Reply(1, b"cos\ngetpid\n(tR.")]))
