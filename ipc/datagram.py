"""One datagram of a SEQPACKET socket with its file descriptors and its sender's credentials.

Every path that receives closes what it does not hand on: a hostile child may stuff fds into any message, and a
receiver that forgets them runs out of fds. The control buffer has room for what a message may carry and no more:
the kernel installs no fd that does not fit and says MSG_CTRUNC, which is an error here. See recvmsg(2), cmsg(3).
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .credentials import SCM_PIDFD, UCRED, Credentials
from .errors import PeerProtocolError

MAX_DATAGRAM = 65_536
"""The largest message of the control channel, in bytes."""

MAX_FDS = 4
"""The most fds that a message of a child or of its host may carry."""

_CREDENTIALS_SPACE = socket.CMSG_SPACE(UCRED.size) + socket.CMSG_SPACE(4)
CONTROL_SPACE = _CREDENTIALS_SPACE + socket.CMSG_SPACE(4 * MAX_FDS)

# Plain ints: arithmetic on socket's IntFlags costs more than the system calls that they are for.
_CTRUNC = int(socket.MSG_CTRUNC)
TRUNCATED = int(socket.MSG_TRUNC) | _CTRUNC
_NOSIGNAL = int(socket.MSG_NOSIGNAL)
CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)
_SOCKET, _RIGHTS, _CREDENTIALS = int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS), int(socket.SCM_CREDENTIALS)


@dataclass(slots=True)
class Datagram:
    """A received message. It owns ``fds`` and ``pidfd`` until `take_fd` or `close`."""

    data: bytes | memoryview
    fds: list[int]
    credentials: Sequence[Credentials]
    pidfd: int | None

    def take_fd(self) -> int:
        """Return the only fd of the message; the caller owns it. `PeerProtocolError` if there is not exactly one."""
        if len(self.fds) != 1:
            count = len(self.fds)
            self.close()
            raise PeerProtocolError(f"a message that carries one fd came with {count}")
        return self.fds.pop()

    def expect_no_fd(self) -> None:
        """Close everything and raise `PeerProtocolError` if the message carries an fd that nothing asked for."""
        if self.fds:
            count = len(self.fds)
            self.close()
            raise PeerProtocolError(f"a message came with {count} surplus fds")

    def close(self) -> None:
        """Close what the message still owns. Idempotent."""
        close_all(self.fds)
        self.fds.clear()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


def close_all(fds: Iterable[int]) -> None:
    """Close each of *fds*."""
    for fd in fds:
        os.close(fd)


def control_pair() -> tuple[socket.socket, socket.socket]:
    """Return a connected SEQPACKET pair; both ends are close-on-exec and blocking."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def send(sock: socket.socket, data: bytes, fds: Sequence[int] = (), flags: int = 0) -> None:
    """Send one datagram; the caller keeps its own copies of *fds*. *flags* and `OSError` as of sendmsg(2)."""
    if not fds:
        sock.send(data, flags | _NOSIGNAL)
        return
    sock.sendmsg([data], [(_SOCKET, _RIGHTS, array.array("i", fds))], flags | _NOSIGNAL)


def receive(
    sock: socket.socket, buffer: bytearray | None = None, *, max_fds: int = MAX_FDS, flags: int = 0
) -> Datagram | None:
    """Receive one datagram with at most *max_fds*, or None at end of file. *flags* and `OSError` as of recvmsg(2).

    With a *buffer* the datagram's data is a view of it, valid until the next call with the same buffer.

    Raises:
        PeerProtocolError: the data or the control part was cut; whatever came with it is closed.
    """
    data: bytes | memoryview
    control = _CREDENTIALS_SPACE + socket.CMSG_SPACE(4 * max_fds)
    if buffer is None:
        data, ancillary, result, _ = sock.recvmsg(MAX_DATAGRAM, control, flags | CLOEXEC)
    else:
        size, ancillary, result, _ = sock.recvmsg_into([buffer], control, flags | CLOEXEC)
        data = memoryview(buffer)[:size]
    return sort(data, ancillary, result)


def sort(data: bytes | memoryview, ancillary: list[tuple[int, int, bytes]], result: int) -> Datagram | None:
    """Return what recvmsg(2) gave as a datagram, or None at end of file. See `receive`."""
    if not data and not ancillary:
        return None
    datagram = _sort(data, ancillary)
    if result & TRUNCATED:
        datagram.close()
        what = "fds" if result & _CTRUNC else "bytes"
        raise PeerProtocolError(f"a message had more {what} than the channel allows")
    return datagram


def _sort(data: bytes | memoryview, ancillary: list[tuple[int, int, bytes]]) -> Datagram:
    fds: list[int] = []
    credentials: list[Credentials] = []
    pidfd: int | None = None
    for level, kind, body in ancillary:
        if level != _SOCKET:
            continue
        if kind == _CREDENTIALS:
            credentials.append(Credentials._make(UCRED.unpack_from(body)))
        elif kind == _RIGHTS:
            fds.extend(array.array("i", body[: len(body) - len(body) % 4]))
        elif kind == SCM_PIDFD:
            pidfd = int.from_bytes(body[:4], "little", signed=True)
    return Datagram(data, fds, credentials, pidfd if pidfd is None or pidfd >= 0 else None)
