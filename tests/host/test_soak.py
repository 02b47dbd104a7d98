"""The long soaks of ``scripts/test --nightly``."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest

from belljar import ProcessHost

from ..helpers import launch, nothing_left, resident

pytestmark = [pytest.mark.anyio, pytest.mark.nightly, pytest.mark.timeout(600)]


async def test_a_thousand_launches_leave_the_process_as_it_was() -> None:
    """After a thousand launches there is no more process, fd or memory than before."""
    async with launch() as host:
        await host.call("add", 1)
    with nothing_left():
        before = resident()
        for _ in range(1000):
            async with launch() as host:
                assert await host.call("add", 1) == 3
    assert resident() - before < 16 << 20


async def test_a_hundred_thousand_calls_leave_the_process_as_it_was() -> None:
    """Calls, small and large, leave no fd and no memory."""
    async with launch() as host:
        await host.call("echo", b"x" * 200_000, returns=bytes)
        with nothing_left():
            before = resident()
            for number in range(100_000):
                assert await host.call("add", number) == number + 2
            for _ in range(500):
                assert len(await host.call("echo", b"x" * 200_000, returns=bytes)) == 200_000
        assert resident() - before < 16 << 20


async def test_streams_and_cancelled_calls_leave_the_process_as_it_was() -> None:
    """Streams that are left early, maps and calls that are given up leave no memory, no fd and no entry in a table."""
    async with launch("flows.py:Flows", cancel_grace=10.0) as host:
        peer = host._conversation.ready_peer("any")
        with nothing_left():
            await _give_up_and_leave(host, 100)
            before = resident()
            await _give_up_and_leave(host, 5000)
            assert not peer._calls
            assert not peer._given_up
        assert resident() - before < 16 << 20


async def _give_up_and_leave(host: ProcessHost, times: int) -> None:
    for number in range(times):
        with anyio.move_on_after(0.0005 * (number % 3)):
            await host.call("double", number)
        async with aclosing(host.map("double", ((n,) for n in range(100)), chunksize=10)) as results:
            assert await anext(results) == 0
    assert await host.call("double", 1) == 2
