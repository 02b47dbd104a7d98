"""What a `ProcessHost` talks to its child through, on asyncio, with a real socket, arenas and fds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from belljar.host.conversation import Conversation
from belljar.host.services import Services
from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.datagram import MAX_DATAGRAM, control_pair
from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.frames import MAX_FRAMES
from belljar.ipc.messages import Ready
from belljar.ipc.peer.asynchronous import MAX_NOTICES, MAX_UNHEARD, UNHEARD_SPACE, AsyncPeer
from belljar.ipc.peer.outbox import MAX_UNREAD
from belljar.ipc.peer.records import MAX_UNDER_WAY, WINDOW

from ...ipc.peer.ends import Owner
from ..everything import Awaiting, Everything, Plain
from ..logged import Log, looked_at
from ..script import FROM_CHILD, Said, drain, scripts, steps_of
from ..target import Finding, Target

TURNS = 4
"""Turns of the loop after which what came is worked on."""

_loop = asyncio.new_event_loop()


class Host:
    """One host, for one input."""

    def __init__(self, sock: socket.socket) -> None:
        self.owner = Owner(max_payload=1 << 20, call_timeout=None)
        conversation = Conversation(self.owner)
        self.channel = SocketChannel(sock)
        targets = Services({Everything: Awaiting()}).targets
        conversation.start(self.channel, targets, asyncio.get_running_loop().create_task, Ready((), {}))
        self.conversation = conversation
        self.peer: AsyncPeer = conversation.ready_peer("any")
        self.child = conversation.proxy(Everything, 0)
        self.tasks: list[asyncio.Task[Any]] = []
        self.streams: list[Any] = []
        self.is_reading = False
        self.acts: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "add": lambda: self.child.add(1, 2),
            "echo": lambda: self.child.echo(b"x" * 6000),
            "large": lambda: self.child.echo(b"x" * (1 << 20)),
            "total": lambda: self.child.total(iter(range(1000))),
            "watched": lambda: self.child.watched(Progress()),
            "note": lambda: self.child.note("x"),
            "read": self._read,
        }
        self.peer.store.missed(1 << 20, self.peer.store.in_use)

    async def act(self, name: str) -> None:
        """Do what a script says."""
        if name in self.acts:
            self.tasks.append(asyncio.ensure_future(self.acts[name]()))
        elif name == "numbers":
            self.streams.append(self.child.numbers(5))
            await self.act("read")
        elif name == "give up" and self.tasks:
            self.tasks[0].cancel()
        elif name == "trim":
            self.conversation.trim()
        await turn()

    async def _read(self) -> None:
        for stream in self.streams[:1]:
            if not self.is_reading:  # one task at a time
                self.is_reading = True
                try:
                    await anext(stream, None)
                finally:
                    self.is_reading = False

    def check(self) -> None:
        """What is remembered is bounded, whatever was said."""
        peer = self.peer
        assert len(peer._answering) <= MAX_UNDER_WAY
        assert len(peer._calls) + len(peer._given_up) <= MAX_UNDER_WAY
        assert peer.queued <= MAX_UNREAD + 5 * MAX_DATAGRAM
        assert peer._notices <= MAX_NOTICES
        assert peer._unheard_size <= MAX_UNHEARD + 5 * MAX_DATAGRAM + MAX_FRAMES * UNHEARD_SPACE
        readers = [reader for each in peer._answering.values() for reader in each.readers.values()]
        readers += [call.reader for call in peer._calls.values() if call.reader is not None]
        assert all(len(reader.items) <= WINDOW for reader in readers)

    async def close(self, log: Log) -> None:
        """End it, and find what its tasks failed with."""
        for stream in self.streams:
            await stream.aclose()
        await self.conversation.close()
        self.channel.close()
        for error in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                log.add(error)


class Progress(Plain):
    """Passed by reference."""

    def at(self, step: int) -> int:
        return step


async def turn() -> None:
    """Let the loop turn."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def _take(data: bytes, log: Log) -> str:
    ours, theirs = control_pair()
    with theirs:
        theirs.setblocking(False)
        host = Host(ours)
        try:
            is_deaf = False
            for step in steps_of(data):
                if isinstance(step, Said):
                    step.send(theirs)
                else:
                    is_deaf = is_deaf or step == "drain"
                    await host.act(step)
                if not is_deaf:
                    drain(theirs)
                host.check()
            theirs.shutdown(socket.SHUT_WR)
            await turn()
        finally:
            await host.close(log)
        drain(theirs)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return host.owner.why


def take(data: bytes) -> None:
    """Let a host hear a script out. It must kill its child for a breach, and say why, or go on."""
    with looked_at() as log:
        _loop.set_exception_handler(lambda loop, context: log.add(context.get("exception") or Finding(str(context))))
        why = _loop.run_until_complete(_take(data, log))
    if why:
        assert why.startswith("it broke the protocol: ")
        raise PeerProtocolError(why)


TARGET = Target(lambda: scripts(FROM_CHILD, 1), take, (PeerProtocolError,))
