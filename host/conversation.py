"""The calls of one host and its child, from ready on: what they go through, and what becomes of those that fail."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Protocol

import sniffio

from ..ipc.channel.base import Channel, EndOfChannel
from ..ipc.errors import ArgumentError, InterfaceMismatch
from ..ipc.frames import Log
from ..ipc.interface import declared
from ..ipc.interface.compare import Sides
from ..ipc.interface.fitting import misfit
from ..ipc.memory.buffer import SharedBuffer
from ..ipc.messages import Ready
from ..ipc.peer.asynchronous import AsyncPeer
from ..ipc.peer.base import Peer
from ..ipc.peer.loops import Start, current_loop
from ..ipc.peer.records import Answers, Outgoing, PeerUse
from ..ipc.peer.store import Store
from .calls import HostSide, untyped
from .config.process_type import Process
from .ended import Ended
from .judge import Judge
from .log_records import ChildLog, levels
from .proxy import Proxy


class Default(Enum):
    """Stands for a value of the process type."""

    DEFAULT = "default"


DEFAULT = Default.DEFAULT

FOR_EVER = 1e9
"""Seconds from which on a timeout is none: it would not fit a frame."""

SIDES = Sides("the interface", "the plugin")


class Owner(Protocol):
    """What a conversation needs of its host."""

    process: Process
    child_log: ChildLog

    def kill(self, why: str) -> None:
        """Kill the child."""
        ...

    def took_refusals(self) -> tuple[str, ...]:
        """Return the files that the seal has refused since the last call."""
        ...

    async def hung_up(self) -> Ended:
        """The channel is closed: return how the child ended, once it has."""
        ...


class Conversation:
    """Calls in both directions. There is a peer from `start` on."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._peer: AsyncPeer | None = None
        self._description = b""

    def __repr__(self) -> str:
        return repr(self._owner)  # which a proxy shows

    def start(self, channel: Channel, targets: Mapping[int, Answers], start_soon: Start, ready: Ready) -> None:
        """The child is *ready*; calls flow over *channel*. *targets* are what it may call.

        If it says that it answers several calls at the same time, each must end in time that is given up.
        """
        self._description = ready.description
        process = self._owner.process
        self.judge = Judge(process, self._owner.kill)
        self._peer = AsyncPeer(
            channel,
            HostSide(process.name, self._owner.took_refusals, self.proxy),
            Store(process.max_payload, arena_limit=process.shared_memory),
            targets,
            loop=current_loop(sniffio.current_async_library(), start_soon),
            broke=self.judge.broke,
            late=self.judge.late,
            explain=self._explain,
            grace=process.cancel_grace,
            concurrent=ready.concurrent,
        )
        self._peer.on(Log, self._owner.child_log.take)
        self._peer.start()

    def ready_peer(self, method: str) -> AsyncPeer:
        """Return what a call of *method* goes through. `RuntimeError` before the child is ready."""
        if self._peer is None:
            raise RuntimeError(f"could not call {method!r}: the child is not ready; enter the host with 'async with'")
        return self._peer

    @property
    def peer(self) -> Peer | None:
        """What calls go through, of whatever kind; None before the child is ready."""
        return self._peer

    @property
    def use(self) -> PeerUse | None:
        """What was said so far; None before the child is ready."""
        return self.peer.use if self.peer is not None else None

    def reserve(self, length: int) -> SharedBuffer | None:
        """See `ProcessHost.reserve`."""
        if self.peer is None:
            raise RuntimeError("could not reserve memory: the child is not ready")
        return self.peer.reserve(length)

    def trim(self) -> None:
        """See `ProcessHost.trim`."""
        if self.peer is not None:
            self.peer.trim()

    async def call(self, method: str, arguments: tuple[Any, ...], returns: Any, timeout: float | Default | None) -> Any:
        """See `ProcessHost.call`."""
        return await self.ready_peer(method).call(0, untyped(method, returns), arguments, self._seconds(timeout))

    async def map(
        self,
        method: str,
        calls: Iterable[tuple[Any, ...]],
        returns: Any,
        chunksize: int,
        timeout: float | Default | None,
    ) -> AsyncGenerator[Any]:
        """See `ProcessHost.map`. The next chunk is sent before the results of the last one are given out."""
        peer, seconds, called = self.ready_peer(method), self._seconds(timeout), untyped(method, returns)
        under_way: deque[Outgoing] = deque()
        try:
            for chunk in chunks(method, calls, chunksize):
                under_way.append(await peer.begin(0, called, chunk, seconds, many=True))
                if len(under_way) > 1:
                    for result in await peer.finish(under_way.popleft()):
                        yield result
            while under_way:
                for result in await peer.finish(under_way.popleft()):
                    yield result
        finally:
            for call in under_way:
                peer.give_up(call)

    def proxy(self, interface: type, target: int, timeout: float | Default | None = DEFAULT) -> Proxy:
        """Return the methods of *interface* as calls of the child's *target*."""
        if target == 0:
            self.check(interface)
        return Proxy(self, interface, target, self._seconds(timeout))

    def check(self, interface: type) -> None:
        """Raise `InterfaceMismatch` if the plugin does not fit *interface*, as far as it is known by now."""
        declared(interface)  # `TypeError` if it is none
        if difference := misfit(interface, self._description, SIDES):
            raise InterfaceMismatch(f"{self._owner.process.name} does not fit {interface.__name__}: {difference}")

    def _seconds(self, timeout: float | Default | None) -> float | None:
        return seconds(timeout, self._owner.process)

    def set_log_level(self, level: int | str, logger: str) -> None:
        """See `ProcessHost.set_log_level`."""
        frame = levels(level, logger)
        if self.peer is None:
            raise RuntimeError("could not set a level: the child is not ready")
        self.peer.post(frame)

    def cut(self) -> None:
        """The child is killed: nothing more is sent, and all that wait learn how it ended."""
        if self._peer is not None:
            self._peer.end(EndOfChannel())

    async def shut_down(self) -> None:
        """Ask the child to end once it has answered what it was asked before."""
        if self._peer is not None:
            await self._peer.shut_down()

    async def close(self) -> None:
        """End all calls and services."""
        if self._peer is not None:
            await self._peer.close()
            self._peer.store.close()

    async def _explain(self, method: str, error: Exception) -> Exception:
        """Return what the caller of *method* gets to see of *error*."""
        ended = await self._owner.hung_up() if isinstance(error, EndOfChannel) else None
        return self.judge.explain(method, error, ended)


def seconds(timeout: float | Default | None, process: Process) -> float | None:
    """Return *timeout* of a call of *process* in seconds, 0 at least, None for none. `TypeError` if it is no number."""
    if isinstance(timeout, Default):
        timeout = process.call_timeout
    if timeout is not None and not isinstance(timeout, (int, float)):
        raise TypeError(f"expected a timeout in seconds, or None for none, got {timeout!r}")
    return None if timeout is None or timeout > FOR_EVER else max(0.0, timeout)


def chunks(method: str, calls: Iterable[tuple[Any, ...]], size: int) -> Iterator[tuple[tuple[Any, ...], ...]]:
    """Yield the *calls* of *method* in tuples of *size*; the last may be smaller.

    `ArgumentError` if one of them is no tuple: a list or a text would be taken for several arguments. `ValueError` if
    *size* is below 1.
    """
    if size < 1:
        raise ValueError(f"could not call {method!r}: expected a chunksize of 1 or more, got {size}")
    rest = iter(calls)
    while chunk := tuple(itertools.islice(rest, size)):
        for call in chunk:
            if type(call) is not tuple:
                kind = type(call).__name__
                raise ArgumentError(
                    f"could not call {method!r}: map takes a tuple of arguments for each call, such as "
                    f"(x,), and got {kind}"
                )
        yield chunk
