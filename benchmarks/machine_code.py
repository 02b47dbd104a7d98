"""Loops of system calls in x86_64 machine code, so that a benchmark sees the kernel and no interpreter.

A call through ctypes costs some 200 ns, more than the call itself and ten times a filter. So a loop is written into
memory that is made executable before a filter is on: for each call, load the registers and enter the kernel. What is
left around a call is a handful of moves, about 2 ns.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
from collections.abc import Sequence

MOV_TO_ARGUMENTS = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8", b"\x49\xb9")
"""movabs to rdi, rsi, rdx, r10, r8, r9: the registers of a system call's arguments, syscall(2)."""

Call = Sequence[int]
"""The number of a call, and its arguments."""


class Loop:
    """Makes *calls* one after the other, any number of times."""

    def __init__(self, calls: Sequence[Call]) -> None:
        """Write the code. It stays valid as long as this object does."""
        if platform.machine() != "x86_64":
            raise SystemExit("this benchmark has machine code for x86_64 only")
        self._memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._memory.write(_loop(b"".join(map(_call, calls))))
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._run = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(address)

    def __call__(self, count: int) -> int:
        """Run *count* times, at least once; return what the last call returned, below 0 for an errno."""
        return int(self._run(count))


def _call(call: Call) -> bytes:
    number, *arguments = call
    loads = (
        move + struct.pack("<Q", argument % (1 << 64))
        for move, argument in zip(MOV_TO_ARGUMENTS, arguments, strict=False)
    )
    return b"".join(loads) + b"\xb8" + struct.pack("<I", number) + b"\x0f\x05"  # mov eax, number; syscall


def _loop(body: bytes) -> bytes:
    """push rbx; mov rbx, rdi; BODY; dec rbx; jnz BODY; pop rbx; ret"""
    counted = body + b"\x48\xff\xcb"
    back = b"\x0f\x85" + struct.pack("<i", -(len(counted) + 6))
    return b"\x53\x48\x89\xfb" + counted + back + b"\x5b\xc3"
