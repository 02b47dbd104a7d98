"""What a `SyncHost` talks to its child through: the blocking engine, against a child."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from belljar.host.calls import HostSide
from belljar.host.services import Services
from belljar.ipc.channel.base import EndOfChannel
from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.datagram import MAX_DATAGRAM
from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.interface import declared
from belljar.ipc.peer.outbox import MAX_UNREAD
from belljar.ipc.peer.records import MAX_UNDER_WAY, Outgoing
from belljar.ipc.peer.shared import SharedPeer
from belljar.ipc.peer.store import Store

from ..everything import Everything, Plain
from ..logged import EXPECTED, looked_at
from ..script import FROM_CHILD, scripts
from ..target import Target
from ..waiting import ScriptedChannel

METHODS = declared(Everything)
SOON = 1e-3
"""Seconds for what the other side has said already."""


class Progress(Plain):
    """Passed by reference."""

    def at(self, step: int) -> int:
        return step


class Host:
    """One host, for one input."""

    def __init__(self, channel: SocketChannel) -> None:
        side = HostSide("fuzzed", lambda: (), lambda interface, number: Proxy(self.peer, number))
        self.peer = SharedPeer(
            channel, side, Store(1 << 20, arena_limit=64 << 20), Services({Everything: Plain()}).targets
        )
        self.peer.store.missed(1 << 20, self.peer.store.in_use)
        self.streams: list[Any] = []
        self.begun: list[Outgoing] = []
        self.acts: dict[str, Callable[[], object]] = {
            "turn": self.peer.pump,
            "add": lambda: self.peer.call(0, METHODS["add"], (1, 2), SOON),
            "echo": lambda: self.peer.call(0, METHODS["echo"], (b"x" * 6000,), SOON),
            "large": lambda: self.peer.call(0, METHODS["echo"], (b"x" * (1 << 20),), SOON),
            "total": lambda: self.peer.call(0, METHODS["total"], (iter(range(1000)),), SOON),
            "watched": lambda: self.peer.call(0, METHODS["watched"], (Progress(),), SOON),
            "note": lambda: self.peer.notify(0, METHODS["note"], ("x",)),
            "numbers": lambda: self.streams.append(self.peer.call(0, METHODS["numbers"], (5,), SOON)),
            "read": lambda: [next(stream, None) for stream in self.streams[:1]],
            "give up": lambda: [stream.close() for stream in self.streams],
            "trim": self.peer.trim,
        }

    def act(self, name: str) -> None:
        """Do what a script says."""
        with suppress(*EXPECTED):
            self.acts.get(name, lambda: None)()

    def check(self) -> None:
        """What is remembered is bounded, whatever was said."""
        assert len(self.peer._answering) <= MAX_UNDER_WAY
        assert len(self.peer._calls) + len(self.peer._given_up) <= MAX_UNDER_WAY + 1
        assert self.peer.queued <= MAX_UNREAD + 5 * MAX_DATAGRAM


class Proxy:
    """An object of the child's, of which a service calls a method."""

    def __init__(self, peer: SharedPeer, number: int) -> None:
        self._peer, self._number = peer, number

    def at(self, step: int) -> object:
        from ..everything import Progress

        return self._peer.call(self._number, declared(Progress)["at"], (step,), SOON)


def take(data: bytes) -> None:
    """Let a host hear a script out; a breach ends its peer with the reason."""
    with looked_at():
        ended = _hear(data)
    if not isinstance(ended, EndOfChannel):
        assert isinstance(ended, PeerProtocolError)
        raise ended


def _hear(data: bytes) -> BaseException | None:
    channel = ScriptedChannel(data)
    host = Host(channel)
    try:
        while channel.steps and host.peer.ended is None:
            host.act(channel.go_on())
            host.check()
        channel.other.shutdown(socket.SHUT_WR)
        host.act("turn")
        host.check()
    finally:
        for stream in host.streams:
            stream.close()
        host.peer.close()
        channel.close()
    return host.peer.ended


TARGET = Target(lambda: scripts(FROM_CHILD, 1), take, (PeerProtocolError,))
