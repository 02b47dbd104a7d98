"""A host and a child in one process, with a real socket between them: each engine on each side, and the same methods.

``asyncio-thread``, ``trio-thread``: what a `ProcessHost` and a child without event loop have. ``asyncio-loop``: a child
with one. ``threads-thread``: what a `SyncHost` has. Both sides offer `Works`, so each can call the other.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from functools import partial
from typing import Any, Protocol

import anyio
import anyio.abc
import anyio.to_thread
import pytest

from belljar import checkpoint as checkpoint
from belljar.child import dispatch, on_loop, services
from belljar.child.refused import RefusedImports
from belljar.host.calls import HostSide
from belljar.host.config.process_type import Process
from belljar.host.conversation import Conversation
from belljar.host.ended import Ended
from belljar.host.log_records import ChildLog
from belljar.host.pump import Pump
from belljar.host.services import Services
from belljar.ipc.channel.base import EndOfChannel
from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.datagram import control_pair
from belljar.ipc.interface import declared, notify, raises
from belljar.ipc.messages import Ready
from belljar.ipc.peer.asynchronous import AsyncPeer
from belljar.ipc.peer.base import Peer
from belljar.ipc.peer.blocking import BlockingPeer
from belljar.ipc.peer.records import answers_of
from belljar.ipc.peer.shared import SharedPeer
from belljar.ipc.peer.store import Store

from ...conftest import LOOPS

ENGINES = ["asyncio-thread", "asyncio-loop", "threads-thread"]
if LOOPS != "asyncio":
    ENGINES.append("trio-thread")

on_all_engines = pytest.mark.parametrize("engines", ENGINES)


class Broken(Exception):
    """Declared, so that it arrives as itself."""


class Progress(Protocol):
    """Passed by reference."""

    def at(self, step: int) -> int: ...


class Works(Protocol):
    """What both sides offer to each other."""

    def add(self, first: int, second: int) -> int: ...

    def reversed(self, data: bytes) -> bytes: ...

    def deeper(self, depth: int) -> int:
        """Go through the other side and back *depth* times."""
        ...

    @raises(Broken)
    def fail(self, kind: str, text: str) -> None: ...

    def hear(self, kind: str, text: str) -> str:
        """Let the other side `fail`; return what was heard of it."""
        ...

    def numbers(self, count: int) -> Iterator[int]: ...

    def total(self, items: Iterator[int]) -> int: ...

    def total_from(self, start: int, items: Iterator[int] = ...) -> int: ...

    def doubled(self, items: Iterator[int]) -> Iterator[int]: ...

    def other_numbers(self, count: int) -> int:
        """Return the sum of the other side's `numbers`."""
        ...

    def other_total(self, count: int) -> int:
        """Let the other side add up what is sent to it."""
        ...

    def other_reversed(self, size: int) -> int:
        """Return how many bytes come back from the other side."""
        ...

    def other_first(self) -> int:
        """Return the first of the other side's `numbers`, and forget the rest."""
        ...

    @notify
    def note(self, text: str) -> None: ...

    def noted(self) -> list[str]: ...

    def watched(self, progress: Progress, steps: int) -> int: ...

    def keep(self, progress: Progress) -> None: ...

    def use_kept(self) -> str:
        """Call what was kept; return what came of it."""
        ...

    def wait(self) -> None:
        """Return when `never` of the other side does."""
        ...

    def never(self) -> None: ...

    def compute(self) -> None:
        """Keep busy for ever, and look around now and then."""
        ...


class Plain:
    """`Works` for an engine of threads. ``other`` is the other side."""

    def __init__(self) -> None:
        self.other: Any = None
        self.notes: list[str] = []
        self.kept: Any = None
        self.produced = 0
        self.began = threading.Event()
        self.ended = threading.Event()
        self.over = threading.Event()

    def add(self, first: int, second: int) -> int:
        return first + second

    def reversed(self, data: bytes) -> bytes:
        return data[::-1]

    def deeper(self, depth: int) -> int:
        return 1 + self.other.deeper(depth - 1) if depth else 0

    def fail(self, kind: str, text: str) -> None:
        raise Broken(text) if kind == "declared" else ValueError(text)

    def hear(self, kind: str, text: str) -> str:
        try:
            self.other.fail(kind, text)
        except Exception as error:  # noqa: BLE001 - that is what is asked for
            return f"{type(error).__name__}: {error}"
        return ""

    def numbers(self, count: int) -> Iterator[int]:
        self.began.set()
        try:
            for self.produced in range(1, count + 1):
                yield self.produced
        finally:
            self.ended.set()

    def total_from(self, start: int, items: Iterable[int] = ()) -> int:
        return start + sum(items)

    def total(self, items: Iterator[int]) -> int:
        self.began.set()
        try:
            return sum(items)
        finally:
            self.ended.set()

    def doubled(self, items: Iterator[int]) -> Iterator[int]:
        for item in items:
            yield 2 * item

    def other_numbers(self, count: int) -> int:
        return sum(self.other.numbers(count))

    def other_total(self, count: int) -> int:
        return int(self.other.total(iter(range(count))))

    def other_reversed(self, size: int) -> int:
        return len(self.other.reversed(bytes(size)))

    def other_first(self) -> int:
        return int(next(self.other.numbers(10**9)))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def noted(self) -> list[str]:
        return self.notes

    def watched(self, progress: Any, steps: int) -> int:
        return sum(progress.at(step) for step in range(steps))

    def keep(self, progress: Any) -> None:
        self.kept = progress

    def use_kept(self) -> str:
        try:
            return str(self.kept.at(1))
        except Exception as error:  # noqa: BLE001 - that is what is asked for
            return f"{type(error).__name__}: {error}"

    def wait(self) -> None:
        self.began.set()
        try:
            self.other.never()
        finally:
            self.ended.set()

    def never(self) -> None:
        self.over.wait()

    def compute(self) -> None:
        self.began.set()
        try:
            while True:
                self.checkpoint()
        finally:
            self.ended.set()

    checkpoint: Callable[[], None]


class Awaiting(Plain):
    """`Works` for an engine with an event loop; what does not wait is as in `Plain`."""

    async def deeper(self, depth: int) -> int:  # type: ignore[override]
        return 1 + await self.other.deeper(depth - 1) if depth else 0

    async def hear(self, kind: str, text: str) -> str:  # type: ignore[override]
        try:
            await self.other.fail(kind, text)
        except Exception as error:  # noqa: BLE001 - that is what is asked for
            return f"{type(error).__name__}: {error}"
        return ""

    async def total_from(self, start: int, items: AsyncIterator[int] | None = None) -> int:  # type: ignore[override]
        return start if items is None else start + await self.total(items)

    async def total(self, items: AsyncIterator[int]) -> int:  # type: ignore[override]
        self.began.set()
        try:
            return sum([item async for item in items])
        finally:
            self.ended.set()

    async def doubled(self, items: AsyncIterator[int]) -> AsyncIterator[int]:  # type: ignore[override]
        async for item in items:
            yield 2 * item

    async def other_numbers(self, count: int) -> int:  # type: ignore[override]
        return sum([item async for item in self.other.numbers(count)])

    async def other_total(self, count: int) -> int:  # type: ignore[override]
        return int(await self.other.total(iter(range(count))))

    async def other_reversed(self, size: int) -> int:  # type: ignore[override]
        return len(await self.other.reversed(bytes(size)))

    async def other_first(self) -> int:  # type: ignore[override]
        return int(await anext(self.other.numbers(10**9)))

    async def watched(self, progress: Any, steps: int) -> int:  # type: ignore[override]
        return sum([await progress.at(step) for step in range(steps)])

    async def use_kept(self) -> str:  # type: ignore[override]
        try:
            return str(await self.kept.at(1))
        except Exception as error:  # noqa: BLE001 - that is what is asked for
            return f"{type(error).__name__}: {error}"

    async def wait(self) -> None:  # type: ignore[override]
        self.began.set()
        try:
            await self.other.never()
        finally:
            self.ended.set()

    async def never(self) -> None:  # type: ignore[override]
        await anyio.to_thread.run_sync(self.over.wait, abandon_on_cancel=True)

    async def compute(self) -> None:  # type: ignore[override]
        self.began.set()
        try:
            while True:
                await anyio.lowlevel.checkpoint()
        finally:
            self.ended.set()


class Owner:
    """What a `Conversation` needs of a host; its child is this very process, and kill ends the channel."""

    def __init__(self, **fields: Any) -> None:
        self.process = Process(plugin="ends.py:Plain", **fields)
        self.child_log = ChildLog("ends")
        self.why = ""

    def kill(self, why: str) -> None:
        self.why = self.why or why

    def took_refusals(self) -> tuple[str, ...]:
        return ()

    async def hung_up(self) -> Ended:
        raise EndOfChannel


class Side:
    """One side: its peer, what it offers, and a proxy of the other's `Works` to be awaited."""

    def __init__(
        self, peer: Peer, works: Plain, other: Any, owner: Owner | None = None, pump: Pump | None = None
    ) -> None:
        self.peer = peer
        self.works = works
        self.other = other
        self.owner = owner
        self.pump = pump


class InThreads:
    """The other side's `Works`, each call in a thread of its own, to be awaited."""

    def __init__(self, peer: BlockingPeer, pump: Pump) -> None:
        self._peer, self._pump = peer, pump
        self._timeout: float | None = None

    def __getattr__(self, name: str) -> Any:
        method = declared(Works)[name]
        if method.kind == "stream":
            return lambda *arguments: ItemsInThreads(self._peer.call(0, method, arguments), self._in_thread)
        if method.kind == "notify":
            return lambda *arguments: self._in_thread(partial(self._peer.notify, 0, method, arguments))
        return lambda *arguments: self._in_thread(partial(self._peer.call, 0, method, arguments, self._timeout))

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        return await anyio.to_thread.run_sync(partial(self._touching, function), abandon_on_cancel=True)

    def _touching(self, function: Callable[[], Any]) -> Any:
        """As a `SyncHost` does."""
        self._pump.touch()
        try:
            return function()
        finally:
            self._pump.touch()


class ItemsInThreads(AsyncIterator[Any]):
    """A stream of a thread's, to be read with ``async for``."""

    def __init__(self, items: Any, in_thread: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        self.items, self._in_thread = items, in_thread

    async def __anext__(self) -> Any:
        over = object()
        item = await self._in_thread(partial(next, self.items, over))
        if item is over:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        self.items.close()


class _Direct:
    """The other side's `Works` for a method that runs in a thread."""

    def __init__(self, peer: SharedPeer) -> None:
        self._peer = peer

    def __getattr__(self, name: str) -> Any:
        method = declared(Works)[name]
        return lambda *arguments: self._peer.call(0, method, arguments)


@asynccontextmanager
async def two(engines: str, **fields: Any) -> AsyncGenerator[tuple[Side, Side]]:
    """Yield a host and its child, with calls flowing; *fields* are of the host's `Process`."""
    left_kind, _, right_kind = engines.partition("-")
    async with AsyncExitStack() as stack:
        ours, theirs = (stack.enter_context(closing(SocketChannel(sock))) for sock in control_pair())
        yield await stack.enter_async_context(_talking(ours, theirs, left_kind, right_kind, **fields))


@asynccontextmanager
async def _talking(
    ours: SocketChannel, theirs: SocketChannel, left_kind: str, right_kind: str, **fields: Any
) -> AsyncGenerator[tuple[Side, Side]]:
    stores: list[Store] = []
    async with anyio.create_task_group() as tasks:
        try:
            right = await (_on_loop if right_kind == "loop" else _in_a_thread)(theirs, tasks)
            left = (
                _of_threads(ours) if left_kind == "threads" else _of_loop(ours, tasks, right_kind == "loop", **fields)
            )
            stores += [left.peer.store, right.peer.store]
            try:
                yield left, right
            finally:
                await _part(left, right)
        finally:
            with suppress(OSError):  # a test has done so
                ours.sock.shutdown(socket.SHUT_RDWR)
            tasks.cancel_scope.cancel()
    for store in stores:
        store.close()


async def _part(left: Side, right: Side) -> None:
    for side in (left, right):
        side.works.over.set()
    with anyio.CancelScope(shield=True):
        if isinstance(left.peer, AsyncPeer):
            await left.peer.shut_down()
            await left.peer.close()
        elif isinstance(left.peer, SharedPeer):
            left.peer.shut_down()
    left.peer.end(EndOfChannel())
    if left.pump is not None:
        left.pump.join()


def _of_loop(channel: SocketChannel, tasks: anyio.abc.TaskGroup, concurrent: bool, **fields: Any) -> Side:
    owner, works = Owner(**fields), Awaiting()
    conversation = Conversation(owner)
    ready = Ready((), {}, concurrent)
    conversation.start(channel, Services({Works: works}).targets, tasks.start_soon, ready)
    works.other = conversation.proxy(Works, 0)
    return Side(conversation.ready_peer("any"), works, works.other, owner)


def _of_threads(channel: SocketChannel) -> Side:
    works = Plain()
    side = HostSide("child", lambda: (), lambda interface, number: None)
    store, targets = Store(64 << 20, arena_limit=64 << 20), Services({Works: works}).targets
    peer = SharedPeer(channel, side, store, targets, over=lambda error: pump.stop(), rouse=lambda: pump.rouse())
    pump = Pump(peer, "pump")
    pump.start()
    works.other = _Direct(peer)
    return Side(peer, works, InThreads(peer, pump), pump=pump)


async def _in_a_thread(channel: SocketChannel, tasks: anyio.abc.TaskGroup) -> Side:
    made: list[Side] = []
    is_made = anyio.Event()

    def run() -> None:
        offered, works = services.Services(("Works",)), Plain()
        peer = dispatch.make_peer(channel, answers_of(Works, works), RefusedImports(), offered, 64 << 20)
        offered.peer, works.other, works.checkpoint = peer, offered.proxy(Works, 1), peer.checkpoint
        made.append(Side(peer, works, works.other))
        anyio.from_thread.run_sync(is_made.set)
        with suppress(EndOfChannel):
            peer.serve()

    async def serve() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(run)

    tasks.start_soon(serve)
    await is_made.wait()
    return made[0]


async def _on_loop(channel: SocketChannel, tasks: anyio.abc.TaskGroup) -> Side:
    offered, works = services.Services(("Works",)), Awaiting()
    peer = on_loop.make_peer(channel, answers_of(Works, works), RefusedImports(), offered, 64 << 20)
    offered.peer, works.other = peer, offered.proxy(Works, 1)

    async def serve() -> None:
        try:
            with suppress(EndOfChannel):
                await peer.serve()
        finally:
            with anyio.CancelScope(shield=True):
                await peer.close()

    tasks.start_soon(serve)
    return Side(peer, works, works.other)


async def happens(event: threading.Event) -> None:
    """Wait for *event* of a method, which may be in this loop or in a thread."""
    await anyio.to_thread.run_sync(event.wait, 5.0, abandon_on_cancel=True)
    assert event.is_set()
