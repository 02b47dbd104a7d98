"""Processes by pidfd, with real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from belljar.ipc import pidfds

from ..helpers import await_end


@pytest.fixture
def sleeper() -> Iterator[tuple[int, int]]:
    """A forked process that waits for ever, with its pidfd; killed and reaped in the end."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    yield pid, pidfd
    pidfds.kill(pidfd)
    if pidfds.pids_of(pidfd).outer_pid != -1:
        os.waitpid(pid, 0)
    os.close(pidfd)


def test_a_pidfd_knows_its_process_until_it_is_reaped(sleeper: tuple[int, int]) -> None:
    """A pidfd gives the pid of a living process and of a zombie, and -1 once it was reaped."""
    pid, pidfd = sleeper
    assert pidfds.pids_of(pidfd) == pidfds.Pids(pid, (pid,))
    assert not pidfds.has_ended(pidfd)
    pidfds.kill(pidfd)
    await_end({pid: pidfd})
    assert pidfds.has_ended(pidfd)
    assert pidfds.pids_of(pidfd).outer_pid == pid
    os.waitpid(pid, 0)
    assert pidfds.pids_of(pidfd).outer_pid == -1
    pidfds.kill(pidfd)


def test_the_exit_status_of_a_process_that_somebody_else_reaped(sleeper: tuple[int, int]) -> None:
    """The wait status is known once somebody has reaped the process, and not before, also not of a zombie."""
    pid, pidfd = sleeper
    assert pidfds.exit_status(pidfd) is None
    pidfds.kill(pidfd)
    await_end({pid: pidfd})
    assert pidfds.exit_status(pidfd) is None
    _, status = os.waitpid(pid, 0)
    if (told := pidfds.exit_status(pidfd)) is None:
        pytest.skip("this kernel does not tell (Linux 6.15 does)")
    assert told == status
    assert os.waitstatus_to_exitcode(told) == -signal.SIGKILL


@pytest.mark.parametrize("code", [0, 7, 255])
def test_an_exit_code_survives_the_reaping(code: int) -> None:
    """An exit code is told as wait(2) told it to the one who reaped."""
    pid = os.fork()
    if pid == 0:
        os._exit(code)
    pidfd = os.pidfd_open(pid)
    os.waitpid(pid, 0)
    if (told := pidfds.exit_status(pidfd)) is not None:
        assert os.waitstatus_to_exitcode(told) == code
    os.close(pidfd)


def test_ancestors_lead_to_the_first_process(sleeper: tuple[int, int]) -> None:
    """The chain begins with the process itself, goes through this one, and ends with pid 1."""
    chain = pidfds.ancestors(sleeper[0])
    assert chain[:2] == [sleeper[0], os.getpid()]
    assert chain[-1] == 1


def test_a_process_that_is_gone_has_no_further_ancestors() -> None:
    """A pid that no longer exists is a chain of its own."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert pidfds.ancestors(pid) == [pid]
