"""`SyncHost`: one sealed child for programs without an event loop, for the REPL and for notebooks.

    with SyncHost(Process(plugin="plugins/thumbnailer.py:Thumbnailer")) as host:
        thumbnail = host.call("thumbnail", data, 256)

A thread of its own runs the event loop that launches and watches the child. Calls do not go through it: each is sent,
and its answer read, by the thread that makes it, which takes a tenth of the time. A second thread (`Pump`) reads while
no thread calls.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar, cast

from ..ipc import interrupts
from ..ipc.channel.base import EndOfChannel
from ..ipc.interface import Declared
from ..ipc.memory.buffer import SharedBuffer
from ..ipc.peer.records import EXPLAINED, Outgoing, PeerUse
from ..ipc.peer.shared import SharedPeer, check_plain
from ..sandbox.protection import Protection
from .calls import untyped
from .config.process_type import Process, expect_process
from .conversation import DEFAULT, Default, chunks, seconds
from .ended import Ended
from .handed_over import HandedOver
from .plan.at_seal import AtSeal
from .plan.compare import StepReport
from .process_host import ProcessHost
from .proxy import Methods, bind
from .services import Services
from .state import State
from .sync_stream import SyncStream

T = TypeVar("T")

NOT_READY = "the child is not ready; enter the host with 'with', or call start()"
FORKED = "its child belongs to the process that this one was forked from; make another SyncHost here"

_hosts: weakref.WeakSet[SyncHost] = weakref.WeakSet()


class SyncHost:
    """A sealed child for code without an event loop; use it with ``with``, or call `start` and `close`.

    Its calls may be made from several threads at once. Services are plain functions. They answer in the thread of any
    call that waits, or in one of ours, and may call the child in turn. In an interface for it, declare methods with
    ``def``: calls return results, and streams are iterators.

    A program that ends without `close` kills its child. In a process that is forked, the host is of no use.

    Raises:
        TypeError: as `Services` does, or a service is asynchronous.
    """

    def __init__(self, process: Process, *, services: Mapping[type, object] | None = None) -> None:
        expect_process(process)
        for answers in Services(services or {}).targets.values():
            check_plain(answers)
        self._process = process
        self._services = services
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None
        self._host: ProcessHost | None = None
        self._calls: HandedOver | None = None
        self._is_closing = False
        self._why_not = NOT_READY
        self._ended: Future[Ended] = Future()

    def __repr__(self) -> str:
        pid = None if self._host is None else self._host.child_pid
        return f"<SyncHost {self._process.name} {self.state.name.lower()} child_pid={pid}>"

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
        launched: Future[HandedOver] = Future()
        name = f"belljar {self._process.name}"
        self._thread = threading.Thread(target=self._supervise, args=(launched,), name=name, daemon=True)
        self._loop = asyncio.new_event_loop()
        _hosts.add(self)
        try:
            self._thread.start()
            launched.result().pump.start()
        except BaseException:
            self.close()
            raise
        return self

    @property
    def host(self) -> ProcessHost:
        """The host that launches the child. RuntimeError before the launch, as from all below that it knows."""
        if self._host is None:
            raise RuntimeError(self._why_not)
        return self._host

    @property
    def state(self) -> State:
        """The state of the child; it never goes back. In a fork that of a child that is not there: ENDED."""
        if self._host is None:
            return State.ENDED if self._why_not == FORKED else State.CREATED
        return self._host.state

    @property
    def process(self) -> Process:
        """The process type; from the launch on, with absolute paths and the backend that was chosen."""
        return self._process if self._host is None else self._host.process

    @property
    def protection(self) -> Protection | None:
        """What is enforced on the child, as read from outside in stage 8; None before."""
        return self.host.protection

    @property
    def timeline(self) -> dict[str, float]:
        """Milliseconds of each stage by name."""
        return self.host.timeline

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the plugin's public methods, in the child's words. See `ProcessHost`."""
        return self.host.methods

    @property
    def early_init(self) -> Mapping[str, StepReport]:
        """How each early-init step went and what it left, by name. See `ProcessHost`."""
        return self.host.early_init

    @property
    def at_seal(self) -> AtSeal | None:
        """What early init has left at the seal. See `ProcessHost.at_seal`."""
        return self.host.at_seal

    @property
    def child_pid(self) -> int | None:
        """The child's pid here, as the kernel's credentials gave it; None before the hello."""
        return self.host.child_pid

    @property
    def launched_pid(self) -> int | None:
        """The pid to wait for, as its waiter sees it; nobody but the waiter can use it."""
        return self.host.launched_pid

    @property
    def claimed_pid(self) -> int | None:
        """The pid that the child claimed in its hello; for logs, never used."""
        return self.host.claimed_pid

    def _supervise(self, launched: Future[HandedOver]) -> None:
        """Run the event loop, in a thread of its own."""
        error: BaseException = RuntimeError("it was closed while it was launched")
        try:
            with asyncio.Runner(loop_factory=lambda: cast(asyncio.AbstractEventLoop, self._loop)) as runner:
                runner.run(self._live(launched))
        except asyncio.CancelledError:
            pass
        except BaseException as raised:  # noqa: BLE001 - handed to the threads that wait for it
            error = raised
        for waited in (launched, self._ended):
            if not waited.done():
                waited.set_exception(error)

    async def _live(self, launched: Future[HandedOver]) -> None:
        """Launch, wait for the end, and leave nothing."""
        self._task = asyncio.current_task()
        if self._is_closing:
            return
        self._host = host = ProcessHost(self._process, services=self._services)
        calls = host.converse_by(lambda host: HandedOver(host, self._proxy_of))
        async with host:
            self._calls = calls
            launched.set_result(calls)
            await calls.over.wait()
            if not self._is_closing:
                await host.hung_up()
        self._ended.set_result(await host.wait())

    # Calls.

    def call(self, method: str, *arguments: Any, returns: Any = Any, timeout: float | Default | None = DEFAULT) -> Any:
        """Call *method* of the plugin and return its result. See `ProcessHost.call`."""
        return self.invoke(0, untyped(method, returns), arguments, self._seconds(timeout))

    def proxy(self, interface: Callable[..., T], *, timeout: float | Default | None = DEFAULT) -> T:
        """Return an object with the methods of *interface*, declared with ``def``. See `ProcessHost.proxy`."""
        self.check(cast(type, interface))
        return cast(T, SyncProxy(self, cast(type, interface), 0, self._seconds(timeout)))

    def check(self, interface: type) -> None:
        """Raise `InterfaceMismatch` if the plugin does not fit *interface*, as far as it is known by now."""
        if self._calls is not None:
            self._calls.check(interface)

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
        called, limit = untyped(method, returns), self._seconds(timeout)
        under_way: deque[Outgoing] = deque()
        try:
            for chunk in chunks(method, calls, chunksize):
                with self._calling(called) as peer:
                    under_way.append(peer.call_many(0, called, chunk, limit))
                if len(under_way) > 1:
                    yield from self._finish(under_way.popleft())
            while under_way:
                yield from self._finish(under_way.popleft())
        finally:
            if under_way and self._calls is not None:
                for call in under_way:
                    self._calls.shared.abandon(call)  # perhaps this is the collector, see `SyncStream`

    def invoke(self, target: int, method: Declared, arguments: tuple[Any, ...], timeout: float | None) -> Any:
        """Call *method* of *target*, with arguments that fit it; a stream, when its first item is asked for."""
        calls = self._calls or self._not_ready(method)
        if method.kind == "stream":
            return SyncStream(lambda: self._calling(method), lambda peer: peer.call(target, method, arguments, timeout))
        if not calls.pump.is_busy:
            calls.pump.touch()
        is_held = interrupts.hold()
        try:
            if method.kind == "call":
                return calls.shared.call(target, method, arguments, timeout)
            return calls.shared.notify(target, method, arguments, timeout)
        except EXPLAINED as error:
            raise self._explained(method, error) from error.__cause__
        finally:
            if not calls.pump.is_busy:
                calls.pump.touch()
            if is_held:
                interrupts.let_go()

    def _finish(self, call: Outgoing) -> Any:
        with self._calling(call.declared) as peer:
            return peer.finish(call)

    @contextmanager
    def _calling(self, method: Declared) -> Iterator[SharedPeer]:
        calls = self._calls or self._not_ready(method)
        calls.pump.touch()
        is_held = interrupts.hold()
        try:
            yield calls.shared
        except EXPLAINED as error:
            raise self._explained(method, error) from error.__cause__
        finally:
            calls.pump.touch()
            if is_held:
                interrupts.let_go()

    def _not_ready(self, method: Declared) -> NoReturn:
        raise RuntimeError(f"could not call {method.name!r}: {self._why_not}")

    def _proxy_of(self, interface: type, number: int) -> SyncProxy:
        return SyncProxy(self, interface, number, self._seconds(DEFAULT))

    def _seconds(self, timeout: float | Default | None) -> float | None:
        return seconds(timeout, self._process)

    def _explained(self, method: Declared, error: Exception) -> Exception:
        ended = self._ended.result() if isinstance(error, EndOfChannel) else None
        assert self._calls is not None
        return self._calls.judge.explain(method.name, error, ended)

    def set_log_level(self, level: int | str, logger: str = "") -> None:
        """Set the level of a *logger* of the child. See `ProcessHost.set_log_level`."""
        self.host.set_log_level(level, logger)

    @property
    def use(self) -> PeerUse | None:
        """See `ProcessHost.use`."""
        return self.host.use

    def reserve(self, length: int) -> SharedBuffer | None:
        """See `ProcessHost.reserve`."""
        return self.host.reserve(length)

    def trim(self) -> None:
        """See `ProcessHost.trim`."""
        self.host.trim()

    # Its end.

    def _soon(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Run *function* in the thread of the event loop, if that still runs."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(function, *arguments)

    def kill(self, why: str = "the host killed it") -> None:
        """Kill the child by its pidfd, at once. From any thread. Nothing, if there is none (any more)."""
        if self._host is not None:
            self._soon(self._host.kill, why)

    def close(self) -> Ended | None:
        """Ask the child to end, kill it if it does not, and leave nothing. From any thread; idempotent.

        Calls that are under way get their answers if they come in time, and else a `ChildEnded`. Returns how the child
        ended; None if it was never ready, or if called by a service in a thread of ours, which ends afterwards.
        """
        self._soon(self._leave)
        if self._thread is not None and self._thread is not threading.current_thread():
            if self._thread.ident is not None:
                self._thread.join()
            elif self._loop is not None:
                self._loop.close()
        if self._calls is not None:
            self._calls.pump.join()
        return self._ended.result() if self._ended.done() and self._ended.exception() is None else None

    def _leave(self) -> None:
        self._is_closing = True
        if self._calls is not None:
            self._calls.over.set()
        elif self._task is not None:
            self._task.cancel()

    def _forget(self) -> None:
        """In a fork: the threads are gone, the locks may be held, and the fds are copies."""
        if self._calls is not None:
            self._calls.shared.forget()
        self._why_not = FORKED
        self._loop = self._thread = self._host = self._calls = None


class SyncProxy(Methods):
    """The methods of *interface* as calls of *target* of one child; *timeout* in seconds for each call."""

    def __init__(self, host: SyncHost, interface: type, target: int, timeout: float | None) -> None:
        def make(method: Declared) -> Callable[..., Any]:
            def call(*arguments: Any, **keywords: Any) -> Any:
                return host.invoke(target, method, bind(method, arguments, keywords), timeout)

            return call

        super().__init__(host, interface, target, make)


@atexit.register
def _kill_all() -> None:
    """No thread of ours may run on while the interpreter ends."""
    for host in list(_hosts):
        host.kill("the program ended")
        host.close()


def _forget_all() -> None:
    for host in list(_hosts):
        host._forget()


os.register_at_fork(after_in_child=_forget_all)
