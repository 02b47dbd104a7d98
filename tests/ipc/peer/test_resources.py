"""What a child may take of its host by what it says: fds, memory and turns of the loop are counted, and never lost."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import time
from contextlib import closing, suppress
from itertools import count
from threading import Event, Thread
from typing import Any, Protocol

import anyio
import msgspec
import pytest

from belljar.child.dispatch import make_peer as make_child
from belljar.child.refused import RefusedImports
from belljar.child.services import Services as ChildServices
from belljar.host.calls import HostSide
from belljar.host.services import Services
from belljar.ipc.channel.base import EndOfChannel
from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.datagram import Datagram, control_pair
from belljar.ipc.errors import CallTimeout, PeerProtocolError, RemoteError
from belljar.ipc.frames import (
    Call,
    Cancel,
    Credit,
    Failed,
    Handle,
    Items,
    Piece,
    Reply,
    Sealed,
    Shutdown,
    decode_from_child,
    encode,
)
from belljar.ipc.interface import declared, raises
from belljar.ipc.interface.buffers import BufferLike
from belljar.ipc.interface.errors import ArgumentsUnfit
from belljar.ipc.memory.buffer import SharedBuffer
from belljar.ipc.payload import make_sealed
from belljar.ipc.peer.attachments import MAX_WAITING, Inbound
from belljar.ipc.peer.base import LONGEST
from belljar.ipc.peer.records import MAX_UNDER_WAY, WINDOW, answers_of
from belljar.ipc.peer.shared import SharedPeer
from belljar.ipc.peer.store import FIRST_SIZE, MAX_ARENAS, Store

from ...helpers import SOON, open_fds, resident
from .ends import Progress, Works
from .test_hostile_peer import METHODS, NIL, facing

NO_ARGUMENTS = b"\x90"
ONE_UPLOAD = b"\x91\xc0"


@pytest.mark.anyio
async def test_a_piece_that_is_none_is_refused_as_it_comes() -> None:
    """Before anybody looks for it: one that a method never reads would else raise where nothing catches that."""
    async with facing() as child:
        child.says(Call(1, 1, "total", ONE_UPLOAD, uploads=(1,)))
        await child.answered(Credit)
        item = Items(1, 1, (b"\x01",), (Piece(77, 0, 100),))
        child.says(Items(1, 1, (b"\xa1x",)), item, item, item)  # the first fails the method, which reads no more
        assert "which there is not" in await child.broken()


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["wait", "ignore"])
async def test_fds_that_nobody_looks_at_are_counted(method: str) -> None:
    """Those that came and wait, with a call or with an item, are bounded: all children share the host's fds."""
    async with facing() as child:
        before, number = len(open_fds()), 0
        if method == "ignore":
            child.says(Call(1, 1, method, ONE_UPLOAD, uploads=(1,)))
            await child.answered(Credit)
        while not child.broke:
            number += 1
            handles = (Handle("file"),) * 4
            frame = Call(number, 1, method, NO_ARGUMENTS, handles) if method == "wait" else Items(1, 1, (), handles)
            child.says(frame, fds=[2] * 4)
            await child.turns(3)
            assert len(open_fds()) - before <= MAX_WAITING
        assert "nobody has looked at" in str(child.broke[0])
    assert len(open_fds()) <= before


@pytest.mark.anyio
async def test_endless_items_leave_the_loop_to_others() -> None:
    """A child that grants all credit there is, and reads as fast as the host writes, does not keep its loop."""
    async with facing() as child:
        over, endless = Event(), b"\xce\x7f\xff\xff\xff"

        def read() -> None:
            while not over.is_set():
                child.hostile.wait_receive(0.01)

        reader = Thread(target=read)
        reader.start()
        try:
            child.says(Call(1, 1, "numbers", b"\x91" + endless, credit=2**50))
            await child.turns()
            began = time.monotonic()
            await child.turns(10)
            assert time.monotonic() - began < 1.0
        finally:
            over.set()
            reader.join()


@pytest.mark.anyio
async def test_many_calls_as_one_are_for_hosts() -> None:
    """A child that makes a million calls in one would keep the loop until all are answered."""
    async with facing() as child:
        child.says(Call(1, 1, "add", b"\x91\x92\x01\x02", many=True))
        assert "only a host" in await child.broken()


@pytest.mark.anyio
async def test_a_stream_that_is_dropped_takes_what_came_along() -> None:
    """Its items were not looked at, and nobody will: their fds are closed, whether or not the stream was over."""
    async with facing() as child:
        before = len(open_fds())
        for is_over in (False, True):
            items = child.peer.stream(0, METHODS["numbers"], (1,))
            number = 1 + is_over
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(items.__anext__)
                assert (await child.answered(Call)).call_id == number
                child.says(Items(number, 0, (b"\x01",)))
                child.says(Items(number, 0, (b"\x02",), (Handle("file"),)), fds=[2])
                if is_over:
                    child.says(Reply(number, NIL))
            await child.turns()
            assert len(open_fds()) == before + 1
            del items
            gc.collect()
            child.says(Call(number, 7, "nothing", NIL))  # any news
            await child.turns()
            assert len(open_fds()) == before
        assert not child.broke


def test_an_answer_that_comes_with_a_cancellation() -> None:
    """The call is over and its caller is gone, in one turn of the loop: what came with the answer is closed."""

    async def race() -> None:
        async with facing() as child:
            task = asyncio.create_task(child.peer.call(0, METHODS["total"], (iter(()),)))
            number = (await child.answered(Call)).call_id
            before = len(open_fds())
            child.says(Reply(number, b"\x01", (Handle("file"),)), fds=[2])
            child.peer._readable()
            assert len(open_fds()) == before + 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(open_fds()) == before

    asyncio.run(race())


def test_arenas_that_a_child_takes_back_are_counted() -> None:
    """One that takes back each new arena and keeps the old ones gets no more of them: each takes a host's fd."""
    store = Store(1 << 20, arena_limit=64 << 20)
    shared: list[int] = []
    store.share = lambda arena, written_by: shared.append(arena.generation)
    before = len(open_fds())
    try:
        for _ in range(MAX_ARENAS):
            store.missed(1, store.in_use)
            store.missed(FIRST_SIZE, store.in_use)
            assert len(open_fds()) - before <= 2 * MAX_ARENAS
            if shared:
                store.unshared(shared.pop())
    finally:
        store.close()
    assert len(open_fds()) == before


class Screen(Protocol):
    def show(self, frame: SharedBuffer) -> int: ...


class Shows(Protocol):
    def frames(self, count: int) -> list[int]: ...


class Painter:
    """Has each frame shown by its host."""

    def __init__(self, screen: Any) -> None:
        self.screen = screen

    def frames(self, count: int) -> list[int]:
        return [self.screen.show(SharedBuffer.of(memoryview(bytes([i]) * (1 << 17)))) for i in range(count)]


class Keeps:
    """A `Screen` that forgets to let go."""

    def __init__(self) -> None:
        self.kept: list[SharedBuffer] = []

    def show(self, frame: SharedBuffer) -> int:
        self.kept.append(frame)
        return frame.view[0]


def test_a_shared_buffer_of_a_service_ends_with_its_call() -> None:
    """A child may use the memory again after the answer, whatever the service keeps, and is told of it only once."""
    ours, theirs = control_pair()
    with closing(SocketChannel(ours)) as channel, closing(SocketChannel(theirs)) as other:
        offered = ChildServices(("Screen",))
        painter = Painter(offered.proxy(Screen, 1))
        keeps = Keeps()

        def serve() -> None:
            offered.peer = make_child(other, answers_of(Shows, painter), RefusedImports(), offered, 1 << 20)
            with suppress(EndOfChannel):
                offered.peer.serve()

        child = Thread(target=serve)
        child.start()
        side = HostSide("painter", lambda: (), lambda interface, number: None)
        host = SharedPeer(channel, side, Store(1 << 20, arena_limit=1 << 20), Services({Screen: keeps}).targets)
        try:
            for _ in range(2):
                assert host.call(0, declared(Shows)["frames"], (4,), 10.0) == [0, 1, 2, 3]
            with pytest.raises(ValueError, match="released"):
                bytes(keeps.kept[-1])
        finally:
            host.shut_down()
            child.join()
            host.close()


class Pings(Protocol):
    def ping(self) -> None: ...


class Many:
    """Calls a service in many threads at once."""

    def __init__(self, service: Any) -> None:
        self.threads = [Thread(target=service.ping) for _ in range(MAX_UNDER_WAY + 9)]

    def ping(self) -> None:
        for thread in self.threads:
            thread.start()


def test_a_child_with_many_threads_asks_no_more_than_it_may() -> None:
    """The calls of its threads that would be too many for a host wait for answers to others."""
    ours, theirs = control_pair()
    with closing(SocketChannel(ours)) as host, closing(SocketChannel(theirs)) as other:
        offered = ChildServices(("Pings",))
        many = Many(offered.proxy(Pings, 1))

        def serve() -> None:
            offered.peer = make_child(other, answers_of(Pings, many), RefusedImports(), offered, 1 << 20)
            with suppress(EndOfChannel):
                offered.peer.serve()

        child = Thread(target=serve)
        child.start()
        host.send(encode([Call(1, 0, "ping", NO_ARGUMENTS)]))
        count, asked = 0, list[int]()
        while count < len(many.threads):
            received = host.wait_receive(0.1 if len(asked) >= MAX_UNDER_WAY else SOON)
            if received is not None:
                asked += [each.call_id for each in decode_from_child(received.data) if isinstance(each, Call)]
                assert len(asked) <= MAX_UNDER_WAY
            if received is None or count + len(asked) == len(many.threads):  # there will be no more of them now
                count += len(asked)
                while asked:
                    host.send(encode([Reply(asked.pop(), NIL)]))
        for thread in many.threads:
            thread.join()
        host.send(encode([Shutdown()]))
        child.join()


class Slow:
    def ping(self) -> None:
        until = time.monotonic() + 1e-4
        while time.monotonic() < until:
            pass


def test_a_thread_that_answers_looks_at_its_deadline() -> None:
    """A child that asks and asks, and never answers, does not keep the thread that waits for it."""
    ours, theirs = control_pair()
    with closing(SocketChannel(ours)) as channel, closing(SocketChannel(theirs)) as hostile:
        side = HostSide("asks", lambda: (), lambda interface, number: None)
        host = SharedPeer(channel, side, Store(1 << 20), Services({Pings: Slow()}).targets)
        over = Event()

        def ask() -> None:
            waiting, numbers = 0, count(1)
            while not over.is_set():
                for _ in range(200 - waiting):
                    hostile.send(encode([Call(next(numbers), 1, "ping", NO_ARGUMENTS)]))
                received = hostile.wait_receive(0.1)
                waiting = 199 if received is not None else 0

        child = Thread(target=ask)
        child.start()
        try:
            began = time.monotonic()
            with pytest.raises(CallTimeout):
                host.call(0, declared(Shows)["frames"], (1,), 0.2)
            assert time.monotonic() - began < 0.4
        finally:
            over.set()
            child.join()
            host.end(EndOfChannel())


@pytest.mark.anyio
async def test_a_deadline_counts_before_there_is_room() -> None:
    """A call times out also while it is not sent: as many as may be wait for a child that answers none."""
    async with facing() as child, anyio.create_task_group() as tasks:
        for _ in range(MAX_UNDER_WAY):
            tasks.start_soon(child.peer.call, 0, METHODS["wait"], ())
        await child.turns()
        with anyio.fail_after(5), pytest.raises(CallTimeout, match="could not be sent"):
            await child.peer.call(0, METHODS["add"], (1, 2), 0.05)
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("timeout", [float("inf"), 1e18])
async def test_timeouts_that_no_frame_holds(timeout: float) -> None:
    """A long one is told as long: the child would take what does not fit for a breach."""
    async with facing() as child, anyio.create_task_group() as tasks:
        tasks.start_soon(child.peer.call, 0, METHODS["add"], (1, 2), timeout)
        call = await child.answered(Call)
        assert call.timeout == LONGEST * 1000
        child.says(Reply(call.call_id, b"\x03"))


@pytest.mark.anyio
async def test_one_memfd_for_many_calls() -> None:
    """A host copies arguments: a child that sends the same memory with each of many calls is refused some of them."""
    async with facing() as child:
        fd = make_sealed(b"\x91\xc6\x00\x0f\xff\xf0" + bytes(0xFFFF0))
        try:
            before = resident()
            for number in range(1, 65):
                child.says(Call(number, 1, "hold", None, (Sealed(6 + 0xFFFF0),)), fds=[fd])
                await child.turns(2)
            refused = [frame for frame in child.hears() if isinstance(frame, Failed)]
            assert {frame.text for frame in refused} == {"the calls under way have too much in their arguments"}
            assert resident() - before < 16 << 20
            child.says(*[Cancel(number) for number in range(1, 65)])
            await child.turns()
            child.says(Call(65, 1, "hold", None, (Sealed(6 + 0xFFFF0),)), fds=[fd])
            await child.turns()
            assert len(child.peer._answering) == 1
            assert not child.broke
        finally:
            os.close(fd)


@pytest.mark.anyio
async def test_many_uploads_have_small_windows() -> None:
    """What all of them together may have on their way, and nobody reads, is little more than what a few may have."""
    async with facing() as child:
        child.says(*[Call(number, 1, "ignore", ONE_UPLOAD, uploads=(1,)) for number in range(1, MAX_UNDER_WAY + 1)])
        await child.turns()
        windows = [frame.count for frame in child.hears() if isinstance(frame, Credit)]
        assert len(windows) == MAX_UNDER_WAY
        assert windows[0] == WINDOW
        assert sum(windows) < 16 * WINDOW


class Step:
    def at(self, step: int) -> int:
        return step


def test_a_closed_store_makes_no_arena_and_owes_none_anything() -> None:
    """A service that ends after its child finds that there is no memory any more, and nothing to give back."""
    store = Store(1 << 20, arena_limit=64 << 20)
    store.share = lambda arena, written_by: None
    store.close()
    before = open_fds()
    assert store.reserve(1000) is None
    assert store.begin(1000) is None
    store.missed(1000, None)
    store.give_back([Piece(1, 0, 1000)])
    assert open_fds() == before


def test_sealed_memory_may_come_as_any_buffer() -> None:
    """Who sends need not know that it is wanted sealed: it is copied so, and none is made of nothing or of a file."""
    with closing(Store(1 << 20)) as store:
        parts = (b"small", b"", Handle("file"))
        inbound = Inbound(store, parts, Datagram(b"", [os.dup(2)], (), None), lambda *_: None, lent=False)
        with inbound.sealed(0) as sealed:
            assert bytes(sealed) == b"small"
            assert fcntl.fcntl(sealed.fileno(), fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
        with pytest.raises(ValueError, match="nothing to seal"):
            inbound.sealed(1)
        with pytest.raises(PeerProtocolError, match="no buffer"):
            inbound.sealed(2)
        inbound.close()


class NoNumber(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(int(text))


class Parsing(Protocol):
    @raises(NoNumber)
    def parse(self, text: str) -> int: ...


@pytest.mark.anyio
async def test_a_declared_error_that_refuses_the_childs_text() -> None:
    """The caller gets what it would get of an error that was not declared, and not what its own class raised."""
    raised: list[str] = []

    async def parses() -> None:
        with pytest.raises((NoNumber, RemoteError)) as caught:
            await child.peer.call(0, declared(Parsing)["parse"], ("one",), 1)
        raised.append(repr(caught.value))

    async with facing() as child, anyio.create_task_group() as tasks:
        for text in ("5", "five"):
            tasks.start_soon(parses)
            child.says(Failed((await child.answered(Call)).call_id, "declared", "NoNumber", text, ""))
    assert raised == ["NoNumber(5)", "RemoteError(\"'parse' raised NoNumber: five\")"]


@pytest.mark.anyio
async def test_an_upload_of_a_call_that_is_cancelled_is_not_complete() -> None:
    """A service that reads it to its end cannot take what came for all there was."""
    async with facing() as child:
        child.says(Call(1, 1, "total", ONE_UPLOAD, uploads=(1,)))
        await child.answered(Credit)
        child.says(Items(1, 1, (b"\x01",)), Cancel(1))
        assert await child.answered(Failed)
        assert not child.offered.totals


@pytest.mark.anyio
async def test_what_was_passed_with_a_call_that_was_never_sent_is_not_offered() -> None:
    """A call whose arguments turn out too large leaves nothing behind that the child could call."""
    async with facing() as child:
        with pytest.raises(ArgumentsUnfit, match="max_payload"):
            await child.peer.call(0, declared(Watching)["watched"], (Step(), bytes(child.peer.store.limit + 1)), 1)
        assert child.peer._targets.keys() == {1}


class Watching(Protocol):
    def watched(self, progress: Progress, data: BufferLike) -> int: ...


@pytest.mark.anyio
async def test_what_was_passed_with_a_call_ends_with_it_here() -> None:
    """Once its caller has given a call up, its child can call back no more, whether or not it ends the call."""
    async with facing() as child:
        with pytest.raises(CallTimeout):
            await child.peer.call(0, declared(Works)["watched"], (Step(), 1), 0.01)
        call = await child.answered(Call)
        (target, _) = msgspec.msgpack.decode(call.payload)
        child.says(Call(1, target, "at", b"\x91\x01", within=call.call_id))
        assert (await child.answered(Failed)).kind == "not-offered"
