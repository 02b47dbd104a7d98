"""`SyncHost`: one sealed child for programs without an event loop, for the REPL and for notebooks.

    with SyncHost(Process(plugin="plugins/thumbnailer.py:Thumbnailer")) as host:
        thumbnail = host.call("thumbnail", data, 256)

A thread of its own runs the event loop that launches and watches the child. Calls do not go through it: each is sent,
and its answer read, by the thread that makes it, which takes a tenth of the time.
"""

from __future__ import annotations

import itertools
import logging
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import anyio
import anyio.from_thread

from ..ipc.channel.base import Channel, EndOfChannel
from ..ipc.errors import ArgumentError, PeerProtocolError, ResultError
from ..ipc.frames import Log
from ..ipc.interface import ArgumentsUnfit, Declared, ValueUnfit, declared
from ..ipc.messages import Ready
from ..ipc.peer.loops import Start
from ..ipc.peer.records import Answers, Outgoing
from ..ipc.peer.shared import SharedPeer
from ..ipc.peer.store import Store
from .calls import HostSide, untyped
from .config.process_type import Process
from .conversation import DEFAULT, Conversation, Default, chunks
from .ended import Ended
from .errors import ChildEnded
from .log_records import levels
from .process_host import ProcessHost
from .proxy import bind

log = logging.getLogger("belljar.host")

T = TypeVar("T")

IDLE = 0.05
"""Seconds without a call after which a thread of ours reads the channel, for what the child says of itself."""

_EXPLAINED = (EndOfChannel, PeerProtocolError, ArgumentsUnfit, ValueUnfit)


class _HandedOver(Conversation):
    """Where calls would flow in an event loop: the channel is handed to the threads that call instead."""

    def __init__(self, owner: ProcessHost) -> None:
        super().__init__(owner)
        self.channel: Channel | None = None
        self.targets: Mapping[int, Answers] = {}
        self.peer: SharedPeer | None = None
        self.concurrent = False

    def start(self, channel: Channel, targets: Mapping[int, Answers], start_soon: Start, ready: Ready) -> None:
        """Keep *channel* for the threads."""
        self.channel, self.targets, self.concurrent = channel, targets, ready.concurrent
        self._description = ready.description

    async def shut_down(self) -> None:
        """Ask the child to end once it has answered what it was asked before."""
        if self.peer is not None:
            self.peer.shut_down()

    async def close(self) -> None:
        """The threads have gone by now."""
        if self.peer is not None:
            self.peer.hear_out()


class SyncHost:
    """A sealed child for code without an event loop; use it with ``with``, or call `start` and `close`.

    Its calls may be made from several threads at once. Services answer in the thread of a call that waits, or in one of
    ours while none does; they are plain functions. In an interface for it, declare methods with ``def``: calls return
    results, and streams are iterators.
    """

    def __init__(self, process: Process, *, services: Mapping[type, object] | None = None) -> None:
        self._process = process
        self._services = services
        self._host: ProcessHost | None = None
        self._peer: SharedPeer | None = None
        self._handed: _HandedOver | None = None
        self._stopping = threading.Event()
        self._busy = False
        self._warned: set[int] = set()
        self._thread: threading.Thread | None = None
        self._pump_thread: threading.Thread | None = None
        self._ended: Future[Ended] = Future()
        self._portal: anyio.from_thread.BlockingPortal | None = None
        self._stop: anyio.Event | None = None
        self._concurrent = False

    def __repr__(self) -> str:
        return f"<SyncHost of {self._host!r}>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.kill("the block failed")
        self.close()

    def start(self) -> Self:
        """Launch the child and wait until it is ready. Raises as `ProcessHost` does on entering."""
        if self._thread is not None:
            raise RuntimeError("a SyncHost launches once; make another one")
        launched: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._supervise, args=(launched,), name=f"belljar {self._process.name}", daemon=True
        )
        self._thread.start()
        try:
            launched.result()
        except BaseException:
            self.close()
            raise
        self._pump_thread = threading.Thread(target=self._pump, name=f"belljar {self._process.name} pump", daemon=True)
        self._pump_thread.start()
        return self

    @property
    def host(self) -> ProcessHost:
        """The host that launched the child, for what it knows: ``protection``, ``state``, ``timeline`` and so on."""
        if self._host is None:
            raise RuntimeError("the child is not launched; enter the host with 'with', or call start()")
        return self._host

    def _supervise(self, launched: Future[None]) -> None:
        """Run the event loop of this host: launch, watch, shut down."""
        try:
            anyio.run(self._live, launched)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
            if not launched.done():
                launched.set_exception(error)
            elif not self._ended.done():
                self._ended.set_exception(error)

    async def _live(self, launched: Future[None]) -> None:
        host = ProcessHost(self._process, services=self._services)
        self._handed = handed = host.converse_by(_HandedOver)
        self._stop = anyio.Event()
        async with anyio.from_thread.BlockingPortal() as self._portal, host:
            self._host = host
            self._peer = handed.peer = self._make_peer(host, handed)
            launched.set_result(None)
            await self._stop.wait()
            await host.shutdown()
            self._ended.set_result(await host.wait())

    def _make_peer(self, host: ProcessHost, handed: _HandedOver) -> SharedPeer:
        assert handed.channel is not None
        process = host.process
        store = Store(process.max_payload, arena_limit=process.shared_memory)
        side = HostSide(process.name, host.took_refusals, self._proxy_of)
        self._concurrent = handed.concurrent
        peer = SharedPeer(handed.channel, side, store, handed.targets)
        peer.on(Log, host.child_log.take)
        return peer

    # Calls.

    def call(self, method: str, *arguments: Any, returns: Any = Any, timeout: float | Default | None = DEFAULT) -> Any:
        """Call *method* of the plugin and return its result. See `ProcessHost.call`."""
        return self.invoke(0, untyped(method, returns), arguments, self._seconds(timeout))

    def proxy(self, interface: Callable[..., T], *, timeout: float | Default | None = DEFAULT) -> T:
        """Return an object with the methods of *interface*, which declares them with ``def``. See `ProcessHost.proxy`."""
        if self._handed is not None:
            self._handed.check(cast(type, interface))
        return cast(T, SyncProxy(self, cast(type, interface), 0, self._seconds(timeout)))

    def map(
        self,
        method: str,
        calls: Iterable[tuple[Any, ...]],
        *,
        returns: Any = Any,
        chunksize: int = 64,
        timeout: float | Default | None = DEFAULT,
    ) -> Iterator[Any]:
        """Yield the results of many calls of *method*, in order. See `ProcessHost.map`."""
        called, seconds, peer = untyped(method, returns), self._seconds(timeout), self._ready_peer(method)
        under_way: deque[Outgoing] = deque()
        try:
            for chunk in itertools.chain(chunks(calls, chunksize), [None]):
                if chunk is not None:
                    self._busy = True
                    under_way.append(peer.call_many(0, called, chunk, seconds))
                while under_way and (chunk is None or len(under_way) > 1):
                    yield from peer.finish(under_way.popleft())
        except _EXPLAINED as error:
            raise self._explained(method, error) from error.__cause__
        finally:
            for call in under_way:
                peer.give_up(call)

    def invoke(self, target: int, method: Declared, arguments: tuple[Any, ...], timeout: float | None) -> Any:
        """Call *method* of *target*, with arguments that fit it."""
        self._busy = True
        try:
            peer = self._peer or self._ready_peer(method.name)
            if method.kind == "notify":
                return peer.notify(target, method, arguments)
            result = peer.call(target, method, arguments, timeout)
            return self._explaining(method.name, result) if method.kind == "stream" else result
        except _EXPLAINED as error:
            raise self._explained(method.name, error) from error.__cause__

    def _explaining(self, method: str, items: Any) -> Iterator[Any]:
        with items:
            try:
                for item in items:
                    self._busy = True
                    yield item
            except _EXPLAINED as error:
                raise self._explained(method, error) from error.__cause__

    def _proxy_of(self, interface: type, number: int) -> SyncProxy:
        return SyncProxy(self, interface, number, self._process.call_timeout)

    def _ready_peer(self, method: str) -> SharedPeer:
        if self._peer is None:
            raise RuntimeError(f"could not call {method!r}: the child is not ready; enter the host with 'with'")
        return self._peer

    def _seconds(self, timeout: float | Default | None) -> float | None:
        return self._process.call_timeout if isinstance(timeout, Default) else timeout

    def _explained(self, method: str, error: Exception) -> Exception:
        """Return what the caller of *method* gets to see of *error*."""
        if isinstance(error, EndOfChannel):
            ended = self._hung_up()
            return ChildEnded(f"{self._process.name} ended during {method!r}: {ended}", ended)
        if isinstance(error, ArgumentsUnfit):
            return ArgumentError(f"could not call {method!r}: {error}")
        if isinstance(error, ValueUnfit):
            return ResultError(f"the result of {method!r} does not fit: {error}")
        self.kill(f"it broke the protocol: {error}")
        return error

    def set_log_level(self, level: int | str, logger: str = "") -> None:
        """Set the level of a *logger* of the child. See `ProcessHost.set_log_level`."""
        frame = levels(level, logger)
        self._ready_peer("set_log_level").post(frame)

    # Its end.

    def _hung_up(self) -> Ended:
        if self._ended.done():
            return self._ended.result()
        assert self._portal is not None
        try:
            return self._portal.call(self.host.hung_up)
        except RuntimeError:  # the loop has just ended
            return self._ended.result()

    def kill(self, why: str = "the host killed it") -> None:
        """Kill the child by its pidfd, at once. From any thread."""
        if self._host is not None and not self._ended.done():
            self._host.kill(why)

    def close(self) -> Ended | None:
        """Ask the child to end, kill it if it does not, and leave nothing. Return how it ended. Idempotent."""
        self._stopping.set()
        if self._pump_thread is not None:
            self._pump_thread.join()
        if self._portal is not None and self._stop is not None and self._thread is not None and self._thread.is_alive():
            self._portal.start_task_soon(self._stop.set)
        if self._thread is not None:
            self._thread.join()
        if self._peer is not None:
            self._peer.end(EndOfChannel())
            self._peer.store.close()
        return self._ended.result() if self._ended.done() and self._ended.exception() is None else None

    # What the child says while nobody calls.

    def _pump(self) -> None:
        """Answer the child while no thread calls it. While one does, it reads for itself, and this keeps away."""
        peer = self._peer
        assert peer is not None
        poll = select.poll()
        poll.register(peer.channel.fileno(), select.POLLIN)
        while not self._stopping.is_set() and peer.ended is None:
            if self._busy:
                self._busy = False
                self._stopping.wait(IDLE)
            elif poll.poll(IDLE * 1000 * 4) and not self._busy:
                peer.pump()
            self._look_for_late(peer)

    def _look_for_late(self, peer: SharedPeer) -> None:
        process = self.host.process
        late = peer.overdue(time.monotonic(), process.cancel_grace, concurrent=self._concurrent)
        if late is None:
            return
        text = f"it did not end {late.declared.name!r}, which was given up, within {process.cancel_grace:g} s"
        if process.unresponsive == "kill":
            self.kill(text)
        elif late.call_id not in self._warned:
            self._warned.add(late.call_id)
            log.warning("%s: %s", process.name, text)


class SyncProxy:
    """The methods of *interface* as calls of *target* of one child; *timeout* in seconds for each call."""

    def __init__(self, host: SyncHost, interface: type, target: int, timeout: float | None) -> None:
        self._host = host
        self._interface = interface
        self._target = target
        self._timeout = timeout
        self._methods = declared(interface)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = self._methods.get(name)
        if method is None:
            raise AttributeError(f"{self._interface.__name__} has no method {name!r}")
        host, target, timeout = self._host, self._target, self._timeout

        def call(*arguments: Any, **keywords: Any) -> Any:
            return host.invoke(target, method, bind(method, arguments, keywords), timeout)

        self.__dict__[name] = call
        return call
