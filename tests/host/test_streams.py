"""Streams of a real child: when an item is sent, when a generator ends, and errors of the caller's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest

from belljar import ArgumentError, InterfaceMismatch, ProcessHost, RemoteError, raises

from ..helpers import launch, write_plugin

pytestmark = pytest.mark.anyio

on_both_engines = pytest.mark.parametrize("engine", ["threads", "loop"])

SOURCES = {
    "threads": """
        import threading
        from collections.abc import Iterator
        from contextlib import suppress
        from belljar import raises

        class Refused(Exception): ...

        class Plug:
            def __init__(self) -> None:
                self.log: list[str] = []

            def stalls(self, count: int) -> Iterator[int]:
                yield from range(count)
                threading.Event().wait()

            def echo(self, items: Iterator[int]) -> Iterator[int]:
                yield from items

            def endless(self) -> Iterator[int]:
                try:
                    while True:
                        yield 1
                finally:
                    self.log.append("endless")

            def ended(self) -> list[str]:
                return self.log

            def total(self, items: Iterator[int]) -> int:
                return sum(items)

            @raises(Refused)
            def refuse(self, text: str) -> None:
                raise Refused(text)

            def hushed(self, items: Iterator[int]) -> int:
                with suppress(Exception):
                    sum(items)
                return 0
        """,
    "loop": """
        from collections.abc import AsyncIterator
        from contextlib import suppress
        from belljar import raises

        class Refused(Exception): ...

        class Plug:
            def __init__(self) -> None:
                self.log: list[str] = []

            async def echo(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
                async for item in items:
                    yield item

            async def endless(self) -> AsyncIterator[int]:
                try:
                    while True:
                        yield 1
                finally:
                    self.log.append("endless")

            def ended(self) -> list[str]:
                return self.log

            async def total(self, items: AsyncIterator[int]) -> int:
                return sum([item async for item in items])

            @raises(Refused)
            def refuse(self, text: str) -> None:
                raise Refused(text)

            async def hushed(self, items: AsyncIterator[int]) -> int:
                with suppress(Exception):
                    [item async for item in items]
                return 0
        """,
}


class Refused(Exception):
    """Declared."""


class Streams(Protocol):
    """What each of them answers."""

    def echo(self, items: AsyncIterator[int]) -> AsyncIterator[int]: ...

    def endless(self) -> AsyncGenerator[int]: ...

    async def ended(self) -> list[str]: ...

    async def total(self, items: AsyncIterator[int]) -> int: ...

    async def hushed(self, items: AsyncIterator[int]) -> int:
        """The same, and 0 if it fails."""
        ...

    @raises(Refused)
    async def refuse(self, text: str) -> None: ...


class Stalls(Protocol):
    """What only one without a loop does: it stands still for ever."""

    def stalls(self, count: int) -> AsyncGenerator[int]: ...


def streaming(folder: Path, engine: str) -> ProcessHost:
    """Return a host of the plugin of that engine."""
    steps: tuple[Any, ...] = ("asyncio",) if engine == "loop" else ()
    return launch(write_plugin(folder, SOURCES[engine]), early_init=steps)


@pytest.mark.parametrize("count", [1, 3])
async def test_an_item_does_not_wait_for_the_next(tmp_path: Path, count: int) -> None:
    """What a generator has yielded arrives although it takes for ever to make another."""
    async with streaming(tmp_path, "threads") as host:
        async with aclosing(host.proxy(Stalls, timeout=10).stalls(count)) as items:
            assert [await anext(items) for _ in range(count)] == [*range(count)]
        host.kill()


@on_both_engines
async def test_a_stream_that_is_called_by_name(engine: str, tmp_path: Path) -> None:
    """Its caller, who has no place for items, learns that it is a stream, at once."""
    async with streaming(tmp_path, engine) as host:
        with pytest.raises(ArgumentError, match="could not call 'endless': it is a stream; call it by an interface"):
            await host.call("endless")


@on_both_engines
async def test_an_upload_that_is_called_by_name(engine: str, tmp_path: Path) -> None:
    """So does who gives no stream where one is read; and who gives one where none is, by an interface that fits not."""

    async def numbers() -> AsyncGenerator[int]:
        yield 1
        yield 2

    class Untyped(Protocol):
        async def total(self, items): ...  # type: ignore[no-untyped-def]

    async with streaming(tmp_path, engine) as host:
        with pytest.raises(ArgumentError, match="argument 'items' is a stream; call it by an interface that says so"):
            await host.call("total", None)
        with pytest.raises(InterfaceMismatch, match="argument 'items' is Any in the interface and upload"):
            host.proxy(Untyped)
        assert await host.proxy(Streams).total(numbers()) == 3


@on_both_engines
async def test_each_answer_may_be_waited_for(tmp_path: Path, engine: str) -> None:
    """Whoever sends items and gets others back may wait for those, however many went before, and then send more."""
    async with streaming(tmp_path, engine) as host:
        give, take = anyio.create_memory_object_stream[int](100)
        echo = host.proxy(Streams, timeout=10).echo(take)
        for number in range(40):
            for _ in range(number):
                give.send_nowait(number)
            assert [await anext(echo) for _ in range(number)] == [number] * number
        await give.aclose()
        assert [item async for item in echo] == []


@on_both_engines
async def test_a_closed_stream_has_ended_before_the_next_call(tmp_path: Path, engine: str) -> None:
    """Its generator's ``finally`` has run by the time that a call is answered which was made after it was closed."""
    async with streaming(tmp_path, engine) as host:
        plugin = host.proxy(Streams)
        for count in range(1, 6):
            async with aclosing(plugin.endless()) as items:
                assert await anext(items) == 1
            assert await plugin.ended() == ["endless"] * count


@on_both_engines
async def test_an_upload_that_is_not_wanted_any_more_is_closed(tmp_path: Path, engine: str) -> None:
    """A generator that is an argument ends with its call, by its ``finally``, and does not wait for a collection."""
    closed = anyio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    async with streaming(tmp_path, engine) as host:
        echo = host.proxy(Streams).echo(endless())
        assert await anext(echo) == 1
        await echo.aclose()  # type: ignore[attr-defined]
        with anyio.fail_after(10):
            await closed.wait()


@on_both_engines
async def test_an_error_of_an_upload_is_the_callers_own(tmp_path: Path, engine: str) -> None:
    """What the caller's generator raises ends the call as it is, whatever the method makes of it."""

    async def broken() -> AsyncIterator[int]:
        yield 1
        raise KeyError("mine")

    async def unfit() -> AsyncIterator[Any]:
        yield "text"

    async with streaming(tmp_path, engine) as host:
        plugin = host.proxy(Streams)
        for method in (plugin.total, plugin.hushed):
            with pytest.raises(KeyError, match="mine"):
                await method(broken())
        with pytest.raises(KeyError, match="mine"):
            assert [item async for item in plugin.echo(broken())] == []
        with pytest.raises(ArgumentError, match="'total': an item of argument 'items': Expected `int`, got `str`"):
            await plugin.total(unfit())
        if engine == "loop":
            with pytest.raises(KeyError, match="mine"):
                await plugin.total(plugin.echo(plugin.echo(broken())))


async def test_a_declared_error_has_the_childs_traceback(tmp_path: Path) -> None:
    """It is the cause of what the caller gets."""
    async with streaming(tmp_path, "threads") as host:
        with pytest.raises(Refused, match=r"^no$") as caught:
            await host.proxy(Streams).refuse("no")
        assert isinstance(caught.value.__cause__, RemoteError)
        assert "raise Refused(text)" in caught.value.__cause__.remote_traceback
