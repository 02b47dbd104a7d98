"""A host's engine against a child that says what it likes: each datagram is taken by a rule, or is the child's last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from typing import Any, Protocol

import anyio
import anyio.lowlevel
import msgspec
import pytest
import sniffio
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.host.calls import HostSide
from belljar.host.services import Services
from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.datagram import control_pair
from belljar.ipc.errors import CallError, PeerProtocolError
from belljar.ipc.frames import (
    MAX_FRAMES,
    Call,
    Cancel,
    Credit,
    End,
    Failed,
    Frame,
    Handle,
    Items,
    Notify,
    Piece,
    Release,
    Reply,
    Sealed,
    Unshare,
    Within,
    decode_from_host,
    encode,
)
from belljar.ipc.interface import declared, notify
from belljar.ipc.interface.errors import ArgumentsUnfit, ValueUnfit
from belljar.ipc.peer.asynchronous import MAX_NOTICES, AsyncPeer
from belljar.ipc.peer.loops import AsyncioLoop, current_loop
from belljar.ipc.peer.records import MAX_UNDER_WAY, WINDOW, Outgoing
from belljar.ipc.peer.store import Store

from ...helpers import open_fds, resident

NIL = b"\xc0"


class Offer(Protocol):
    """What the hostile child may call, and what the host calls."""

    def add(self, first: int, second: int) -> int: ...

    def wait(self) -> None: ...

    def hold(self, data: bytes) -> None:
        """Never answer."""
        ...

    def numbers(self, count: int) -> Iterator[int]: ...

    def total(self, items: Iterator[int]) -> int: ...

    def ignore(self, items: Iterator[int]) -> None:
        """Never answer, and read nothing."""
        ...

    @notify
    def note(self, text: str) -> None: ...


class Offered:
    """Behind it; nobody waits for the hostile side here but in `wait`, `note` and `total`."""

    def __init__(self) -> None:
        self.noted = 0
        self.open = True
        self.totals: list[int] = []
        self.waits = anyio.sleep_forever
        self.hears = self._opened

    def add(self, first: int, second: int) -> int:
        return first + second

    async def wait(self) -> None:
        await self.waits()

    async def hold(self, data: bytes) -> None:
        await anyio.sleep_forever()

    def numbers(self, count: int) -> Iterator[int]:
        return iter(range(count))

    async def total(self, items: AsyncIterator[int]) -> int:
        self.totals.append(sum([item async for item in items]))
        return self.totals[-1]

    async def ignore(self, items: AsyncIterator[int]) -> None:
        await anyio.sleep_forever()

    async def note(self, text: str) -> None:
        self.noted += 1
        await self.hears()

    async def _opened(self) -> None:
        while not self.open:
            await anyio.lowlevel.checkpoint()


class Facing:
    """A host's peer, and the hostile end of its channel."""

    def __init__(self, peer: AsyncPeer, hostile: SocketChannel, offered: Offered, broke: list[BaseException]) -> None:
        self.peer = peer
        self.hostile = hostile
        self.offered = offered
        self.broke = broke

    def says(self, *frames: Frame, fds: Sequence[int] = ()) -> bool:
        """Send *frames* in one datagram; False if there is no room."""
        return self.hostile.send(encode(frames), fds)

    def hears(self) -> list[Frame]:
        """Return all frames that have come."""
        found: list[Frame] = []
        while (received := self.hostile.receive()) is not None:
            received.close()
            found += decode_from_host(received.data)
        return found

    async def answered(self, kind: type[Frame]) -> Any:
        """Wait for a frame of *kind* and return it."""
        while True:
            for frame in self.hears():
                if isinstance(frame, kind):
                    return frame
            await anyio.lowlevel.checkpoint()

    async def broken(self) -> str:
        """Wait until the channel is given up; return why."""
        while not self.broke:
            await anyio.lowlevel.checkpoint()
        assert isinstance(self.broke[0], PeerProtocolError)
        return str(self.broke[0])

    async def turns(self, count: int = 20) -> None:
        """Let the loop turn."""
        for _ in range(count):
            await anyio.lowlevel.checkpoint()


def make_peer(
    channel: SocketChannel, loop: Any, broke: list[BaseException], offered: Offered, memory: int = 1 << 20
) -> AsyncPeer:
    async def explain(method: str, error: Exception) -> Exception:
        return error

    def late(call: Outgoing) -> None:
        raise AssertionError("nothing is given up for so long here")

    return AsyncPeer(
        channel,
        HostSide("hostile", lambda: (), lambda interface, number: None),
        Store(memory, arena_limit=memory),
        Services({Offer: offered}).targets,
        loop=loop,
        broke=broke.append,
        late=late,
        explain=explain,
        grace=60.0,
    )


@asynccontextmanager
async def facing(memory: int = 1 << 20) -> AsyncGenerator[Facing]:
    """Yield a peer that reads what a hostile child sends, on the loop that runs; *memory*: bytes of its store."""
    ours, theirs = control_pair()
    with ExitStack() as stack:
        channel, hostile = (stack.enter_context(closing(SocketChannel(sock))) for sock in (ours, theirs))
        async with anyio.create_task_group() as tasks:
            broke: list[BaseException] = []
            offered = Offered()
            loop = current_loop(sniffio.current_async_library(), tasks.start_soon)
            peer = make_peer(channel, loop, broke, offered, memory)
            stack.callback(peer.store.close)
            peer.start()
            try:
                yield Facing(peer, hostile, offered, broke)
            finally:
                offered.open = True
                with anyio.CancelScope(shield=True):
                    await peer.close()
                tasks.cancel_scope.cancel()


METHODS = declared(Offer)


async def fails(peer: AsyncPeer, name: str, *arguments: Any) -> None:
    with pytest.raises((PeerProtocolError, CallError)):
        await peer.call(0, METHODS[name], arguments)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([Items(1, 0, (NIL,) * (WINDOW // 2)), Items(1, 0, (NIL,) * (WINDOW // 2 + 1))], "without credit"),
        ([Items(1, 0, ())], "without any"),
        ([Reply(1, NIL), Reply(1, NIL)], "which is not under way"),
        ([Reply(1, NIL), Items(1, 0, (NIL,))], "no stream 0"),
        ([Items(1, 1, (NIL,))], "no stream 1"),
        ([Items(2, 0, (NIL,))], "no stream 0"),
        ([End(1, 0)], "ends with the answer"),
        ([Credit(2, 1, 1)], "no stream 1"),
        ([Credit(1, 1, 1)], "no stream 1"),
        ([Call(1, 1, "wait", b"\x90"), Credit(1, 0, 1)], "no stream 0"),
        ([Failed(2, "exception")], "which is not under way"),
    ],
    ids=repr,
)
async def test_what_a_stream_may_not_do(frames: list[Frame], why: str) -> None:
    """Items that nobody asked for, or none can belong to, and answers too many end the channel with the reason."""
    async with facing() as child, anyio.create_task_group() as tasks:
        items = child.peer.stream(0, METHODS["numbers"], (1,))

        async def read() -> None:
            with suppress(PeerProtocolError, ValueUnfit):
                async for _ in items:
                    pass

        tasks.start_soon(read)
        assert (await child.answered(Call)).credit == WINDOW
        child.says(*frames)
        assert why in await child.broken()
        await items.aclose()


@pytest.mark.anyio
async def test_credit_without_end() -> None:
    """Whoever grants more than any stream needs breaks the protocol; the writer goes by what it was granted."""
    async with facing() as child:
        child.says(Call(1, 1, "numbers", b"\x91\xcd\xff\xff", credit=3))
        await child.turns()
        items = [payload for frame in child.hears() if isinstance(frame, Items) for payload in frame.payloads]
        assert items == [b"\x00", b"\x01", b"\x02"]
        child.says(Credit(1, 0, 2))
        await child.turns()
        assert [frame.payloads for frame in child.hears() if isinstance(frame, Items)] == [(b"\x03",), (b"\x04",)]
        child.says(Credit(1, 0, 2**20), Credit(1, 0, 2**20))
        assert "endless credit" in await child.broken()


@pytest.mark.anyio
async def test_an_upload_where_none_is_taken() -> None:
    """A call with a stream that its method does not read is answered, and so is one without a stream that it reads."""
    async with facing() as child:
        child.says(Call(1, 1, "add", b"\x92\x01\x02", uploads=(1,)))
        failed = await child.answered(Failed)
        assert (failed.kind, failed.text) == ("argument", "it takes no stream where the caller has one")
        child.says(Call(2, 1, "total", b"\x91\xc0"))
        failed = await child.answered(Failed)
        text = "argument 'items' is a stream; call it by an interface that says so"
        assert (failed.kind, failed.text) == ("argument", text)


@pytest.mark.anyio
async def test_an_upload_without_credit() -> None:
    """The items of an argument are counted as those of a result are."""
    async with facing() as child:
        child.says(Call(1, 1, "ignore", b"\x91\xc0", uploads=(1,)))
        assert await child.answered(Credit) == Credit(1, 1, WINDOW)
        child.says(Items(1, 1, (b"\x01",) * WINDOW))
        await child.turns()
        assert not child.broke
        child.says(Items(1, 1, (b"\x01",)))
        assert "without credit" in await child.broken()


@pytest.mark.anyio
async def test_late_answers_are_ignored_and_forged_ones_are_not() -> None:
    """The answer to a call that was given up is by rule nothing; a second one is a breach."""
    async with facing() as child:
        with anyio.move_on_after(0.01):
            await child.peer.call(0, METHODS["add"], (1, 2))
        call, cancel = child.hears()
        assert isinstance(call, Call)
        assert cancel == Cancel(call.call_id)
        child.says(Reply(call.call_id, b"\x03"))
        await child.turns()
        assert not child.broke
        assert not child.peer._given_up
        child.says(Reply(call.call_id, b"\x03"))
        assert "not under way" in await child.broken()


@pytest.mark.anyio
async def test_notifications_press_back() -> None:
    """While notifications wait for a slow method no more is read: the child fills its socket, not the host's memory."""
    async with facing() as child:
        child.offered.open = False
        flood = [Notify(1, "note", b"\x91\xa1x")] * MAX_FRAMES
        sent, idle = 0, 0
        while idle < 50:  # until the socket stays full
            if child.says(*flood):
                sent, idle = sent + MAX_FRAMES, 0
            else:
                idle += 1
            await anyio.lowlevel.checkpoint()
        assert child.peer._notices <= MAX_NOTICES
        assert child.offered.noted <= MAX_NOTICES
        assert not child.broke
        child.offered.open = True
        while child.offered.noted < sent:
            await anyio.lowlevel.checkpoint()
        assert child.peer._notices == 0


@pytest.mark.anyio
async def test_calls_press_back() -> None:
    """A child whose calls are answered, and which does not read, is cut off before that takes much memory."""
    async with facing() as child:
        before, call_id = resident(), 0
        while not child.broke:
            call_id += 1
            child.says(Call(call_id, 7, "nothing", NIL))
            await anyio.lowlevel.checkpoint()
        assert "does not read" in str(child.broke[0])
        assert resident() - before < 32 << 20


@pytest.mark.anyio
async def test_no_more_calls_than_may_be_under_way() -> None:
    """256 calls may wait for their answers, and not one more."""
    async with facing() as child:
        child.says(*[Call(number, 1, "wait", b"\x90") for number in range(1, MAX_UNDER_WAY + 1)])
        await child.turns()
        assert not child.broke
        child.says(Call(MAX_UNDER_WAY + 1, 1, "wait", b"\x90"))
        assert "more than 256 calls" in await child.broken()


# Fuzz.

ids = st.integers(1, 8)
streams = st.integers(0, 2)
payloads = st.sampled_from([NIL, b"\x90", b"\x91\x03", b"\x92\x01\x02", b"\x91\xc0", b"\x91\xa1x", b"\xc1", b""])
methods = st.sampled_from([*METHODS, "missing", "__class__"])
parts = st.lists(
    st.sampled_from([Piece(1, 0, 10), Piece(9, 0, 2**40), Sealed(10), Within(0, 2, 5), Handle("file"), b"x" * 10]),
    max_size=2,
).map(tuple)
hostile_frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(
        Call,
        call_id=st.sampled_from([1, 2, 2, 2, 2]),  # 2 stands for the next number
        target=st.sampled_from([0, 1, 1, 1, 2]),
        method=methods,
        payload=st.none() | payloads,
        parts=parts,
        credit=st.integers(0, 10),
        within=st.integers(0, 3),
        many=st.booleans(),
        uploads=st.sampled_from([(), (), (1,), (2,), (1, 1)]),
    ),
    st.builds(Notify, st.integers(0, 2), methods, st.none() | payloads, parts),
    st.builds(Reply, ids, st.none() | payloads, parts),
    st.builds(Failed, ids, st.sampled_from(["exception", "declared", "refused"]), st.just("Broken")),
    st.builds(Cancel, ids),
    st.builds(Items, ids, streams, st.lists(payloads, max_size=3).map(tuple), parts),
    st.builds(Credit, ids, streams, st.integers(1, 2**20)),
    st.builds(End, ids, streams, st.sampled_from(["", "broke"])),
    st.builds(Release, st.integers(0, 2), st.just((0,))),
    st.builds(Unshare, st.integers(0, 2)),
)
steps = st.lists(
    st.tuples(st.just("says"), st.lists(hostile_frames, min_size=1, max_size=3))
    | st.tuples(st.just("asked"), st.sampled_from(["add", "numbers", "total"]))
    | st.tuples(st.just("forgotten"), st.none()),
    min_size=1,
    max_size=12,
)


class Fuzzed:
    """One peer, what the host asks of it, and what it hears."""

    def __init__(self, peer: AsyncPeer, hostile: SocketChannel) -> None:
        self.peer = peer
        self.hostile = hostile
        self.asked: list[asyncio.Task[None]] = []
        self.last = 0

    async def step(self, kind: str, what: Any) -> None:
        if kind == "asked":
            self.asked.append(asyncio.create_task(self.ask(what)))
        elif kind == "forgotten" and self.asked:
            self.asked.pop(0).cancel()
        elif kind == "says":
            frames = [self.numbered(frame) for frame in what]
            count = sum(isinstance(part, (Sealed, Handle)) for part in getattr(frames[0], "parts", ()))
            self.hostile.send(encode(frames), [2] * count if len(frames) == 1 else ())
        for _ in range(3):
            await asyncio.sleep(0)
        while (received := self.hostile.receive()) is not None:
            received.close()

    def numbered(self, frame: Frame) -> Frame:
        if not isinstance(frame, Call) or frame.call_id == 1:
            return frame
        self.last += 1
        return msgspec.structs.replace(frame, call_id=self.last)

    async def ask(self, name: str) -> None:
        method = METHODS[name]
        arguments: tuple[Any, ...] = {"add": (1, 2), "numbers": (3,), "total": (iter(range(9)),)}[name]
        try:
            if method.kind == "stream":
                async with self.peer.stream(0, method, arguments) as items:
                    async for _ in items:
                        pass
            else:
                await self.peer.call(0, method, arguments)
        except (CallError, PeerProtocolError, ArgumentsUnfit, ValueUnfit):
            return

    def check(self, targets: set[int]) -> None:
        peer = self.peer
        assert set(peer._targets) == targets
        assert len(peer._answering) <= MAX_UNDER_WAY
        assert len(peer._calls) + len(peer._given_up) <= 12
        readers = [reader for incoming in peer._answering.values() for reader in incoming.readers.values()]
        readers += [call.reader for call in peer._calls.values() if call.reader is not None]
        assert all(len(reader.items) <= WINDOW for reader in readers)
        writers = [getattr(incoming, "writer", None) for incoming in peer._answering.values()]
        assert all(writer is None or writer.credit <= 2**20 for writer in writers)


async def fuzz(script: list[tuple[str, Any]]) -> None:
    uncaught: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: uncaught.append(context))
    ours, theirs = control_pair()
    with closing(SocketChannel(ours)) as channel, closing(SocketChannel(theirs)) as hostile:
        broke: list[BaseException] = []
        peer = make_peer(channel, AsyncioLoop(), broke, Offered())
        peer.start()
        fuzzed = Fuzzed(peer, hostile)
        targets = set(peer._targets)
        for kind, what in script:
            await fuzzed.step(kind, what)
            fuzzed.check(targets)
            if broke:
                assert isinstance(broke[0], PeerProtocolError)
                assert not peer._calls
                break
        for task in fuzzed.asked:
            task.cancel()
        await asyncio.gather(*fuzzed.asked, return_exceptions=True)
        await peer.close()
        assert peer.ended is not None
        peer.store.close()
    assert uncaught == []


@settings(max_examples=200, deadline=None)
@given(steps)
def test_whatever_a_child_says_is_taken_or_its_last(script: list[tuple[str, Any]]) -> None:
    """Any frames in any order: the tables stay bounded, nothing is raised but a breach, no fd stays open."""
    before = len(open_fds())
    asyncio.run(fuzz(script))
    assert len(open_fds()) == before
