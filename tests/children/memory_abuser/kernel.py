"""What a hostile child tries on the memory of an arena: to write what it may only read, and to cut what others map."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
from collections.abc import Callable

EVIL = b"evil"
WRITABLE = mmap.PROT_READ | mmap.PROT_WRITE

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *3 * [ctypes.c_int], ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]


def require(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), "refused")


def protect(fd: int, size: int) -> None:
    """Map it as `Arena.attach` does, and then ask for more."""
    address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    require(libc.mprotect(address, size, WRITABLE))
    ctypes.memmove(address, EVIL, 4)


def reopen(fd: int) -> int:
    return os.open(f"/proc/self/fd/{fd}", os.O_RDWR)


def map_writable(fd: int, size: int) -> None:
    mmap.mmap(fd, size, mmap.MAP_SHARED, WRITABLE)[:4] = EVIL


WRITES: dict[str, Callable[[int, int], object]] = {
    "map it writable": map_writable,
    "make its mapping writable": protect,
    "open it anew and map that": lambda fd, size: map_writable(reopen(fd), size),
    "write to the fd": lambda fd, size: os.pwrite(fd, EVIL, 0),
    "punch a hole": lambda fd, size: require(libc.fallocate(fd, 3, 0, size)),
    "remove its memory": lambda fd, size: mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ).madvise(
        mmap.MADV_REMOVE
    ),
}
CUTS: dict[str, Callable[[int, int], object]] = {
    "empty it": lambda fd, size: os.ftruncate(fd, 0),
    "make it grow": lambda fd, size: os.ftruncate(fd, 2 * size),
    "add a seal": lambda fd, size: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
}
