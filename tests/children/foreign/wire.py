"""The control socket: datagrams with fds, and memfds."""

from __future__ import annotations

import array
import fcntl
import mmap
import os
import socket
from typing import Any

from mpack import pack, unpack

SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, SHRINK, GROW, WRITE


class HostGone(Exception):
    """End of file."""


class Wire:
    """The child's end of the control socket."""

    def __init__(self, fd: int) -> None:
        self.sock = socket.socket(fileno=fd)
        self.sock.set_inheritable(False)

    def send(self, body: Any, fds: tuple[int, ...] = ()) -> None:
        """Send one datagram; the caller keeps *fds*."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([pack(body)], rights)

    def receive(self) -> tuple[Any, list[int]]:
        """Return the next datagram and its fds, which are the caller's."""
        data, fds, _, _ = socket.recv_fds(self.sock, 65_536, 4, socket.MSG_CMSG_CLOEXEC)
        if not data:
            raise HostGone
        return unpack(data), fds


def read_sealed(fd: int, limit: int) -> bytes:
    """Return what the sealed memfd *fd* holds, and close it. Its offset is the writer's, and stands at the end."""
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS
    size = os.fstat(fd).st_size
    assert 0 < size <= limit
    data = os.pread(fd, size, 0)
    os.close(fd)
    assert len(data) == size
    return data


def make_sealed(data: bytes) -> int:
    """Return a sealed memfd that holds *data*."""
    fd = os.memfd_create("foreign", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


def map_shared(fd: int, size: int, *, writable: bool) -> mmap.mmap:
    """Map an arena and close *fd*."""
    assert os.fstat(fd).st_size == size
    mapped = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0))
    os.close(fd)
    return mapped
