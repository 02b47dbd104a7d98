"""A hostile child for arenas: forked, with the fd of the arena, and free to do what it likes with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

REFUSED = 1


def fork(acts: Callable[[], object]) -> int:
    """Return the pid of a child that does *acts* and then ends: with 0, `REFUSED` after an `OSError`, or else 2."""
    pid = os.fork()
    if pid:
        return pid
    code = 2
    try:
        acts()
        code = 0
    except OSError:
        code = REFUSED
    finally:
        os._exit(code)


def end_of(acts: Callable[[], object]) -> int:
    """Return the exit code of a child that did *acts*."""
    return os.waitstatus_to_exitcode(os.waitpid(fork(acts), 0)[1])


@contextmanager
def child_that(acts: Callable[[], object]) -> Iterator[None]:
    """A child does *acts* during the block, or for as long as they last, and is killed after it."""
    pid = fork(acts)
    pidfd = os.pidfd_open(pid)
    try:
        yield
    finally:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        os.waitpid(pid, 0)
