"""`SyncHost`: all that a host does, without an event loop, from any thread."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from belljar import ArgumentError, CallTimeout, LaunchError, RemoteError, State, SyncHost
from belljar.host.errors import ChildEnded
from belljar.ipc.errors import UnknownMethod
from belljar.ipc.peer.outbox import MAX_QUEUED, CannotSend
from belljar.ipc.peer.records import MAX_UNDER_WAY

from ..children.plainly.interfaces import Desk, Odd, Plainly
from ..helpers import CHILDREN, SOON, await_end, held, nothing_left, process

PLUGIN = "plainly:Plainly"


class OwnDesk:
    """Answers in whatever thread."""

    def __init__(self) -> None:
        self.plainly: Any = None
        self.notes: list[str] = []
        self.noted = threading.Event()
        self.on_note: Callable[[], object] = lambda: None

    def twice(self, number: int) -> int:
        answer: int = self.plainly.half(4 * number)
        return answer

    def names(self, count: int) -> Iterator[str]:
        return (f"name {number}" for number in range(count))

    def store(self, chunks: Iterator[bytes]) -> int:
        return sum(map(len, chunks))

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.noted.set()
        self.on_note()


class Steps:
    def __init__(self) -> None:
        self.seen: list[int] = []

    def step(self, number: int) -> int:
        self.seen.append(number)
        return number


def sync_host(**fields: Any) -> tuple[SyncHost, OwnDesk]:
    """Return a host that offers a desk; neither is started."""
    desk = OwnDesk()
    host = SyncHost(process(PLUGIN, **{"backend": "none", **fields}), services={Desk: desk})
    desk.plainly = host.proxy(Plainly)
    return host, desk


@pytest.fixture(scope="module", params=["socket", "zmq"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[SyncHost, OwnDesk]]:
    """Yield a host that several tests share."""
    host, desk = sync_host(channel=request.param)
    with host:
        yield host, desk


def test_all_kinds_of_methods(pair: tuple[SyncHost, OwnDesk]) -> None:
    """Calls, streams, uploads, both at once, objects by reference and notifications are plain functions."""
    host, desk = pair
    plainly: Plainly = host.proxy(Plainly)
    steps = Steps()
    assert (plainly.echo(b"data"), host.call("half", 4), host.call("half", 4, returns=int)) == (b"data", 2, 2)
    assert bytes(plainly.copy(bytes(3 << 20)).view) == bytes(3 << 20)
    assert list(plainly.count(1000)) == list(range(1000))
    assert plainly.total(iter(range(1000))) == sum(range(1000))
    assert list(plainly.doubled(iter(range(1000)))) == list(range(0, 2000, 2))
    assert (plainly.walk(steps, 3), steps.seen) == (3, [0, 1, 2])
    assert (plainly.hint("quietly"), plainly.hints()) == (None, ["quietly"])
    assert list(host.map("half", ((number,) for number in range(300)), chunksize=64)) == [n // 2 for n in range(300)]
    assert (plainly.through(21), plainly.all_of_desk(), desk.notes) == (42, "name 0,name 1,name 2 3", ["all"])


ELSEWHERE = {"child_log", "converse_by", "hung_up", "took_refusals", "shutdown", "wait"}
"""Of a `ProcessHost`: for what works within, and the end of a child, for which a `SyncHost` has ``close``."""


def test_what_a_host_knows(pair: tuple[SyncHost, OwnDesk]) -> None:
    """All that a `ProcessHost` knows of its child a `SyncHost` knows too."""
    host, _ = pair
    public = {name for name in {*dir(host.host), *vars(host.host)} if not name.startswith("_")}
    assert public - ELSEWHERE <= set(dir(host))
    known = ("state", "process", "protection", "timeline", "methods", "early_init", "at_seal")
    for name in (*known, "child_pid", "launched_pid", "claimed_pid"):
        assert getattr(host, name) == getattr(host.host, name)
    assert host.protection is not None
    assert host.protection.backend == "none"
    assert ("half" in host.methods, host.state) == (True, State.READY)
    assert repr(host) == f"<SyncHost plainly ready child_pid={host.child_pid}>"


def test_what_a_host_knows_before_its_launch() -> None:
    """Its state and its process type; of the rest it says what to do first."""
    host, _ = sync_host()
    assert (host.state, host.process.name, repr(host)) == (
        State.CREATED,
        "plainly",
        "<SyncHost plainly created child_pid=None>",
    )
    with pytest.raises(RuntimeError, match="the child is not ready; enter the host with 'with', or call start"):
        host.protection  # noqa: B018


def test_errors(pair: tuple[SyncHost, OwnDesk]) -> None:
    """Errors are those of a `ProcessHost`, and the child lives on."""
    host, _ = pair
    plainly: Any = host.proxy(Plainly)
    with pytest.raises(Odd, match="3 is odd"):
        plainly.even(3)
    with pytest.raises(ArgumentError, match="half"):
        plainly.half("many")
    with pytest.raises(ArgumentError, match="numbers"):
        plainly.total(5)
    with pytest.raises(UnknownMethod, match="nothing"):
        host.call("nothing")
    with pytest.raises(ArgumentError, match="half"):
        list(host.map("half", [(1,), ()]))
    with pytest.raises(RemoteError, match="ValueError: no number"):
        plainly.number("one")
    with pytest.raises(ZeroDivisionError):
        plainly.total(1 // number for number in [1, 0])
    with pytest.raises(AttributeError):
        plainly.nothing()
    with pytest.raises(RuntimeError, match="launches once"):
        host.start()
    assert "half" in dir(plainly)
    assert plainly.half(2) == 1


def test_a_stream_is_closed_where_its_loop_ends(pair: tuple[SyncHost, OwnDesk]) -> None:
    """One that is left early ends in the child; one that nobody reads is never called."""
    plainly: Plainly = pair[0].proxy(Plainly)
    before = plainly.closed()
    for number in plainly.count(10**9):
        if number == 10:
            break
    unread = [plainly.count(1) for _ in range(MAX_UNDER_WAY + 1)]
    assert (plainly.closed(), len(unread)) == (before + 1, MAX_UNDER_WAY + 1)


def test_a_stream_that_is_collected_waits_for_nobody(pair: tuple[SyncHost, OwnDesk]) -> None:
    """The collector runs anywhere, also where another thread is in a call: a dropped stream takes no lock."""
    host, _ = pair
    assert host._calls is not None
    plainly: Plainly = host.proxy(Plainly)
    before = plainly.closed()
    dropped: list[Any] = [plainly.count(10**9), host.map("half", ((number,) for number in range(10**9)))]
    assert [*map(next, dropped)]
    dropped.append(dropped)
    with host._calls.shared._guard:
        del dropped
        collector = threading.Thread(target=gc.collect)
        collector.start()
        collector.join(4 * SOON)
        assert not collector.is_alive()
    assert plainly.closed() == before + 1


def test_a_call_that_is_given_up_leaves_the_others_alone(pair: tuple[SyncHost, OwnDesk]) -> None:
    """At the deadline the caller goes on, and so does the child."""
    host, _ = pair
    began = time.monotonic()
    with pytest.raises(CallTimeout, match=r"'nap' did not answer within 0.1 s"):
        host.proxy(Plainly, timeout=0.1).nap()
    assert host.call("half", 2) == 1
    assert time.monotonic() - began < 1


def in_threads(count: int, function: Callable[[int], Any]) -> list[Any]:
    """Return what *function* returns of each number, each called in a thread of its own at the same time."""
    with ThreadPoolExecutor(count) as pool:
        start = threading.Barrier(count)

        def run(number: int) -> Any:
            start.wait()
            return function(number)

        return list(pool.map(run, range(count)))


def test_many_threads(pair: tuple[SyncHost, OwnDesk]) -> None:
    """Each of several threads gets its own answers, and its uploads are read by itself; services answer meanwhile."""
    host, _ = pair
    plainly: Plainly = host.proxy(Plainly)

    def work(number: int) -> list[Any]:
        found: list[Any] = []
        base = sqlite3.connect(":memory:")  # which no other thread may touch
        rows = base.execute(
            "WITH RECURSIVE n(i) AS (VALUES(0) UNION ALL SELECT i + 1 FROM n LIMIT 600) SELECT i FROM n"
        )
        found.append(plainly.total(row[0] for row in rows))
        base.close()
        for turn in range(20):
            data = b"%d %d" % (number, turn)
            found += [plainly.echo(data) == data, plainly.through(turn), bytes(plainly.copy(data * 2000).view)[:9]]
        return [*found, list(plainly.count(300)) == list(range(300))]

    for number, found in enumerate(in_threads(8, work)):
        expected: list[Any] = [sum(range(600))]
        for turn in range(20):
            expected += [True, 2 * turn, (b"%d %d" % (number, turn) * 2000)[:9]]
        assert found == [*expected, True]


def test_more_threads_than_a_child_takes_calls() -> None:
    """A call beyond what may be under way waits for its turn."""
    host, _ = sync_host()
    with host:
        threads = MAX_UNDER_WAY + 20
        assert in_threads(threads, lambda number: host.call("half", 2 * number)) == list(range(threads))


def test_what_a_child_says_while_nobody_calls(caplog: pytest.LogCaptureFixture) -> None:
    """A thread of the host answers the child and takes its notifications and its logging; else it sleeps."""
    caplog.set_level(logging.WARNING)
    host, desk = sync_host()
    with host:
        host.call("talk")
        assert desk.noted.wait(5)
        assert desk.notes == ["twice 4 is 8"]
        pump = next(thread for thread in threading.enumerate() if thread.name.endswith("pump"))
        status = f"/proc/self/task/{pump.native_id}/status"

        def switches() -> str:
            with open(status) as file:
                return next(line for line in file if line.startswith("voluntary"))

        before = ""
        while before != switches():  # it may be about to sleep
            before = switches()
            threading.Event().wait(0.2)
    assert "logged" in [record.getMessage() for record in caplog.records]


def test_a_child_that_ends_while_threads_wait() -> None:
    """All of them are told how it ended; no thread, process or fd is left, even before the host is closed."""
    before = set(threading.enumerate())
    host, _ = sync_host()
    with nothing_left("none"):
        with host:
            waiting = [Future[BaseException | None]() for _ in range(8)]

            def wait(future: Future[BaseException | None]) -> None:
                try:
                    host.call("hang", timeout=None)
                except ChildEnded as error:
                    future.set_result(error)

            for future in waiting:
                threading.Thread(target=wait, args=(future,)).start()
            while (use := host.use) is None or use.under_way < 8:
                os.sched_yield()
            assert host.host.child_pid is not None
            os.kill(host.host.child_pid, signal.SIGKILL)
            for future in waiting:
                assert "during 'hang'" in str(future.result(5))
            with pytest.raises(ChildEnded, match="could not call 'half'"):
                host.call("half", 2)
        ended = host.close()
        assert ended is not None
        assert ended.signal == "SIGKILL"
    assert {thread for thread in threading.enumerate() if "belljar" in thread.name} <= before


@pytest.mark.slow
def test_a_child_that_can_be_told_nothing_more() -> None:
    """It is killed at once, and its callers hear why."""
    host, _ = sync_host()
    with host:
        assert host._calls is not None
        host._calls.shared.end(CannotSend(OSError(errno.ETOOMANYREFS, "Too many references")))
        with pytest.raises(ChildEnded, match="could not be sent: Too many references"):
            host.call("half", 2)


def test_a_stopped_child_holds_nobody_beyond_the_deadline() -> None:
    """Calls, notifications for which the channel has no room, and `close` end in time although nothing is read."""
    host, _ = sync_host(unresponsive="warn")
    with host:
        assert host.host.child_pid is not None
        os.kill(host.host.child_pid, signal.SIGSTOP)
        plainly = host.proxy(Plainly, timeout=0.2)
        began = time.monotonic()
        with pytest.raises(CallTimeout, match="'half' did not answer"):
            plainly.half(2)
        assert host.use is not None
        while host.use.queued <= MAX_QUEUED:
            plainly.hint("x" * 30_000)
        with pytest.raises(CallTimeout, match="'hint' could not be sent"):
            plainly.hint("more")
        with pytest.raises(CallTimeout, match="'half' could not be sent"):
            plainly.half(2)
        assert time.monotonic() - began < 3
    ended = host.close()
    assert "did not end within" in str(ended)


def test_a_call_that_does_not_end_costs_the_child_its_life() -> None:
    """A child that does not end what was given up, in time, is killed although nobody calls."""
    host, _ = sync_host(cancel_grace=0.1)
    with host:
        with pytest.raises(CallTimeout):
            host.call("hang", timeout=0.05)
        with pytest.raises(ChildEnded, match="did not end 'hang'"):
            host.call("half", 2, timeout=5)


def test_it_is_closed_while_threads_call(caplog: pytest.LogCaptureFixture) -> None:
    """What the child answers in time is answered, the rest is a `ChildEnded`, and nobody waits for ever."""
    host, _ = sync_host()
    answers = 0
    flows = threading.Barrier(5)

    def call() -> ChildEnded:
        nonlocal answers
        try:
            host.call("half", 2)
            flows.wait()
            while True:
                host.call("half", 2)
                answers += 1
        except ChildEnded as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        with host:
            calls = [pool.submit(call) for _ in range(4)]
            flows.wait()
        assert all(isinstance(each.result(5), ChildEnded) for each in calls)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_service_may_close_its_host() -> None:
    """`close` in a thread that answers neither waits for itself nor hangs the child."""
    host, desk = sync_host()
    with host:
        desk.on_note = host.close
        with suppress(ChildEnded):
            host.call("all_of_desk")
        with pytest.raises(ChildEnded):
            host.call("half", 2)


def test_a_launch_that_fails() -> None:
    """The error is that of a `ProcessHost`, and nothing is left."""
    before = set(threading.enumerate())
    host = SyncHost(process("hangs_on_import.py:Plug", backend="none", launch_timeout=0.5))
    with nothing_left("none"), pytest.raises(LaunchError, match="did not get past this stage"):
        host.start()
    assert {thread for thread in threading.enumerate() if "belljar" in thread.name} <= before
    with pytest.raises(RuntimeError, match="not ready"):
        host.call("anything")


def test_services_are_plain_functions() -> None:
    """A service that would have to be awaited is refused before there is a child."""

    class Awaited(OwnDesk):
        async def twice(self, number: int) -> int:  # type: ignore[override]
            return number

    with pytest.raises(TypeError, match="twice"):
        SyncHost(process(PLUGIN), services={Desk: Awaited()})


def test_within_an_event_loop() -> None:
    """A notebook's cell runs in the thread of a running loop; so do calls, to two hosts at once."""

    async def cell() -> None:
        (first, _), (second, desk) = sync_host(), sync_host()
        with first, second:
            desk.plainly = first.proxy(Plainly)  # the service of one calls the other
            assert second.call("through", 21) == 42

    asyncio.run(cell())


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """What runs in the background of a shell, as these tests may, ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
def test_an_interrupted_call() -> None:
    """Ctrl-C ends the call where it waits, also if a service runs there, and the child can be called again."""
    host, desk = sync_host()
    with host:
        main = threading.main_thread().ident
        assert main is not None

        def interrupt() -> None:
            while (use := host.use) is None or not use.under_way:
                os.sched_yield()
            signal.pthread_kill(main, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            host.call("nap", timeout=None)
        thread.join()
        desk.on_note = lambda: signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            host.call("all_of_desk")
        assert host.call("half", 2) == 1


def call_until_interrupted(host: SyncHost, killer: subprocess.Popen[bytes]) -> None:
    assert killer.stdin is not None
    killer.stdin.write(b"go\n")
    killer.stdin.flush()
    while True:
        host.call("half", 2)


@pytest.mark.usefixtures("_ctrl_c")
def test_an_interrupted_loop_of_quick_calls() -> None:
    """Ctrl-C is raised wherever it comes, and never costs the child, which it could in the middle of a message."""
    host, _ = sync_host(cancel_grace=0.1)
    with host:
        for _ in range(20):
            with (
                subprocess.Popen(["/bin/sh", "-c", "read go; kill -INT $PPID"], stdin=subprocess.PIPE) as killer,
                pytest.raises(KeyboardInterrupt),
            ):
                call_until_interrupted(host, killer)
        with pytest.raises(CallTimeout):  # what was given up wrongly would end the child by now
            host.call("nap", timeout=0.3)
        assert host.call("half", 2) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_fork_has_no_child() -> None:
    """In a forked copy calls fail at once, closing is nothing, and the original goes on."""
    host, _ = sync_host()
    with host:
        stream = host.proxy(Plainly).count(1000)
        next(stream)
        if (pid := os.fork()) == 0:
            code = 1
            with suppress(BaseException):
                try:
                    host.call("half", 2)
                except RuntimeError as error:
                    stream.close()  # type: ignore[attr-defined]
                    host.close()
                    code = 0 if "forked" in str(error) else 2
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert (len(list(stream)), host.call("half", 2)) == (999, 1)


LINES = """
import logging
logging.getLogger("belljar.sandbox").setLevel("ERROR")  # which warns of the backend none
from belljar import Policy, Process, SyncHost
host = SyncHost(Process(plugin={plugin!r}, backend="none", policy=Policy.compute(), run_as={user!r})).start()
print(host.call("half", 8), host.host.child_pid, flush=True)
host.call("talk")
"""


def test_a_program_that_ends_without_close() -> None:
    """Line by line in the REPL it works, and the end of the program is that of its child, at once and in silence."""
    user = "root" if os.geteuid() == 0 else ""
    lines = LINES.format(plugin=str(CHILDREN / PLUGIN), user=user)
    argv = [sys.executable, "-i", "-q"]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as repl:
        assert repl.stdin is not None
        assert repl.stdout is not None
        repl.stdin.write(lines)
        repl.stdin.flush()
        answer, pid = repl.stdout.readline().split()
        with held([int(pid)]) as child:
            _, errors = repl.communicate(timeout=20)
            await_end(child)
    assert (answer, repl.returncode) == ("4", 0)
    assert errors.replace(">>> ", "").strip() == ""
