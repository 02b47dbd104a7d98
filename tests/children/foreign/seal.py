"""Stages 3 and 7 of a child that can do no more than filter itself. See prctl(2), seccomp(2)."""

from __future__ import annotations

import ctypes
import os

NR_SECCOMP = {"x86_64": 317, "aarch64": 277}[os.uname().machine]
PR_SET_NO_NEW_PRIVS = 38
SET_MODE_FILTER = 1
TSYNC, NEW_LISTENER, TSYNC_ESRCH = 1, 8, 16

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def confine_early() -> None:
    """Set no_new_privs, without which nobody but root may filter itself."""
    if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "could not set no_new_privs")


def install(bpf: bytes, *, listener: bool) -> int:
    """Put the filter on all threads; return the listener's fd, or 0 if none was asked for."""
    flags = TSYNC | (NEW_LISTENER | TSYNC_ESRCH if listener else 0)
    program = _Program(len(bpf) // 8, bpf)
    result = _libc.syscall(ctypes.c_long(NR_SECCOMP), SET_MODE_FILTER, flags, ctypes.byref(program))
    if result < 0:
        raise OSError(ctypes.get_errno(), "could not install the filter")
    return int(result)
