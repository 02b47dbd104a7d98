"""System calls by number and with all 64 bits of each argument, which no wrapper of the C library lets through."""

from __future__ import annotations

import ctypes
import os
import platform

_NUMBERS = {
    "x86_64": {
        "bpf": 321, "clock_gettime": 228, "clock_settime": 227, "dup3": 292, "fcntl": 72, "ioctl": 16, "keyctl": 250,
        "perf_event_open": 298, "ptrace": 101, "seccomp": 317, "userfaultfd": 323,
    },
    "aarch64": {
        "bpf": 280, "clock_gettime": 113, "clock_settime": 112, "dup3": 24, "fcntl": 25, "ioctl": 29, "keyctl": 219,
        "perf_event_open": 241, "ptrace": 117, "seccomp": 277, "userfaultfd": 282,
    },
}  # fmt: skip
NUMBERS = {**_NUMBERS[platform.machine()], "io_uring_setup": 425, "clone3": 435, "landlock_create_ruleset": 444}

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    """Return *result* of a C function; raise its errno if it is negative."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def raw(name: str, *arguments: int | ctypes.Array[ctypes.c_char]) -> int:
    """Make the call *name*."""
    words = [ctypes.c_ulong(argument) if isinstance(argument, int) else argument for argument in arguments]
    return checked(libc.syscall(ctypes.c_long(NUMBERS[name]), *words))
