"""The long soaks of ``scripts/test --nightly``."""

from __future__ import annotations

import pytest

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
