"""Early init of an attacked child: trusted, and careless. What it leaves open, the attacks then try to use."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import queue
import termios
import threading
from collections.abc import Callable

_GETPID_AS_I386 = bytes.fromhex("53 b814000000 cd80 5b c3")  # push rbx; mov eax, 20; int 0x80; pop rbx; ret


def terminal_and_code() -> None:
    """Make a terminal the controlling one, where terminals can be opened, and leave a page of code."""
    try:
        master, slave = os.openpty()
        os.environ |= {"BELLJAR_ATTACK_TERMINAL": str(slave), "BELLJAR_ATTACK_MASTER": str(master)}
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    except OSError:  # bubblewrap's view has no terminals
        pass
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    page = libc.mmap(None, ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_WRITE, private, -1, 0)
    ctypes.memmove(page, _GETPID_AS_I386, len(_GETPID_AS_I386))
    libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_EXEC)
    os.environ["BELLJAR_ATTACK_CODE"] = str(page)


class Older(threading.Thread):
    """A thread that was there before the seal, and does what it is told to."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.jobs: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[object] = queue.SimpleQueue()

    def run(self) -> None:
        while True:
            self.results.put(self.jobs.get()())

    def run_in_it(self, job: Callable[[], object]) -> object:
        """Have *job* done in this thread."""
        self.jobs.put(job)
        return self.results.get()


def older_thread() -> None:
    """Leave a thread for the attacks."""
    Older().start()


def folder() -> None:
    """Leave a directory open."""
    os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
