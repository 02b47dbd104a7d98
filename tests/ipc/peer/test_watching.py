"""An asynchronous peer that does not read its channel does not watch it: a readable fd would keep the loop busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, cast

import anyio
import anyio.abc
import pytest
import sniffio
import trio

from belljar import notify
from belljar.host.calls import HostSide
from belljar.ipc.channel.in_memory import MemoryChannel, memory_pair
from belljar.ipc.frames import Notify, encode
from belljar.ipc.peer.asynchronous import AsyncPeer
from belljar.ipc.peer.loops import current_loop
from belljar.ipc.peer.records import answers_of
from belljar.ipc.peer.side import Side
from belljar.ipc.peer.store import Store

pytestmark = pytest.mark.anyio


class Notes(Protocol):
    """What the peer answers."""

    @notify
    async def note(self) -> None: ...


class Slow:
    """Takes notice once it is told to."""

    def __init__(self) -> None:
        self.go = anyio.Event()
        self.noted = 0

    async def note(self) -> None:
        await self.go.wait()
        self.noted += 1


def watched(channel: MemoryChannel) -> bool:
    """Whether somebody waits until *channel* is readable; on asyncio, nobody does so afterwards."""
    if sniffio.current_async_library() == "asyncio":
        return asyncio.get_running_loop().remove_reader(channel.fileno())
    return trio.lowlevel.current_statistics().io_statistics.tasks_waiting_read > WAITING


WAITING = 1
"""Tasks of trio itself that wait for an fd: the one that wakes it."""


@asynccontextmanager
async def peer(
    answers: object, ended: Callable[[BaseException], None]
) -> AsyncIterator[tuple[AsyncPeer, MemoryChannel]]:
    """Run a peer that answers `Notes`; yield it and the other end of its channel."""
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as tasks:
        made = AsyncPeer(
            ours,
            cast(Side, HostSide("test", tuple, lambda interface, number: None)),
            Store(1 << 16),
            {1: answers_of(Notes, answers)},
            loop=current_loop(sniffio.current_async_library(), tasks.start_soon),
            broke=ended,
            late=lambda call: None,
            explain=_as_it_is,
            grace=1,
        )
        made.start()
        try:
            yield made, theirs
        finally:
            await made.close()
            ours.close()
            theirs.close()


async def _as_it_is(method: str, error: Exception) -> Exception:
    return error


async def test_the_end_of_the_channel() -> None:
    """It stays readable for ever."""
    ended = anyio.Event()
    async with peer(Slow(), lambda error: ended.set()) as (made, theirs):
        theirs.close()
        await ended.wait()
        await anyio.wait_all_tasks_blocked()
        assert not watched(made.channel)  # type: ignore[arg-type]


async def test_more_notifications_than_are_taken() -> None:
    """What more of them come stay in the channel; they are read once there is room."""
    slow = Slow()
    async with peer(slow, lambda error: None) as (made, theirs):
        sent = 0
        while not made._is_paused:
            assert theirs.send(encode([Notify(1, "note", b"\x90")] * 64))
            sent += 64
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        assert not watched(made.channel)  # type: ignore[arg-type]
        assert slow.noted == 0
        slow.go.set()
        while slow.noted < sent:
            await anyio.lowlevel.checkpoint()
        assert watched(made.channel)  # type: ignore[arg-type]
