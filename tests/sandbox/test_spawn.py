"""Starting a program as another user: all of the change and nothing of root left, or the step that failed."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Mapping

import pytest

from belljar.sandbox.launch.spawn import Ids, spawn
from belljar.sandbox.launch.wire import Failed

from ..helpers import await_end, children_of

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
STATUS = ("/bin/cat", "/proc/self/status")


def output_of(argv: tuple[str, ...], user: Ids | None) -> str:
    """Run a program to its end and return what it printed."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = spawn(argv, {}, {1: writer, 2: writer}, user)
    os.close(writer)
    assert isinstance(pid, int), pid
    with open(reader, encoding="utf-8") as pipe:
        text = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, text
    return text


def fields(user: Ids | None) -> Mapping[str, list[str]]:
    """Return /proc/self/status of a started program."""
    lines = (line.partition(":") for line in output_of(STATUS, user).splitlines())
    return {key: value.split() for key, _, value in lines}


@as_root
@pytest.mark.parametrize("groups", [(), (31236, 31237)])
def test_every_id_is_another(groups: tuple[int, ...]) -> None:
    """Real, effective, saved and file-system ids change, and the supplementary groups are those that were named."""
    status = fields((31234, 31235, groups))
    assert status["Uid"] == ["31234"] * 4
    assert status["Gid"] == ["31235"] * 4
    assert status["Groups"] == [str(group) for group in groups]


@as_root
def test_no_capability_crosses_the_change() -> None:
    """Nothing of root's capabilities is left to use; the bounding set is the backend's to drop."""
    status = fields((31234, 31235, ()))
    assert {name: int(status[name][0], 16) for name in ("CapPrm", "CapEff", "CapAmb", "CapInh")} == {
        "CapPrm": 0,
        "CapEff": 0,
        "CapAmb": 0,
        "CapInh": 0,
    }


def test_without_a_user_nothing_changes() -> None:
    """A program keeps the ids of who starts it."""
    status = fields(None)
    assert status["Uid"] == [str(os.geteuid())] * 4
    assert sorted(map(int, status["Groups"])) == sorted(os.getgroups())


def test_no_signal_is_blocked() -> None:
    """A launcher that blocks signals does not hand that on."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    try:
        assert fields(None)["SigBlk"] == ["0" * 16]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


@pytest.mark.parametrize("user", [pytest.param((31234, 31235, ()), marks=as_root), None])
def test_a_program_ends_with_its_launcher(user: Ids | None) -> None:
    """The signal on the launcher's end outlives the change of user, which would clear one that was set before."""
    told, tell = os.pipe()
    may_end, end = os.pipe()
    launcher = os.fork()
    if launcher == 0:
        pid = spawn(("/bin/sleep", "100"), {}, {1: 1, 2: 2}, user)
        os.write(tell, str(pid).encode())
        os.close(end)
        os.read(may_end, 1)
        os._exit(0)
    try:
        sleeper = int(os.read(told, 20))
        pidfd = os.pidfd_open(sleeper)
        assert os.getsid(sleeper) == sleeper
        os.write(end, b"x")
        await_end({sleeper: pidfd})
        os.close(pidfd)
    finally:
        for fd in (told, tell, may_end, end):
            os.close(fd)
        os.waitpid(launcher, 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_a_change_that_is_not_allowed_is_named() -> None:
    """Who is not root and asks for another user learns the step and the errno, and no process is left."""
    before = children_of(os.getpid())
    failed = spawn(STATUS, {}, {1: 1, 2: 2}, (31234, 31235, ()))
    assert isinstance(failed, Failed)
    assert (failed.stage, failed.errno, failed.step) == (2, errno.EPERM, "become the user of the child")
    assert children_of(os.getpid()) == before


@pytest.mark.parametrize(("limit", "works"), [(24, True), (18, False), (16, False), (12, False)])
def test_fds_are_placed_below_a_low_limit(limit: int, works: bool) -> None:
    """A limit of 24 open files leaves room to move the fds of a child; where it does not, the step has a hint."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 3)
        os.closerange(4, 64)  # whatever a test run has open is not this test's
        os.write(3, started_below(limit).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    if works:
        assert said == "0"
    else:
        assert said.startswith("could not place the file descriptors: ")
        assert "no more open files are allowed; raise 'ulimit -n'" in said


def started_below(limit: int) -> str:
    """Start a program with four fds below *limit*; return its exit code, or why it was not started."""
    reader, writer = os.pipe()
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    pid = spawn(("/bin/true",), {}, {1: writer, 2: writer, 3: reader, 4: reader}, None)
    if isinstance(pid, Failed):
        return pid.explained()
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
