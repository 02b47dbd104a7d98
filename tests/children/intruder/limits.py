"""More than its share: of memory, threads, processes, fds, file size and processor time."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import threading
import time

from .book import Kept, Target, attack

_RLIMITS = ("rlimits",)
PROCESSES = 64
"""What the policy "bombs" allows (tests/escape/policies.py)."""


@attack("memory bomb", layers=_RLIMITS)
def memory_bomb(target: Target) -> None:
    """Address space is what is limited, so none of it need be touched."""
    mmap.mmap(-1, 3 << 30).close()


@attack("thread bomb", layers=_RLIMITS, apart=True)
def thread_bomb(target: Target) -> None:
    """Each thread has a stack of 8 MiB, and 1 GiB is the limit."""
    end = threading.Event()
    try:
        for _ in range(300):
            threading.Thread(target=end.wait, daemon=True).start()
    except RuntimeError as error:
        raise Kept("RuntimeError") from error
    finally:
        end.set()


@attack("fork bomb", layers=_RLIMITS, policy="bombs", not_root=True, apart=True)
def fork_bomb(target: Target) -> None:
    pids: list[int] = []
    try:
        for _ in range(2 * PROCESSES):
            pid = os.fork()
            if pid == 0:
                signal.pause()
            pids.append(pid)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@attack("fd bomb", layers=_RLIMITS)
def fd_bomb(target: Target) -> None:
    made: list[int] = []
    try:
        for _ in range(512):
            made.append(os.dup(0))
    finally:
        for fd in made:
            os.close(fd)


@attack("huge file", layers=_RLIMITS)
def huge_file(target: Target) -> None:
    fd = os.memfd_create("huge", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, 1 << 40)
    except OSError as error:
        raise OSError(error.errno or errno.EFBIG, "ftruncate") from error
    finally:
        os.close(fd)


@attack("burn the processor", layers=_RLIMITS, policy="second", apart=True)
def burn(target: Target) -> None:
    """The limit is one second."""
    while time.process_time() < 1.4:
        pass
