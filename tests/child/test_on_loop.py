"""The peer of a child on a loop, frame by frame: cancellation, shutdown and the end of the channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import msgspec
import pytest

from belljar.child.dispatch import plugin_answers
from belljar.child.on_loop import make_peer
from belljar.child.refused import RefusedImports
from belljar.child.services import Services
from belljar.ipc.channel.base import EndOfChannel
from belljar.ipc.channel.in_memory import ROOM, MemoryChannel, memory_pair
from belljar.ipc.frames import (
    Call,
    Cancel,
    Failed,
    Frame,
    Notify,
    Reply,
    Shutdown,
    decode_from_child,
    encode,
)
from belljar.ipc.interface import notify


class Waits:
    """Some of its methods wait for others."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.notices: list[str] = []

    async def wait(self) -> str:
        await self.go.wait()
        return "waited"

    async def release(self) -> None:
        self.go.set()

    async def chunk(self, size: int) -> bytes:
        return bytes(size)

    async def count(self) -> AsyncIterator[int]:
        for number in range(10**6):
            yield number

    @notify
    async def note(self, text: str) -> None:
        self.notices.append(text)
        await self.go.wait()
        self.notices.append("done")


class Served:
    """A plugin that is served in a thread, and the host's end of its channel."""

    def __init__(self, channel: MemoryChannel, plugin: Waits, ended: Future[None]) -> None:
        self.channel = channel
        self.plugin = plugin
        self.ended = ended

    def say(self, *frames: Frame) -> None:
        """Send *frames* in one datagram."""
        assert self.channel.wait_send(encode(frames), (), 5)

    def hear(self) -> list[Frame]:
        """Return the next frames; none at the end."""
        try:
            received = self.channel.wait_receive(5)
        except EndOfChannel:
            return []
        assert received is not None
        return list(decode_from_child(received.data))


@contextmanager
def served() -> Iterator[Served]:
    """Serve a plugin until the block is left."""
    ours, theirs = memory_pair()
    plugin = Waits()

    async def serve() -> None:
        answers = plugin_answers(plugin, on_loop=True)
        peer = make_peer(theirs, answers, RefusedImports(), Services(()), 1 << 20)
        try:
            await peer.serve()
        finally:
            await peer.close()
            theirs.close()

    with ThreadPoolExecutor(1) as executor:
        ended = executor.submit(asyncio.run, serve())
        try:
            yield Served(ours, plugin, ended)
        finally:
            ours.close()
            with suppress(EndOfChannel):
                ended.result(5)


def call(number: int, method: str, *arguments: object, credit: int = 0) -> Call:
    """Return a call of the plugin."""
    return Call(number, 0, method, msgspec.msgpack.encode(arguments), credit=credit)


def test_a_call_that_is_cancelled_before_it_began_is_answered() -> None:
    """Else the host would wait for the answer, and then kill a child that has done nothing wrong."""
    with served() as child:
        child.say(call(1, "wait"), Cancel(1))
        [failed] = child.hear()
        assert isinstance(failed, Failed)
        assert (failed.call_id, failed.kind) == (1, "cancelled")


def test_shutdown_lets_calls_and_notifications_finish() -> None:
    """What was asked before is answered; a stream, which nobody reads any more, is not."""
    with served() as child:
        child.say(call(1, "wait"), call(2, "count", credit=1), Notify(0, "note", b"\x91\xa1a"), Shutdown())
        heard: list[Frame] = []
        while not (heard and isinstance(heard[-1], Failed)):  # perhaps after an item
            heard += child.hear()
        assert (heard[-1].call_id, heard[-1].kind) == (2, "cancelled")
        assert not child.ended.done()
        child.say(call(3, "release"))
        heard = [*child.hear(), *child.hear()]
        assert {frame.call_id for frame in heard if isinstance(frame, Reply)} == {1, 3}
        assert (child.hear(), child.ended.result(5), child.plugin.notices) == ([], None, ["a", "done"])


def test_shutdown_waits_until_all_answers_are_sent() -> None:
    """They may be more than the channel takes at once."""
    size = 32 << 10
    count = 2 * ROOM // size
    with served() as child:
        child.say(*(call(number, "chunk", size) for number in range(1, count + 1)), Shutdown())
        heard: list[Frame] = []
        while frames := child.hear():
            heard += frames
        assert len(heard) == count
        assert child.ended.result(5) is None


def test_the_end_of_the_channel_ends_it_whatever_runs() -> None:
    """A host that is gone waits for nothing."""
    with served() as child:
        child.say(call(1, "wait"))
        child.channel.close()
        with pytest.raises(EndOfChannel):
            child.ended.result(5)
