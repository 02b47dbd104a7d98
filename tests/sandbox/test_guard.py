"""The guard starts programs as it is told, reports their end, and leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

from belljar.ipc import datagram
from belljar.sandbox.launch.client import GuardClient
from belljar.sandbox.launch.wire import Exited, Failed, Launched, Report, receive_report
from belljar.sandbox.user import User

from ..helpers import CHILDREN, await_end, children_of, held, launch, nothing_left, open_fds

ENV = {"ONLY": "this"}


@pytest.fixture
def guard() -> Iterator[GuardClient]:
    """A guard of its own, ended afterwards."""
    before = open_fds()
    made = GuardClient()
    yield made
    made.close()
    assert open_fds() == before


class Started:
    """One program of tests/children/spawned.py that *guard* was asked to start, and what it says on its fd 3."""

    def __init__(self, guard: GuardClient, *argv: str, fds: dict[int, int] | None = None) -> None:
        self.stack = ExitStack()
        self.report, theirs = datagram.control_pair()
        self.said, programs = datagram.control_pair()
        for sock in (self.report, self.said):
            self.stack.enter_context(sock)
            sock.settimeout(10)
        with theirs, programs:
            guard.spawn(list(argv), ENV, {1: 1, 2: 2, **(fds or {}), 3: programs.fileno()}, theirs, User.current())

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def next_report(self) -> Report | None:
        return receive_report(self.report)

    def launched(self) -> Launched:
        report = self.next_report()
        assert isinstance(report, Launched)
        self.stack.callback(os.close, report.pidfd)
        return report


def program(mode: str) -> list[str]:
    return [sys.executable, "-I", str(CHILDREN / "spawned.py"), mode]


def test_a_program_gets_what_it_was_given_and_nothing_else(guard: GuardClient) -> None:
    """Environment and fds are exactly those of the request, in any order of numbers; stdin is empty."""
    pipes = {fd: os.pipe() for fd in (1, 2, 4)}
    wanted = {fd: writer for fd, (_, writer) in pipes.items()}
    with Started(guard, *program("surroundings"), fds=wanted) as started:
        launched = started.launched()
        facts = json.loads(started.said.recv(65_536))
        assert {key: value for key, value in facts["env"].items() if key != "LC_CTYPE"} == ENV
        assert set(facts["fds"]) == {"0", "1", "2", "3", "4"}
        assert facts["fds"]["0"].startswith("pipe:")
        assert facts["pid"] == facts["session"] == launched.launched_pid
        assert facts["launcher"] == guard.process.pid
        exited = started.next_report()
        assert isinstance(exited, Exited)
        assert (exited.status, exited.max_rss > 1 << 20, exited.cpu > 0) == (0, True, True)
        assert started.next_report() is None
    for fd, (reader, writer) in pipes.items():
        os.close(writer)
        assert os.read(reader, 100) == f"fd {fd}".encode()
        os.close(reader)


@pytest.mark.parametrize(
    ("path", "number"), [("/nowhere/program", errno.ENOENT), ("/etc", errno.EACCES), ("/etc/passwd", errno.EACCES)]
)
def test_a_program_that_cannot_be_executed(guard: GuardClient, path: str, number: int) -> None:
    """The report names stage, errno and step; no process is left."""
    with Started(guard, path) as started:
        failed = started.next_report()
        assert isinstance(failed, Failed)
        assert (failed.stage, failed.errno) == (2, number)
        assert failed.text == f"could not execute {path}: {os.strerror(number)}"
        assert started.next_report() is None
    assert children_of(guard.process.pid) == []


def test_what_a_program_leaves_behind_is_gone_before_its_end_is_reported(guard: GuardClient) -> None:
    """A grandchild in a session of its own becomes the guard's, which kills and reaps it."""
    with Started(guard, *program("orphan")) as started:
        started.launched()
        orphan = int(started.said.recv(100))
        with held([orphan]) as pidfds:
            started.said.send(b"x")
            exited = started.next_report()
            assert isinstance(exited, Exited)
            assert os.waitstatus_to_exitcode(exited.status or 0) == 4
            await_end(pidfds, 0)
        assert not os.path.exists(f"/proc/{orphan}")


def test_the_end_of_the_guard_is_the_end_of_all(guard: GuardClient) -> None:
    """When the host closes its end, the guard kills everything before it ends itself."""
    with Started(guard, *program("waits")) as started:
        launched = started.launched()
        grandchild = int(started.said.recv(100))
        with held([grandchild, launched.launched_pid]) as pidfds:
            guard.close()
            await_end(pidfds, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_for_the_host_does_not_end_the_guard(guard: GuardClient, number: int) -> None:
    """Ctrl-C and the like are for the host, which then ends its children in order."""
    with Started(guard, *program("surroundings"), fds={4: 2}) as ready:
        ready.launched()  # it has set its signals up
    os.kill(guard.process.pid, number)
    with Started(guard, *program("surroundings"), fds={4: 2}) as started:
        started.launched()
        assert guard.is_alive()


def test_many_programs_leave_the_guard_as_it_was(guard: GuardClient) -> None:
    """After many programs, failed ones among them, the guard has the fds of its start and no process."""
    with Started(guard, "/nowhere"):
        pass
    before: dict[str, str] = {}
    for argv in [["/bin/true"], ["/nowhere"], ["/bin/false"]] * 10:
        with Started(guard, *argv) as started:
            while (report := started.next_report()) is not None:
                if isinstance(report, Launched):
                    os.close(report.pidfd)
        before = before or open_fds(guard.process.pid)
    assert open_fds(guard.process.pid) == before
    assert children_of(guard.process.pid) == []


def test_a_forked_host_starts_its_own_guard() -> None:
    """A copy of the host by fork launches with a guard of its own, and the original's goes on."""

    async def one() -> None:
        async with launch() as host:
            assert await host.call("add", 1) == 3

    anyio.run(one)
    with nothing_left():
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                anyio.run(one)
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        anyio.run(one)


def test_the_guard_loads_the_standard_library_only(guard: GuardClient) -> None:
    """Nothing but Python itself is mapped into the guard: what it does not load cannot break it."""
    with Started(guard, "/bin/true") as started:
        started.launched()
    maps = Path(f"/proc/{guard.process.pid}/maps").read_text()
    assert "site-packages" not in maps


def test_a_request_without_a_listener_for_its_report(guard: GuardClient) -> None:
    """A host that does not wait for the report changes nothing for the next request."""
    report, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        report.close()
        guard.spawn(["/bin/true"], ENV, {1: 1, 2: 2}, theirs, User.current())
    with Started(guard, "/bin/true") as started:
        started.launched()
        assert isinstance(started.next_report(), Exited)
