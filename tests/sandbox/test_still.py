"""Stopping a process for a look: when it counts as still, what keeps it from that, and what is said of it then."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from belljar.sandbox import protection
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Policy
from belljar.sandbox.protection.still import STOPPED, is_still, stopped, where
from belljar.sandbox.protection.verify import Expectation
from belljar.sandbox.seccomp.answers import Rights
from belljar.sandbox.seccomp.compile import compile_policy
from belljar.sandbox.steps import StepFailed

COMING_AND_GOING = """
import threading
def breed():
    while True:
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
for _ in range(2):
    threading.Thread(target=breed, daemon=True).start()
print("on", flush=True)
threading.Event().wait()
"""

# vfork(2): the caller sleeps in state D until the new process has ended, which here waits for a byte.
SLEEPS = """
import ctypes, os, sys, threading
from belljar.sandbox import syscalls as sc
libc = ctypes.CDLL(None)
stack = ctypes.create_string_buffer(1 << 16)
top = ctypes.c_void_p((ctypes.addressof(stack) + len(stack)) & ~15)
def sleep():
    libc.prctl(15, b"\\x1b[31m\\n", 0, 0, 0)
    libc.clone(libc.getchar, top, 0x4000 | 0x100 | 17, None)  # CLONE_VFORK | CLONE_VM | SIGCHLD
sleeper = threading.Thread(target=sleep)
sleeper.start()
while open(f"/proc/self/task/{sleeper.native_id}/stat").read().rpartition(")")[2].split()[0] != "D":
    os.sched_yield()
if len(sys.argv) > 1:
    sc.prctl(38, 1)
    sc.seccomp_set_filter(open(sys.argv[1], "rb").read(), sc.SECCOMP_FILTER_FLAG_TSYNC)
print(sleeper.native_id, flush=True)
sleeper.join()
"""


@contextmanager
def running(source: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """Run *source*; yield the process, its pidfd and the number that it says, or 0."""
    argv = [sys.executable, "-I", "-c", source, *arguments]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        pidfd = os.pidfd_open(program.pid)
        try:
            assert program.stdout is not None
            said = program.stdout.readline().decode().strip()
            assert said
            yield program, pidfd, int(said) if said.isdecimal() else 0
        finally:
            program.kill()
            os.close(pidfd)


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():  # pytest's own timeout is the deadline
        os.sched_yield()


def states(pid: int) -> dict[str, str]:
    return {
        path.parent.name: path.read_text().rpartition(")")[2].split()[0]
        for path in Path(f"/proc/{pid}/task").glob("*/stat")
    }


def test_a_process_is_still_only_while_it_is_stopped() -> None:
    """Within the block all threads are stopped, even of a process that starts and ends some all the time."""
    with running(COMING_AND_GOING) as (program, pidfd, _):
        for _ in range(300):
            assert not is_still(program.pid)
            with stopped(pidfd):
                wait_for(lambda: is_still(program.pid))
                found = states(program.pid)
                assert len(found) >= 3
                assert set(found.values()) <= STOPPED
                assert len(found) == os.stat(f"/proc/{program.pid}/task").st_nlink - 2  # the kernel's own count
            wait_for(lambda: not is_still(program.pid))


def test_a_thread_that_sleeps_uninterruptibly_keeps_a_process_from_being_still() -> None:
    """Nothing but the end of such a sleep makes its process still; meanwhile it is known by call and place."""
    with running(SLEEPS) as (program, pidfd, tid), stopped(pidfd):
        wait_for(lambda: states(program.pid)[str(program.pid)] == "T")
        assert not is_still(program.pid)
        assert states(program.pid)[str(tid)] == "D"
        said = where(program.pid, tid)
        assert said.startswith("in clone at ")
        assert program.stdin is not None
        program.stdin.write(b"x")
        program.stdin.close()
        wait_for(lambda: is_still(program.pid))


def test_a_filter_reaches_a_thread_that_sleeps_uninterruptibly(tmp_path: Path) -> None:
    """TSYNC puts the filter on it; that it cannot be stopped is said of the filter, with a name fit for a terminal."""
    filter_file = tmp_path / "filter"
    policy = Policy.compute()
    filter_file.write_bytes(compile_policy(policy, listener=False))
    with running(SLEEPS, str(filter_file)) as (program, pidfd, tid):
        assert "\nSeccomp:\t2\n" in Path(f"/proc/{program.pid}/task/{tid}/status").read_text()
        expected = Expectation("a test", {Layer.SECCOMP: ""}, policy, Rights.of(policy))
        with stopped(pidfd):
            wait_for(lambda: states(program.pid)[str(program.pid)] == "T")
            found = protection.verify(outer_pid=program.pid, pidfd=pidfd, expected=expected)
    status = found.layer(Layer.SECCOMP)
    assert not status.engaged
    assert found.thread_names["\ufffd[31m\\n"] == 1
    assert sum(found.thread_names.values()) == found.threads == 2


def test_an_ended_process_is_still_and_cannot_be_stopped() -> None:
    """What has ended does not keep anybody waiting; to stop it is an error of its own."""
    with running("print('on')") as (program, pidfd, _):
        program.wait()
        assert is_still(program.pid)
        with pytest.raises(StepFailed, match="could not stop the child"), stopped(pidfd):
            pass


def test_a_process_that_ends_while_it_is_stopped() -> None:
    """A child may be killed during the look; that it cannot be let go then is no error."""
    with running(COMING_AND_GOING) as (program, pidfd, _), stopped(pidfd):
        program.kill()
        program.wait()
        assert is_still(program.pid)


def test_nothing_is_said_of_a_thread_that_has_ended() -> None:
    """Where a thread sleeps is help for people: what cannot be known is left out."""
    with running("print('on')") as (program, _, _):
        program.wait()
        assert where(program.pid, program.pid) == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may trace every process")
def test_nothing_is_said_of_a_process_that_may_not_be_traced() -> None:
    """Nor is it an error that this process may not look there."""
    assert where(1, 1) == ""


AGAIN = """
import ctypes, errno, sys, threading
from belljar.sandbox import syscalls as sc
import os
libc = ctypes.CDLL(None, use_errno=True)
reader, writer = os.pipe()
def splice():
    moved = libc.splice(reader, None, os.pipe()[1], None, 1, 0)
    print(moved, errno.errorcode.get(ctypes.get_errno()), flush=True)
sleeper = threading.Thread(target=splice)
sleeper.start()
while open(f"/proc/self/task/{sleeper.native_id}/stat").read().rpartition(")")[2].split()[0] != "S":
    os.sched_yield()
sc.prctl(38, 1)
sc.seccomp_set_filter(open(sys.argv[1], "rb").read(), sc.SECCOMP_FILTER_FLAG_TSYNC)
print("on", flush=True)
sys.stdin.read(1)
os.write(writer, b"x")
sleeper.join()
"""


@pytest.mark.parametrize(("stop", "came"), [(False, "1 None"), (True, "-1 EPERM")])
def test_a_stop_brings_a_call_from_before_to_the_filter(stop: bool, came: str, tmp_path: Path) -> None:
    """A call that sleeps over the seal passes by the filter, unless its process is stopped: then it is made anew."""
    filter_file = tmp_path / "filter"
    filter_file.write_bytes(compile_policy(Policy.compute(), listener=False))
    with running(AGAIN, str(filter_file)) as (program, pidfd, _):
        if stop:
            with stopped(pidfd):
                wait_for(lambda: is_still(program.pid))
        assert program.stdout is not None
        assert program.communicate(b"x")[0].decode().strip() == came
