"""The step asyncio: a sealed plugin on an event loop, whose calls run together, are cancelled, and await services."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

from belljar import CallTimeout, LaunchError, Policy, ProcessHost, RemoteError, Stage
from belljar.sandbox.launch import client

from ...children.looped.interfaces import Looped, Records
from ...helpers import launch, write_plugin

pytestmark = pytest.mark.anyio

LOOPED = "looped:Looped"


class Shelf:
    """The host's side of `Records`; notes what was hinted."""

    def __init__(self) -> None:
        self.hints: list[str] = []

    async def read(self, key: str) -> bytes:
        await anyio.lowlevel.checkpoint()
        return f"<{key}>".encode()

    async def keys(self, count: int) -> AsyncIterator[str]:
        for number in range(count):
            yield str(number)

    async def store(self, chunks: AsyncIterator[bytes]) -> int:
        return sum([len(chunk) async for chunk in chunks])

    async def hint(self, text: str) -> None:
        self.hints.append(text)


def looped(backend: str = "namespaces", policy: Policy | None = None, **fields: Any) -> ProcessHost:
    """Return a host of a child with a loop, and without any right but those of *policy*."""
    services = fields.pop("services", None)
    fields.setdefault("early_init", ("asyncio",))
    host = launch(LOOPED, backend=backend, policy=policy or Policy(), **fields)
    return ProcessHost(host.process, services=services)


async def numbers(limit: int) -> AsyncIterator[int]:
    """An upload."""
    for number in range(limit):
        yield number


async def meet(plugin: Looped, *orders: int) -> list[int]:
    """Call ``meet`` with all *orders* at the same time; return in which order they are answered."""
    answers: list[int] = []

    async def one(number: int) -> None:
        answers.append(await plugin.meet(number))

    async with anyio.create_task_group() as tasks:
        for number in orders:
            tasks.start_soon(one, number)
    return answers


@pytest.mark.parametrize("policy", [Policy(), Policy.compute()], ids=["strictest", "compute"])
async def test_a_sealed_plugin_answers_on_its_loop(policy: Policy, backend: str) -> None:
    """Calls wait for each other, streams flow both ways, services are awaited; it leaves what it declares."""
    async with looped(backend, policy, services={Records: Shelf()}) as host:
        assert host.early_init["asyncio"].undeclared is None
        assert [fd.kind for fd in host.early_init["asyncio"].left.fds] == ["eventpoll", "socket", "socket"]
        assert host.at_seal is None or host.at_seal.undeclared is None
        plugin = host.proxy(Looped)
        assert sorted(await meet(plugin, 2, 1, 0)) == [0, 1, 2]
        assert await plugin.total(numbers(1000)) == 499500
        assert [number async for number in plugin.doubled(numbers(300))] == [2 * number for number in range(300)]
        assert await plugin.ask("a") == "<a> 3 0,1,2"
        with pytest.raises(CallTimeout):
            await host.proxy(Looped, timeout=0.05).wait()
        assert await plugin.ended() == ["wait"]
    assert (await host.wait()).exit_code == 0


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_host_on_trio(anyio_backend: str) -> None:
    """The loop of the host is its own affair."""
    async with looped(backend="none", services={Records: Shelf()}) as host:
        assert sorted(await meet(host.proxy(Looped), 1, 0)) == [0, 1]


async def test_what_else_a_plugin_may_do() -> None:
    """Plain methods run as well, a task of its own runs beside the calls, exit() ends a call, not the child."""
    shelf = Shelf()
    async with looped(services={Records: shelf}) as host:
        plugin = host.proxy(Looped)
        assert await plugin.slowly() == "slowly"
        assert await plugin.ticks() > 0
        assert await host.call("plain", "text", returns=str) == "TEXT"
        assert [number async for number in plugin.count_plainly(600)] == list(range(600))
        with pytest.raises(RemoteError, match="SystemExit: 7"):
            await plugin.leave()
        await plugin.remember("it")
        assert (await plugin.ask("b"), shelf.hints) == ("<b> 3 0,1,2", ["b"])
        assert await plugin.ended() == ["it"]


async def test_a_stream_that_is_closed_ends_the_generator() -> None:
    """Its ``finally`` runs, although it waits for credit."""
    async with looped() as host:
        plugin = host.proxy(Looped)
        async with aclosing(plugin.count(10**6)) as stream:  # type: ignore[type-var]
            assert await anext(stream) == 0
        while "count" not in await plugin.ended():
            pass


async def test_a_call_that_is_given_up_reaches_its_thread() -> None:
    """`asyncio.to_thread` needs threads, by the policy; `checkpoint` there raises once the call is given up."""
    async with looped(policy=Policy.compute()) as host:
        plugin = host.proxy(Looped)
        with pytest.raises(CallTimeout):
            await host.proxy(Looped, timeout=0.05).in_thread()
        while "in_thread" not in await plugin.ended():
            pass
    async with looped(policy=Policy()) as host:
        with pytest.raises(RemoteError, match="RuntimeError: can't start new thread"):
            await host.proxy(Looped).in_thread()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("class Plug:\n    async def later(self) -> int:\n        return 2", "Plug.later is asynchronous"),
        ("class Plug:\n    async def all(self):\n        yield 1", "Plug.all is asynchronous"),
        ("import asyncio\nclass Plug: ...", "it imports asyncio"),
    ],
)
async def test_without_the_step_the_remedy_is_named(tmp_path: Path, source: str, reason: str) -> None:
    """An asynchronous plugin is not loaded, and one sentence says why."""
    with pytest.raises(LaunchError, match=rf'{reason}, .* event loop; .* early_init = \["asyncio"\]') as caught:
        await launch(write_plugin(tmp_path, source)).__aenter__()
    assert caught.value.stage is Stage.LOAD


async def test_a_plain_method_cannot_read_a_stream_on_a_loop(tmp_path: Path) -> None:
    """It would have to wait without giving way."""
    source = """
        from collections.abc import Iterator

        class Plug:
            def total(self, numbers: Iterator[int]) -> int:
                return sum(numbers)
    """
    with pytest.raises(LaunchError, match=r"Plug\.total reads a stream, which takes 'async def'"):
        await launch(write_plugin(tmp_path, source), early_init=("asyncio",)).__aenter__()


async def test_a_zygote_has_imported_it(backend: str) -> None:
    """Only a child that is executed imports asyncio itself; a loop is made in each child."""
    client.stop()
    async with looped(backend) as host:
        executed = backend in ("none", "bubblewrap", "chrome-sandbox")
        assert ("preload belljar.child.on_loop" in host.early_init) is executed
        assert "asyncio" in host.early_init
