"""Wait for the threads of libzmq to be ready for the seal."""

from __future__ import annotations

import os
import time
from pathlib import Path


def threads() -> set[str]:
    """Return the threads of this process as the names of their folders in /proc."""
    return set(os.listdir("/proc/self/task"))


def await_threads(others: set[str]) -> None:
    """Wait until each thread but *others* has libzmq's name, the last that a new one asks of the kernel for itself.

    One that the seal overtook would be refused its scheduling, and libzmq would abort. The step's deadline counts.
    """
    while not all(_is_named(tid) for tid in threads() - others):
        time.sleep(0.001)


def _is_named(tid: str) -> bool:
    try:
        return Path(f"/proc/self/task/{tid}/comm").read_text("utf-8").startswith("ZMQbg/")
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return True
