"""What an engine for event loops does where its tasks cross: one is cancelled, closes or overtakes while another waits."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

import anyio
import anyio.lowlevel
import pytest

from belljar.ipc.errors import CallCancelled
from belljar.ipc.frames import Call, Cancel, Failed, Items, Piece, Reply, Sealed, Share, encode
from belljar.ipc.interface import declared, notify
from belljar.ipc.memory.buffer import Buffer
from belljar.ipc.payload import make_sealed
from belljar.ipc.peer.store import CHUNK

from .test_hostile_peer import METHODS, Facing, facing

pytestmark = pytest.mark.anyio


class Large(Protocol):
    """What is too large to be copied at once."""

    def frames(self) -> Iterator[Buffer]: ...

    @notify
    def tell(self, text: bytes) -> None: ...


@asynccontextmanager
async def in_time() -> AsyncGenerator[None]:
    """Fail, where a mistake would wait for ever."""
    with anyio.fail_after(10):
        yield


@contextmanager
def closing_fd(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


async def to_the_end(read: list[Any], items: Any) -> None:
    read.extend([item async for item in items])


async def test_a_stream_is_given_up_with_a_wait_for_it() -> None:
    """A cancelled wait for an item gives the stream up: the next says so, and all later ones find its end."""
    async with facing() as child, in_time():
        items = child.peer.stream(0, METHODS["numbers"], (1,))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(to_the_end, [], items)
            call = await child.answered(Call)
            tasks.cancel_scope.cancel()
        assert child.hears() == [Cancel(call.call_id)]
        with pytest.raises(CallCancelled, match="'numbers' was given up"):
            await anext(items)
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        child.says(Failed(call.call_id, "cancelled"))
        await child.turns()
        assert not child.broke


async def test_a_stream_that_is_closed_while_it_opens() -> None:
    """It is over for who waits for its first item, and given up as soon as it could be asked for."""
    async with facing() as child, in_time():
        while child.peer._has_room():
            await child.peer.notify(0, declared(Large)["tell"], (bytes(60_000),))
        items = child.peer.stream(0, METHODS["numbers"], (1,))
        async with anyio.create_task_group() as tasks:
            read: list[Any] = []
            tasks.start_soon(to_the_end, read, items)
            await child.turns()
            assert child.peer._rooms
            await items.aclose()
            call = await child.answered(Call)
        assert not read
        assert not child.peer._calls
        assert list(child.peer._given_up) == [call.call_id]


async def test_a_stream_that_is_closed_while_an_item_is_copied() -> None:
    """It is over for who waits for that item, too, and what came goes back to the child."""
    async with facing(memory=32 << 20) as child, in_time():
        items = child.peer.stream(0, declared(Large)["frames"], ())
        async with anyio.create_task_group() as tasks:
            read: list[Any] = []
            tasks.start_soon(to_the_end, read, items)
            call = await child.answered(Call)
            with closing_fd(make_sealed(bytes(CHUNK))) as fd:
                child.says(Items(call.call_id, 0, (b"\x00",), (Sealed(CHUNK),)), fds=[fd])
            share = await child.answered(Share)  # for there was no room in any
            piece = Piece(share.generation, 0, 8 * CHUNK)
            child.says(Items(call.call_id, 0, (b"\x00",), (piece,)))
            while not items._reader.items:
                await anyio.lowlevel.checkpoint()
            await child.turns(3)
            await items.aclose()
        assert [len(item) for item in read] == [CHUNK]
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        assert not child.broke
