"""Payloads that are too large for a message: sealed memfds.

A receiver that maps memory which the sender can still shrink dies of SIGBUS (tried: a child that truncates an
unsealed memfd kills its host), and one that decodes memory which the sender can still write decodes two different
things. So a payload is a memfd with F_SEAL_SHRINK, GROW, WRITE and SEAL, see memfd_create(2) and fcntl(2), and the
receiver checks seals and size before it reads a byte. F_GET_SEALS fails on anything that is not such a file.
"""

from __future__ import annotations

import errno
import fcntl
import os

from .errors import PeerProtocolError
from .memory.allocate import ALIGNMENT
from .memory.mapping import Mapping

_MFD_NOEXEC_SEAL = 0x8  # Linux 6.3
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def new_memfd(name: str) -> int:
    """Return a new memfd that can be sealed, and not executed where the kernel knows of that; the caller owns it.

    `OSError` as from memfd_create(2).
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, flags)


def make_sealed(*parts: bytes | memoryview, name: str = "belljar-payload") -> int:
    """Return a new sealed memfd that holds *parts*, each from the next multiple of `ALIGNMENT` on.

    The caller owns the fd. `OSError` as from memfd_create(2).
    """
    fd = new_memfd(name)
    try:
        start = 0
        for part in parts:
            rest, at = memoryview(part), start
            while rest:
                written = os.pwrite(fd, rest, at)
                rest, at = rest[written:], at + written
            start = aligned(at)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def aligned(offset: int) -> int:
    """Return the next offset at which a part of a payload may lie."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def check_sealed(fd: int, limit: int, length: int | None = None) -> int:
    """Return the size of the sealed memfd *fd* in bytes.

    `PeerProtocolError`: it is unsealed, empty, over *limit*, or not of *length*, where the sender said one.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        raise PeerProtocolError(f"a payload is not a memfd: {error.strerror}") from None
    if seals & SEALS != SEALS:
        raise PeerProtocolError("a payload is not sealed against change")
    size = os.fstat(fd).st_size
    if not 0 < size <= limit:
        raise PeerProtocolError(f"a payload of {size} bytes is outside of the limit of {limit}")
    if size != length is not None:
        raise PeerProtocolError(f"a payload of {size} bytes was said to have {length}")
    return size


def read_sealed(fd: int, limit: int, length: int | None = None) -> bytes:
    """Return the content of a sealed payload; *fd* is taken over and closed also on errors. Raises as `check_sealed`.

    A copy, although the seals would allow a mapping: what is decoded from it may keep a view of it for ever.
    """
    try:
        return read_range(fd, 0, check_sealed(fd, limit, length))
    finally:
        os.close(fd)


def read_range(fd: int, offset: int, length: int) -> bytes:
    """Return *length* bytes of *fd*, which must have them, from *offset* on."""
    data = os.pread(fd, length, offset)
    while len(data) < length:  # one read moves at most 2 GiB, see read(2)
        data += os.pread(fd, length - len(data), offset + len(data))
    return data


def map_sealed(fd: int, limit: int) -> Mapping:
    """Map a sealed payload, to be read without a copy; *fd* is taken over and closed also on errors.

    Safe although it came from the other side: F_SEAL_WRITE is refused while anybody has a writable mapping and forbids
    new ones, writes and holes from then on, and F_SEAL_SHRINK forbids the cut that would end in a SIGBUS. So what is
    checked once stays true. `PeerProtocolError` as `check_sealed`, `OSError` as from mmap(2).
    """
    try:
        return Mapping(fd, check_sealed(fd, limit), writable=False)
    finally:
        os.close(fd)
