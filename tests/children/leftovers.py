"""Warm-ups that leave something behind which a seal does not reach."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import threading

_IO_URING_SETUP, _PR_SET_NAME, _SQPOLL = 425, 15, 2


def process() -> None:
    """Leave a process, as fork servers and resource trackers do."""
    if os.fork() == 0:
        while True:
            signal.pause()


def orphan() -> None:
    """Leave a process whose own parent has ended, as daemons do."""
    pid = os.fork()
    if pid == 0:
        process()
        os._exit(0)
    os.waitpid(pid, 0)


def ring() -> None:
    """Leave an io_uring that the kernel serves by itself: no call is needed, so no filter sees it."""
    parameters = ctypes.create_string_buffer(120)
    struct.pack_into("<IIIII", parameters, 0, 0, 0, _SQPOLL, 0, 100_000)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_IO_URING_SETUP, 8, parameters) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def thread_with_half_a_letter() -> None:
    """Leave a thread whose name is cut inside of a letter, as 15 bytes of a longer name may be."""
    named = threading.Event()

    def run() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"\xe6\x97", 0, 0, 0)
        named.set()
        while True:
            signal.pause()

    threading.Thread(target=run, daemon=True).start()
    named.wait()
