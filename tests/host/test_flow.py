"""Many calls of one child: maps, a child that stands still, and what of it others feel."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any, Protocol, cast

import anyio
import pytest

from belljar import ArgumentError, CallTimeout, ProcessHost, RemoteError, ResultError, notify
from belljar.ipc.peer.outbox import MAX_QUEUED
from belljar.ipc.peer.records import MAX_UNDER_WAY

from ..helpers import launch, nothing_left

pytestmark = pytest.mark.anyio


class Flows(Protocol):
    """The plugin, as the tests call it."""

    async def double(self, number: int) -> int: ...

    @notify
    async def note(self, number: int, padding: bytes) -> None: ...

    async def noted(self) -> list[int]: ...


def flows(**fields: Any) -> ProcessHost:
    return launch("flows.py:Flows", **fields)


# Maps.


@pytest.mark.parametrize("chunksize", [1, 7, 64, 1000])
async def test_a_map_gives_all_results_in_order(chunksize: int) -> None:
    """However many calls travel together, their results come one by one, in the order of the calls."""
    async with flows() as host:
        calls = ((number,) for number in range(1000))
        found = [result async for result in host.map("double", calls, returns=int, chunksize=chunksize)]
        assert found == list(range(0, 2000, 2))
        assert [result async for result in host.map("double", [], returns=int)] == []


async def test_a_map_takes_its_calls_as_it_goes() -> None:
    """An endless iterable is read two chunks ahead and no further, and a map that is left early leaves nothing."""
    taken: list[int] = []

    def endless() -> Iterator[tuple[int]]:
        while True:
            taken.append(1)
            yield (len(taken),)

    async with flows() as host:
        async with aclosing(host.map("double", endless(), returns=int, chunksize=10)) as results:
            assert await anext(results) == 2
            assert len(taken) == 20
        assert await host.call("double", 4) == 8
        assert (await host.shutdown()).exit_code == 0


async def test_the_first_error_of_a_chunk_is_raised_in_its_place() -> None:
    """The results of the chunks before it have been given out by then; the child lives on."""
    async with flows() as host:
        found: list[int] = []

        async def collect() -> None:
            async for result in host.map("refuse", ((n, 25) for n in range(40)), returns=int, chunksize=10):
                found.append(result)

        with pytest.raises(RemoteError, match="ValueError: 26 is too much"):
            await collect()
        assert found == list(range(20))
        with pytest.raises(ArgumentError, match="Expected `int`"):
            await anext(host.map("double", [("one",)]))
        with pytest.raises(ArgumentError, match="calls that go together have equally many arguments"):
            await anext(host.map("join", [("a",), ("a", "c")]))
        with pytest.raises(ResultError):
            await anext(host.map("double", [(1,)], returns=str))
        with pytest.raises(ArgumentError, match=r"a tuple of arguments for each call, such as \(x,\), and got int"):
            await anext(host.map("double", cast(Any, [1])))
        for none in (0, -1):  # would be no results, without a word
            with pytest.raises(
                ValueError, match=f"could not call 'double': expected a chunksize of 1 or more, got {none}"
            ):
                await anext(host.map("double", [(1,)], chunksize=none))
        assert await host.call("double", 4) == 8


async def test_a_large_chunk_travels_as_large_payloads_do() -> None:
    """Arguments and results that do not fit a message together go beside it."""
    async with flows() as host:
        texts = [str(number) * 1000 for number in range(200)]
        found = [result async for result in host.map("join", ((text,) for text in texts), returns=str, chunksize=200)]
        assert found == [f"{text}b" for text in texts]


async def test_a_map_that_is_cancelled_cancels_its_chunks() -> None:
    """What was sent is given up, and the child answers others."""
    async with flows() as host:
        with anyio.move_on_after(0.05) as scope:
            while True:
                async for _ in host.map("double", ((number,) for number in range(100_000)), returns=int):
                    pass
        assert scope.cancelled_caught
        assert await host.call("double", 4) == 8


# A call that is given up while it runs.


@pytest.mark.parametrize("method", ["compute", "compute_and_say_nothing"])
async def test_a_method_that_looks_around_is_ended(method: str) -> None:
    """It learns at its next checkpoint that it was given up; whatever it makes of that, the child lives on."""
    async with flows(cancel_grace=5.0) as host:
        for count in (1, 2):
            with pytest.raises(CallTimeout):
                await host.call(method, timeout=0.05)
            assert await host.call("was_left") == count


# A child that stands still.


@asynccontextmanager
async def stopped(host: ProcessHost) -> AsyncGenerator[None]:
    """Stop the child for the length of the block."""
    assert host.child_pid is not None
    pidfd = os.pidfd_open(host.child_pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        yield
    finally:
        with suppress(ProcessLookupError):  # it was killed
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        os.close(pidfd)


async def test_a_child_that_stands_still_costs_little_and_goes_on() -> None:
    """Calls to it wait in bounded memory while others are answered; when it goes on, all are answered in order."""
    answers: list[int] = []

    async def double(number: int) -> None:
        assert await still.call("double", number, returns=int) == 2 * number
        answers.append(number)

    with nothing_left():
        async with flows() as still, flows() as other, anyio.create_task_group() as tasks:
            peer = still._conversation.ready_peer("double")
            async with stopped(still):
                for number in range(1000):
                    tasks.start_soon(double, number)
                await anyio.wait_all_tasks_blocked()
                for number in range(20):
                    assert await other.call("double", number) == 2 * number
                assert len(peer._calls) == MAX_UNDER_WAY
                assert peer.queued <= MAX_QUEUED
                assert answers == []
            with anyio.fail_after(10):
                while len(answers) < 1000:
                    await other.call("double", 1)
            assert sorted(answers) == list(range(1000))


async def test_notifications_wait_too() -> None:
    """They fill what may be queued and no more, and arrive once the child goes on: every one of them."""
    async with flows() as host:
        proxy, peer = host.proxy(Flows), host._conversation.ready_peer("note")
        async with anyio.create_task_group() as tasks, stopped(host):
            for number in range(3000):
                tasks.start_soon(proxy.note, number, b"x" * 1000)
            await anyio.wait_all_tasks_blocked()
            assert MAX_QUEUED // 2 < peer.queued < MAX_QUEUED + 65_536
        assert sorted(await proxy.noted()) == list(range(3000))


async def test_a_call_to_a_child_that_stands_still_has_its_deadline() -> None:
    """It ends at its caller in time; the child, which is only warned of, goes on to answer others."""
    async with flows(unresponsive="warn", cancel_grace=0.05) as host:
        async with stopped(host):
            with pytest.raises(CallTimeout):
                await host.call("double", 1, timeout=0.05)
        assert await host.call("double", 2) == 4


async def test_the_time_of_a_call_runs_while_it_waits_for_room() -> None:
    """A call or notification that cannot even be sent in time ends so; the child, which never hears of it, lives on."""
    async with flows() as host:
        async with anyio.create_task_group() as tasks, stopped(host):
            for number in range(MAX_UNDER_WAY):
                tasks.start_soon(partial(host.call, "double", number, timeout=None))
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(
                CallTimeout, match=r"'double' could not be sent within 0\.05 s: the child does not keep up"
            ):
                await host.call("double", 1, timeout=0.05)
            with pytest.raises(CallTimeout, match=r"'note' could not be sent within 0\.05 s"):
                await host.proxy(Flows, timeout=0.05).note(1, b"")
        assert await host.call("noted") == []


async def test_a_child_that_stands_still_is_killed_when_it_is_due() -> None:
    """The kernel kills what is stopped."""
    with nothing_left():
        async with flows(cancel_grace=0.05) as host, stopped(host):
            with pytest.raises(CallTimeout):
                await host.call("double", 1, timeout=0.05)
            ended = await host.wait()
    assert (ended.signal, ended.reason) == (
        "SIGKILL",
        "it did not end 'double', which was given up, within 0.05 s",
    )
