"""What an engine for event loops does where tasks cross: one is cancelled, closes or is served while another waits."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

import anyio
import anyio.lowlevel
import pytest
import sniffio
import trio

from belljar.ipc.datagram import MAX_DATAGRAM
from belljar.ipc.errors import CallCancelled
from belljar.ipc.frames import Attached, Call, Cancel, Failed, Frame, Items, Notify, Piece, Reply, Sealed, Share
from belljar.ipc.interface import declared, notify
from belljar.ipc.interface.buffers import BufferLike
from belljar.ipc.memory.buffer import Buffer
from belljar.ipc.payload import make_sealed
from belljar.ipc.peer.loops import current_loop
from belljar.ipc.peer.outbox import MAX_QUEUED
from belljar.ipc.peer.records import MAX_UNDER_WAY
from belljar.ipc.peer.store import CHUNK

from .test_hostile_peer import METHODS, NIL, Facing, facing

pytestmark = pytest.mark.anyio


class Large(Protocol):
    """A child's methods; what is copied by and by is larger than `CHUNK`."""

    def frames(self) -> Iterator[Buffer]: ...

    def keep(self, data: BufferLike) -> None: ...

    @notify
    def tell(self, text: bytes) -> None: ...

    @notify
    def show(self, text: bytes, data: BufferLike) -> None: ...


LARGE = declared(Large)


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
            await child.peer.notify(0, LARGE["tell"], (bytes(60_000),))
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
        items = child.peer.stream(0, LARGE["frames"], ())
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


async def with_an_arena(child: Facing) -> None:
    """Have the host write in an arena, as large as it may be."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.peer.call, 0, LARGE["keep"], (bytes(child.peer.store.limit // 2),))
        call, share = await heard(child, Call, 1), child.peer.store._generation
        child.says(Attached(share), Reply(call[0].call_id, NIL))


async def heard(child: Facing, kind: type[Frame], count: int) -> list[Any]:
    """Return *count* frames of a *kind*, once that many have come."""
    found: list[Any] = []
    while len(found) < count:
        found += [frame for frame in child.hears() if isinstance(frame, kind)]
        await anyio.lowlevel.checkpoint()
    assert len(found) == count
    return found


async def test_calls_that_are_copied_have_their_place() -> None:
    """While the arguments of some are copied no others are sent in their stead: a child takes 256 and no more."""
    async with facing(memory=64 << 20) as child, in_time():
        await with_an_arena(child)
        async with anyio.create_task_group() as tasks:
            for _ in range(MAX_UNDER_WAY - 4):
                tasks.start_soon(child.peer.call, 0, LARGE["keep"], (b"",))
            for _ in range(8):
                tasks.start_soon(child.peer.call, 0, LARGE["keep"], (bytes(4 * CHUNK),))
            await anyio.wait_all_tasks_blocked()
            first = await heard(child, Call, MAX_UNDER_WAY)
            for call in first[:4]:
                child.says(Reply(call.call_id, NIL))
            last = await heard(child, Call, 4)
            for call in first[4:] + last:
                child.says(Reply(call.call_id, NIL))


async def test_a_call_that_is_cancelled_while_it_is_copied() -> None:
    """Its place is another's."""
    async with facing(memory=64 << 20) as child, in_time():
        await with_an_arena(child)
        async with anyio.create_task_group() as tasks:
            for _ in range(MAX_UNDER_WAY - 1):
                tasks.start_soon(child.peer.call, 0, LARGE["keep"], (b"",))
            await heard(child, Call, MAX_UNDER_WAY - 1)
            async with anyio.create_task_group() as copying:
                copying.start_soon(child.peer.call, 0, LARGE["keep"], (bytes(16 * CHUNK),))
                await child.turns(2)
                tasks.start_soon(child.peer.call, 0, LARGE["keep"], (b"",))
                await child.turns(2)
                assert child.peer._rooms
                copying.cancel_scope.cancel()
            await heard(child, Call, 1)
            tasks.cancel_scope.cancel()


async def test_notifications_that_are_copied_have_their_place() -> None:
    """The same of the queue for what the channel does not take yet: it counts what will be put there."""
    async with facing(memory=128 << 20) as child, in_time():
        await with_an_arena(child)
        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(child.peer.notify, 0, LARGE["show"], (bytes(60_000), bytes(CHUNK + 1)))
            await anyio.wait_all_tasks_blocked()
            assert MAX_QUEUED <= child.peer.queued < MAX_QUEUED + MAX_DATAGRAM
            await heard(child, Notify, 40)


async def test_one_timer_at_a_time() -> None:
    """A later one is instead of the one before: else there were one for each deadline that was ever the next."""
    async with anyio.create_task_group() as tasks, in_time():
        loop = current_loop(sniffio.current_async_library(), tasks.start_soon)
        went, over = [], anyio.Event()

        def last() -> None:
            went.append("last")
            loop.later(0.0, over.set)  # while it is called itself

        loop.later(0.0, lambda: went.append("first"))
        loop.later(0.0, last)
        await over.wait()
        assert went == ["last"]
        await loop.close()


async def fail_in_the_cleanup() -> None:
    """Wait to be cancelled, and then fail: trio puts both in one group."""

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in the cleanup")

    async with trio.open_nursery() as tasks:
        tasks.start_soon(fail)
        await trio.sleep_forever()


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_cancelled_service_that_fails_in_its_cleanup(
    anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its failure is logged, and no more than its cancellation goes on to the host's nursery."""
    async with facing() as child, in_time():
        child.offered.waits = fail_in_the_cleanup
        child.says(Call(1, 1, "wait", b"\x90"))
        await child.turns()
        child.says(Cancel(1))
        assert await child.answered(Failed) == Failed(1, "cancelled", "", "the host ended it")
        await child.turns()
    assert "the service wait failed" in caplog.text
    assert "ValueError: in the cleanup" in caplog.text


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_cancelled_upload_that_fails_in_its_cleanup(anyio_backend: str) -> None:
    """The same of what is behind an argument, but that its caller may hear of it."""

    async def numbers() -> AsyncGenerator[int]:
        await fail_in_the_cleanup()
        yield 1

    async with facing() as child, in_time():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child.peer.call, 0, METHODS["ignore"], (numbers(),))
            call = await child.answered(Call)
            await child.turns()
            child.says(Reply(call.call_id, NIL))  # it needs no items
        await child.turns()
        assert not child.broke
