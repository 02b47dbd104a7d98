"""For tests of code that uses a host: `MemoryHost`, whose plugin is a thread of this very process. It seals nothing.

    async with MemoryHost(Thumbnailer, services={Records: fakes}) as host:
        assert await contact_sheet(host, pictures) == expected

This is the one module that stands on both sides, for here both are one process.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import ModuleType

import anyio
import anyio.abc

from .child import in_memory
from .child.bundle import BundleImporter, attribute_of, load_attribute
from .child.services import Services
from .host.bundle import make_bundle
from .host.config.process_type import Process
from .host.errors import LaunchError
from .host.plan.find import ASYNCIO
from .host.process_host import ProcessHost
from .host.state import State
from .ipc.channel.base import EndOfChannel
from .ipc.channel.in_memory import MemoryChannel, memory_pair
from .ipc.errors import printable
from .ipc.messages import Ready, decode_from_child
from .ipc.payload import read_sealed
from .ipc.stage import Stage
from .sandbox.launch.wire import Exited
from .sandbox.layers import Layer
from .sandbox.protection import Protection
from .sandbox.protection.operations import Operation, OperationStatus, Verdict
from .sandbox.protection.report import LayerStatus

log = logging.getLogger("belljar.testing")

UNSEALED = "the plugin is a thread of this process and can do all that it can do"

_FAILED = 1 << 8
"""What wait(2) would say of a child that exited with code 1."""

STUCK = 1.0
"""Seconds that the thread has to end after its host has hung up."""


class MemoryHost(ProcessHost):
    """A `ProcessHost` without a child: the plugin answers in a thread of this process. For tests; NOTHING IS SEALED.

    Calls, proxies, streams, services, deadlines, cancellation and errors are those of a real child, over the channel
    ``memory``: what does not fit an interface fails here too. What is missing is all the rest: no stage of a launch is
    taken, so that neither policy nor early init count (`belljar.handed` finds nothing), no output is collected, and
    there are no pids. A thread cannot be killed either: `kill` hangs up, the calls fail as ever, and a plugin that then
    still does not return is named in the log and left behind. A plugin's own threads can ask for services only if they
    are started by `asyncio.to_thread` or otherwise run in a copy of its context.

    Args:
        plugin: The plugin's class, which is called in the thread; or an object; or a `Process`, whose file is then
            imported into this process, unless it has been already. One with asynchronous methods gets an event loop; a
            `Process` must say so, by the step ``asyncio``, as ever.
        services: As for `ProcessHost`.
        process: Where *plugin* is none: its ``name``, ``call_timeout``, ``cancel_grace``, ``unresponsive``,
            ``max_payload`` and ``shared_memory`` hold.
    """

    def __init__(
        self, plugin: object, *, services: Mapping[type, object] | None = None, process: Process | None = None
    ) -> None:
        self._make: Callable[[], object] | None = None
        if isinstance(plugin, Process):
            super().__init__(plugin, services=services)
            self._on_loop = any(getattr(entry, "step", entry) == ASYNCIO for entry in plugin.early_init)
        else:
            kind = plugin if isinstance(plugin, type) else type(plugin)
            super().__init__(process or Process(plugin=f"memory:{kind.__name__}"), services=services)
            self._on_loop = in_memory.is_asynchronous(kind)
            self._make = plugin if isinstance(plugin, type) else lambda: plugin
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._is_hanging_up = False

    def __repr__(self) -> str:
        return f"<MemoryHost {self.process.name} {self.state.name.lower()}, NOT SEALED: a thread of this process>"

    async def _take_stages(self, tasks: anyio.abc.TaskGroup) -> None:
        """Start the thread, and wait until it has made the plugin."""
        began = time.perf_counter()
        log.warning("%s is not sealed at all: %s. MemoryHost is for tests", self.process.name, UNSEALED)
        self._tasks = tasks
        if self._make is None:
            self.process = self.process.resolve()
            self._make = partial(_import, self.process)
        self._start_thread(self._make)
        self._move(State.LAUNCHED, Stage.LOAD)
        tasks.start_soon(self._watch_thread)
        ready = await self._await_ready()
        self.methods = tuple(map(printable, ready.methods))
        self.protection = _no_protection()
        self._conversation.start(self._channel, self._services.targets, tasks.start_soon, ready)
        self.timeline[Stage.LOAD.label] = (time.perf_counter() - began) * 1000
        self._move(State.READY, Stage.READY)

    def _start_thread(self, make: Callable[[], object]) -> None:
        self._channel, theirs = memory_pair()
        self._fds.callback(self._channel.close)
        self._done, done = os.pipe2(os.O_CLOEXEC)
        self._fds.callback(os.close, self._done)
        with ExitStack() as if_it_fails:
            if_it_fails.callback(theirs.close)
            if_it_fails.callback(os.close, done)
            name = f"belljar {self.process.name}"
            thread = threading.Thread(target=self._run, args=(theirs, done, make), name=name, daemon=True)
            thread.start()
            self._thread = thread
            if_it_fails.pop_all()

    def _run(self, channel: MemoryChannel, done: int, make: Callable[[], object]) -> None:
        """The thread. Owns *channel*, and *done*, whose end tells that the thread ends too."""
        services, limit = Services(self._services.names, self._services.descriptions), self.process.max_payload
        try:
            in_memory.serve(channel, make, services, limit, on_loop=self._on_loop)
        except BaseException as error:  # noqa: BLE001 - the edge of foreign code: the host gets it
            self._failure = error
        finally:
            channel.close()
            os.close(done)

    async def _watch_thread(self) -> None:
        """Wait for the end of the thread, or until `_hang_up` waits no longer. Shielded, as a real child's end is."""
        assert self._thread is not None
        with anyio.CancelScope(shield=True) as self._watching:
            await anyio.wait_readable(self._done)
            self._thread.join()
        if self._failure is not None and self.protection is not None:  # of a launch, it is the cause of the LaunchError
            log.error("%s: the plugin's thread failed", self.process.name, exc_info=self._failure)
        status = 0 if self._failure is None else _FAILED
        self._exited = Exited(None if self._why else status, 0.0, 0)
        self._end_came.set()

    async def _await_ready(self) -> Ready:
        try:
            while (received := self._channel.receive()) is None:
                await anyio.wait_readable(self._channel.fileno())
        except EndOfChannel:
            error = self._failure
            raise LaunchError(Stage.LOAD, 0, f"{type(error).__name__}: {error}") from error
        message = decode_from_child(received.data)
        assert isinstance(message, Ready)
        return message

    def kill(self, why: str = "the host killed it") -> None:
        """Hang up, at once. A thread cannot be killed: it ends when it looks at its channel, or awaits something."""
        self._progress.reach(State.CLOSING)
        if self._thread is not None and not self._end_came.is_set() and not self._is_hanging_up:
            self._is_hanging_up = True
            self._why = why
            self._tasks.start_soon(self._hang_up)

    async def _hang_up(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._conversation.close()
            self._channel.close()
            with anyio.move_on_after(STUCK):
                await self._end_came.wait()
            if not self._end_came.is_set():
                log.error("%s does not end, and a thread cannot be killed: it is left behind", self.process.name)
                self._watching.cancel()

    async def _finish(self) -> None:
        """Leave no thread, unless it is stuck. Runs shielded."""
        if self._thread is not None:
            self.kill()
            await self.wait()
        self._progress.reach(State.ENDED)


def _import(process: Process) -> object:
    """Return the plugin of *process*."""
    with _importing:
        factory = _imported(process.plugin, process.files)
    return factory()


_importing = threading.Lock()


@functools.cache
def _imported(plugin: str, files: tuple[str, ...]) -> Callable[[], object]:
    """Return the class of *plugin*, imported once a process like any module, from a bundle as in a child.

    If the test has imported the very file itself, that module is the plugin's.
    """
    process = Process(plugin=plugin, files=files)
    loaded = sys.modules.get(process.module)
    if loaded is not None and _is_of(loaded, process.path):
        factory = attribute_of(loaded, process.attribute)
    else:
        with make_bundle(process) as bundle:
            importer = BundleImporter(read_sealed(os.dup(bundle.fd), 1 << 30))
        factory = load_attribute(importer, process.module, process.attribute)
    if not callable(factory):
        raise TypeError(f"{process.module}.py: {process.attribute} is not a class")
    return factory


def _is_of(module: ModuleType, path: Path) -> bool:
    """Whether *module* was imported from the plugin's file or package folder *path*."""
    own = path / "__init__.py" if path.is_dir() else path
    other = getattr(module, "__file__", None)
    return other is not None and own.exists() and os.path.exists(other) and own.samefile(other)


def _no_protection() -> Protection:
    return Protection(
        layers=tuple(LayerStatus(layer, promised=False, engaged=False, detail=UNSEALED) for layer in Layer),
        threads=1,
        notes=(UNSEALED,),
        operations=tuple(OperationStatus(each, Verdict.OPEN, (), why=UNSEALED) for each in Operation),
        backend="memory",
    )
