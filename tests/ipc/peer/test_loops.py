"""What an engine for event loops does where tasks cross: one is cancelled, closes or is served while another waits."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, Protocol, TypeAlias

import anyio
import anyio.lowlevel
import prctl
import pytest
import sniffio
import trio

from belljar.host.config.process_type import Process
from belljar.host.judge import Judge
from belljar.ipc.channel.base import EndOfChannel
from belljar.ipc.datagram import MAX_DATAGRAM, control_pair
from belljar.ipc.errors import CallCancelled
from belljar.ipc.frames import (
    Attached,
    Call,
    Cancel,
    Credit,
    End,
    Failed,
    Handle,
    Items,
    Notify,
    Piece,
    Reply,
    Sealed,
    Share,
)
from belljar.ipc.interface import declared, notify
from belljar.ipc.interface.buffers import BufferLike
from belljar.ipc.interface.errors import ArgumentsUnfit
from belljar.ipc.interface.fd import Fd
from belljar.ipc.memory.buffer import Buffer
from belljar.ipc.payload import make_sealed
from belljar.ipc.peer.asynchronous import MAX_NOTICES, AsyncPeer
from belljar.ipc.peer.loops import current_loop
from belljar.ipc.peer.outbox import MAX_QUEUED
from belljar.ipc.peer.records import MAX_UNDER_WAY, NotSent
from belljar.ipc.peer.store import CHUNK

from ...helpers import open_fds
from .test_hostile_peer import METHODS, NIL, Facing, facing

pytestmark = pytest.mark.anyio


Pipe: TypeAlias = Fd[Literal["pipe-read"]]


class Large(Protocol):
    """A child's methods; what is copied by and by is larger than `CHUNK`."""

    def frames(self) -> Iterator[Buffer]: ...

    def keep(self, data: BufferLike) -> None: ...

    @notify
    def tell(self, text: bytes) -> None: ...

    @notify
    def show(self, text: bytes, data: BufferLike) -> None: ...

    def take(self, pipe: Pipe) -> None: ...

    def take_all(self, pipes: Iterator[Pipe]) -> None: ...

    @notify
    def give(self, data: BufferLike, pipe: Pipe) -> None: ...


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
            await child.answered(Call)
            tasks.cancel_scope.cancel()
        assert child.hears() == [Cancel(1)]
        with pytest.raises(CallCancelled, match="'numbers' was given up"):
            await anext(items)
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        child.says(Failed(1, "cancelled"))
        await child.turns()
        assert not child.broke


async def test_a_stream_that_is_closed_while_it_opens() -> None:
    """It is over for who waits for its first item, and given up as soon as it could be asked for."""
    async with facing() as child, in_time():
        while child.peer._has_room():
            await child.peer.notify(0, LARGE["tell"], (bytes(60_000),))
        items = child.peer.stream(0, METHODS["numbers"], (1,))
        read: list[Any] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(to_the_end, read, items)
            await child.turns()
            assert child.peer._rooms
            await items.aclose()
            assert (await child.answered(Call)).call_id == 1
        assert not read
        assert not child.peer._calls
        assert list(child.peer._given_up) == [1]


async def test_a_stream_that_is_closed_while_an_item_is_copied() -> None:
    """It is over for who waits for that item, too, and what came goes back to the child."""
    async with facing(memory=32 << 20) as child, in_time():
        items = child.peer.stream(0, LARGE["frames"], ())
        read: list[Any] = []
        async with anyio.create_task_group() as tasks:
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


async def heard(child: Facing, kind: type[Any], count: int) -> list[Any]:
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
    assert "Offer.wait failed in the host" in caplog.text
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


def fill_with_fds(sock: socket.socket) -> None:
    try:
        while True:
            socket.send_fds(sock, [b"x"], [2] * 4)
    except OSError as error:
        assert error.errno == errno.ETOOMANYREFS


@contextmanager
def no_fds_for_others() -> Iterator[None]:
    """As many fds of this user are on their way as one process may have: the kernel passes no more, see unix(7)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    rights = [name for name in ("sys_admin", "sys_resource") if getattr(prctl.cap_effective, name)]
    ours, theirs = control_pair()
    with ours, theirs:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        try:
            for name in rights:
                setattr(prctl.cap_effective, name, False)
            fill_with_fds(ours)
            yield
        finally:
            for name in rights:
                setattr(prctl.cap_effective, name, True)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def a_pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    with closing_fd(writing), Fd(reading, "pipe-read") as pipe:  # which owns it
        yield pipe


async def test_fds_that_are_refused_once_there_is_room_end_the_child() -> None:
    """A message that waited and that the kernel does not pass then is lost, and with it all that is under way."""
    ended: list[str] = []

    async def ends(name: str, argument: object) -> None:
        try:
            await child.peer.call(0, LARGE[name], (argument,))
        except EndOfChannel as error:
            ended.append(str(error))

    async with facing() as child, in_time():
        before = len(open_fds())
        with a_pipe() as pipe:
            while not child.peer.queued:
                await child.peer.notify(0, LARGE["tell"], (bytes(60_000),))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ends, "take", pipe)
                tasks.start_soon(ends, "keep", b"")
                await anyio.wait_all_tasks_blocked()
                assert len(child.peer._calls) == 2
                with no_fds_for_others():
                    while not child.broke:
                        child.hears()
                        await anyio.lowlevel.checkpoint()
            assert ended == ["a message could not be sent: Too many references: cannot splice"] * 2
            with pytest.raises(NotSent):
                await child.peer.call(0, LARGE["keep"], (b"",))
        assert not child.peer.queued
        assert len(open_fds()) == before
        killed: list[str] = []
        Judge(Process(plugin="nobody.py:Nobody"), killed.append).broke(child.broke[0])
        assert killed == [f"the channel to it failed: {ended[0]}"]


async def test_fds_that_are_refused_at_once_are_an_error_of_their_sender() -> None:
    """Whether they are in a notification or an item, it is the sender who hears of it, and nothing is left behind."""
    async with facing(memory=32 << 20) as child, in_time():
        await with_an_arena(child)
        with a_pipe() as pipe, no_fds_for_others():
            with pytest.raises(ArgumentsUnfit, match="could not send it: Too many references"):
                await child.peer.notify(0, LARGE["give"], (bytes(8192), pipe))
            assert child.peer.store.use.written is not None
            assert child.peer.store.use.written.used == 0
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(refused, child.peer, iter([pipe]))
                [call] = await heard(child, Call, 1)
                child.says(Credit(call.call_id, 1, 1))
                [end] = await heard(child, End, 1)
                assert "could not send it: Too many references" in end.text
                child.says(Reply(call.call_id, NIL))
        assert not child.broke


async def refused(peer: AsyncPeer, pipes: Iterator[Pipe]) -> None:
    with pytest.raises(ArgumentsUnfit, match="could not send it: Too many references"):
        await peer.call(0, LARGE["take_all"], (pipes,))


NOTE = Notify(1, "note", b"\x91\xa1x")


@pytest.mark.parametrize("at_once", [1, 600])
async def test_notifications_whose_services_call_the_child(at_once: int) -> None:
    """However many come in a burst, the answers behind them are read: else all would wait for each other."""
    async with facing() as child, in_time():
        answered, few = 0, anyio.Semaphore(at_once)

        async def ask() -> None:
            nonlocal answered
            async with few:
                assert await child.peer.call(0, METHODS["add"], (1, 2)) == 3
            answered += 1

        child.offered.hears = ask
        for _ in range(3):
            assert child.says(*[NOTE] * 200)
        while answered < 600:
            for call in child.hears():
                assert isinstance(call, Call)
                assert child.says(Reply(call.call_id, b"\x03"))
            await anyio.lowlevel.checkpoint()


async def test_what_comes_behind_many_notifications_keeps_its_place() -> None:
    """A call is begun after them, also if it is cancelled meanwhile; if the child ends, they are heard all the same."""
    async with facing() as child, in_time():
        child.offered.open = False
        for _ in range(2):
            assert child.says(*[NOTE] * MAX_NOTICES)
        assert child.says(Call(1, 1, "add", b"\x92\x01\x02"), Call(2, 1, "wait", b"\x90"), Cancel(2))
        await child.turns()
        assert child.offered.noted == MAX_NOTICES
        assert not child.hears()
        child.offered.open = True
        answers = await heard(child, object, 2)
        assert {(type(answer), answer.call_id) for answer in answers} == {(Reply, 1), (Failed, 2)}
        while child.offered.noted < 2 * MAX_NOTICES:  # trio begins tasks of one turn in any order
            await anyio.lowlevel.checkpoint()
        child.offered.open = False
        for _ in range(2):
            assert child.says(*[NOTE] * MAX_NOTICES)
        assert child.says(Call(3, 1, "add", b"\x92\x01\x02"))
        await child.turns()
        child.hostile.close()
        while not child.broke:
            await anyio.lowlevel.checkpoint()
        child.offered.open = True
        while child.offered.noted < 4 * MAX_NOTICES:
            await anyio.lowlevel.checkpoint()
        assert not child.peer._answering


async def test_what_nobody_has_heard_goes_with_the_peer() -> None:
    """Notifications that were not begun are dropped when a peer is closed, with their fds."""
    before = len(open_fds())
    async with facing() as child, in_time():
        child.offered.open = False
        assert child.says(*[NOTE] * MAX_NOTICES)
        assert child.says(Notify(1, "note", b"\x91\xa1x", (Handle("file"),)), fds=[2])
        assert child.says(Call(1, 1, "add", b"\x92\x01\x02"))
        await child.turns()
        await child.peer.close()
        assert child.offered.noted == MAX_NOTICES
    assert len(open_fds()) == before
