"""Early init of an attacked child: trusted, and careless. What it leaves open, the attacks then try to use."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import termios

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


def folder() -> None:
    """Leave a directory open."""
    os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
