"""`ProcessHost`: one sealed child, from launch to end.

    async with ProcessHost(Process(plugin="plugins/thumbnailer.py:Thumbnailer", policy=Policy.media())) as host:
        thumbnail = await host.call("thumbnail", data, 256)

Leaving the block leaves no process and no fd, however it is left. The order of a launch is in docs/launch-order.md.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import anyio
import anyio.abc

from ..ipc import datagram, pidfds
from ..ipc.channel.base import EndOfChannel
from ..ipc.errors import printable
from ..ipc.memory.buffer import SharedBuffer
from ..ipc.peer.records import PeerUse
from ..ipc.stage import Stage
from ..sandbox.launch.wire import Exited, Failed, Launched, receive_report
from ..sandbox.protection import Protection
from .config.process_type import Process, expect_process
from .conversation import DEFAULT, Conversation, Default
from .denials import Denials
from .ended import Ended, ended_from
from .errors import LaunchError
from .log_records import ChildLog
from .output import Output
from .plan.at_seal import AtSeal
from .plan.compare import StepReport
from .services import Services
from .stages import Launching
from .state import Progress, State

log = logging.getLogger("belljar.host")

T = TypeVar("T")
C = TypeVar("C", bound=Conversation)


GRACE = 2.0
"""Seconds that a child has to end after `ProcessHost.shutdown` asked it to."""

HUNG_UP = 1.0
"""Seconds that a child has to end after it closed its channel, which ending does too."""


class ProcessHost:
    """The host's handle on one child; an async context manager for asyncio and trio.

    A host launches one child once. Use it from the task or the tasks of one event loop; other hosts may live in
    other loops and threads.

    Attributes:
        launched_pid: The pid to wait for, as its waiter sees it (with ``namespaces`` the number in the zygote's pid
            namespace); nobody but the waiter can use it.
        child_pid: The child's pid here, as the kernel's credentials gave it; None before the hello.
        claimed_pid: The pid that the child claimed in its hello; for logs, never used.
        methods: Names of the plugin's public methods, 64 at most, in the child's words, `printable`; none before ready.
        protection: What is enforced, as read from outside in stage 8; None before.
        timeline: Milliseconds of each stage by name; early-init steps have entries of their own.
        early_init: How each early-init step went and what it left, by name; not those that a zygote has done before.
        at_seal: What early init has left at the seal, as seen from outside, and what of it no step declares.
    """

    def __init__(self, process: Process, *, services: Mapping[type, object] | None = None) -> None:
        expect_process(process)
        self.process = process
        self.launched_pid: int | None = None
        self.child_pid: int | None = None
        self.claimed_pid: int | None = None
        self.protection: Protection | None = None
        self.methods: tuple[str, ...] = ()
        self._launching = Launching(process)
        self._progress = Progress()
        self._stage = Stage.PREPARE
        self._why = ""
        self._launched: Launched | None = None
        self._failed: Failed | None = None
        self._exited: Exited | None = None
        self._ended: Ended | None = None
        self._report_came = anyio.Event()
        self._end_came = anyio.Event()
        self._fds = ExitStack()
        self._outputs: list[Output] = []
        self._denials: Denials | None = None
        self._services = Services(services or {})
        self.child_log = ChildLog(process.name)
        self._conversation: Conversation = Conversation(self)
        self._context: AbstractAsyncContextManager[None] | None = None

    def converse_by(self, make: Callable[[ProcessHost], C]) -> C:
        """Let another kind of `Conversation` carry the calls; before the launch."""
        self._conversation = conversation = make(self)
        return conversation

    @property
    def state(self) -> State:
        """The state of the child; it never goes back."""
        return self._progress.state

    @property
    def timeline(self) -> dict[str, float]:
        """Milliseconds of each stage by name."""
        return self._launching.timeline

    @property
    def early_init(self) -> Mapping[str, StepReport]:
        """How each early-init step went, by name."""
        return self._launching.steps.reports

    @property
    def at_seal(self) -> AtSeal | None:
        """What early init has left at the seal; None without steps, or where /proc does not show it."""
        return self._launching.steps.at_seal

    def __repr__(self) -> str:
        return f"<ProcessHost {self.process.name} {self.state.name.lower()} child_pid={self.child_pid}>"

    async def __aenter__(self) -> Self:
        """Launch the child and wait until it is ready.

        Raises:
            ConfigError: the process type cannot be used.
            LaunchError: a stage failed or took too long; no process is left.
            ProtectionError: the kernel does not show what the backend promises; the child was killed.
        """
        if self._context is not None:
            raise RuntimeError("a ProcessHost launches once; make another one")
        self._context = self._life()
        await self._context.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Shut the child down; kill it if the block failed or was cancelled."""
        assert self._context is not None
        return await self._context.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def _life(self) -> AsyncGenerator[None]:
        """Everything between launch and end. An error is raised outside of the task group, which would wrap it."""
        failure: BaseException | None = None
        try:
            async with anyio.create_task_group() as tasks:
                try:
                    await self._launch(tasks)
                    yield
                    await self.shutdown()
                except anyio.get_cancelled_exc_class():
                    raise
                except BaseException as error:  # noqa: BLE001 - kept, and raised again below
                    failure = error
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._finish()
                        await self._conversation.close()
                    tasks.cancel_scope.cancel()
        finally:
            self.child_log.close()
            self._fds.close()
        if failure is not None:
            raise failure

    async def _launch(self, tasks: anyio.abc.TaskGroup) -> None:
        began = time.perf_counter()
        timeout = self.process.launch_timeout
        with anyio.move_on_after(timeout) as scope:
            try:
                await self._take_stages(tasks)
            except EndOfChannel:
                raise await self._ended_in_launch() from None
        if scope.cancelled_caught:
            self.kill("the launch took too long")
            text = f"the child did not get past this stage{self._in_step()} within {timeout:g} s"
            raise LaunchError(self._stage, 0, text)
        self.timeline["total"] = (time.perf_counter() - began) * 1000

    async def _take_stages(self, tasks: anyio.abc.TaskGroup) -> None:
        """Take the host's stages in the order of docs/launch-order.md."""
        launching = self._launching
        self._fds.callback(launching.close)
        await launching.prepare()
        self.process = launching.process
        self._fds.callback(launching.connection.close)
        launched = await self._start(tasks)
        hello = await launching.accept_hello(launched)
        self.child_pid, self.claimed_pid = launching.connection.sender_pid, hello.claimed_pid
        self.child_log.pid = self.child_pid
        log.debug("%s: child pid %d, which claims %d", self.process.name, self.child_pid, self.claimed_pid)
        self._move(State.CONNECTED, Stage.CONFIGURE)
        await launching.configure()
        self._stage = Stage.EARLY_INIT
        await launching.await_initialised_and_sealed()
        self._move(State.INITIALISED, Stage.VERIFY)
        self._watch_denials(tasks)
        self.protection = await launching.verify()
        for status in self.protection.layers:
            if status.limit:
                level = logging.WARNING if status.asked else logging.INFO
                log.log(level, "%s: %s is only partly there: %s", self.process.name, status.layer, status.limit)
        self._move(State.SEALED, Stage.LOAD)
        await launching.load(self._services.names, self._services.descriptions)
        ready = await launching.await_ready(self.took_refusals)
        self.methods = tuple(map(printable, ready.methods))
        self._conversation.start(launching.channel(), self._services.targets, tasks.start_soon, ready)
        self._move(State.READY, Stage.READY)

    def _move(self, state: State, stage: Stage) -> None:
        self._progress.reach(state)
        self._stage = stage

    async def _start(self, tasks: anyio.abc.TaskGroup) -> Launched:
        """Stage 2: launch, and wait until the process that waits for the child has reported it."""
        self._stage = Stage.LAUNCH
        with self._launching.stage(Stage.LAUNCH):
            report, theirs = datagram.control_pair()
            self._fds.callback(report.close)
            report.setblocking(False)
            tasks.start_soon(self._watch, report)  # before the launch: if that fails, the end of file ends the watch
            with theirs, ExitStack() as write_ends:
                stdout = self._open_output(write_ends, "stdout", logging.INFO)
                stderr = self._open_output(write_ends, "stderr", logging.WARNING)
                self._launching.launch(theirs, stdout, stderr)
            for output in self._outputs:
                tasks.start_soon(output.drain)
            await self._report_came.wait()
        if self._failed is not None:
            raise LaunchError(Stage(self._failed.stage), self._failed.errno, self._failed.explained())
        if self._launched is None:
            raise LaunchError(Stage.LAUNCH, 0, "the process that should launch the child ended")
        self.launched_pid = self._launched.launched_pid
        self._move(State.LAUNCHED, Stage.HELLO)
        return self._launched

    def _open_output(self, write_ends: ExitStack, stream: str, level: int) -> int:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        write_ends.callback(os.close, writer)
        output = Output(reader, self.child_log, stream, level)
        self._fds.callback(output.close)
        self._outputs.append(output)
        return writer

    async def _watch(self, report: socket.socket) -> None:
        """Wait on the launcher's reports until the child is reaped, or until nobody is left to reap it.

        Shielded: a launch that is cancelled still waits for the end of its child, and nobody else would see it.
        """
        with anyio.CancelScope(shield=True):
            await self._read_reports(report)
            if self._launched is not None and self._exited is None:  # whoever waited for it has ended
                # The child too: a setuid helper neither hears of the guard's end nor takes its child along.
                for pidfd in self._pidfds():
                    pidfds.kill(pidfd)
                    await anyio.wait_readable(pidfd)
        self._report_came.set()
        self._end_came.set()
        self._launching.connection.hang_up()

    async def _read_reports(self, report: socket.socket) -> None:
        while True:
            try:
                news = receive_report(report)
            except BlockingIOError:
                await anyio.wait_readable(report)
                continue
            except ConnectionResetError:
                news = None
            if isinstance(news, Launched):
                self._launched = news
                self._fds.callback(os.close, news.pidfd)
                if self._why:  # killed before it was known
                    pidfds.kill(news.pidfd)
            elif isinstance(news, Failed):
                self._failed = news
            else:
                self._exited = self._of_child(news) if isinstance(news, Exited) else None
                break
            self._report_came.set()

    def _of_child(self, exited: Exited) -> Exited:
        """What was reaped may be a helper: ask the kernel how the child behind it ended, or else the backend."""
        launching = self._launching
        if not launching.half.has_helper:
            return exited
        status = None if launching.pidfd is None else pidfds.exit_status(launching.pidfd)
        if status is None:
            status = launching.half.child_status(exited.status or 0)
        return dataclasses.replace(exited, status=status)

    def _watch_denials(self, tasks: anyio.abc.TaskGroup) -> None:
        listener = self._launching.hand_over_listener()
        if listener is not None:
            self._denials = Denials(listener, self.process.name)
            self._fds.callback(self._denials.close)
            tasks.start_soon(self._denials.record)

    def took_refusals(self) -> tuple[str, ...]:
        return self._denials.take() if self._denials is not None else ()

    async def _ended_in_launch(self) -> LaunchError:
        """The channel closed during the launch: say how the child ended, or pass its own report on."""
        ended = await self.hung_up()
        if self._stage is Stage.HELLO and (why := self._launching.half.explain(ended.exit_code, ended.stderr)):
            return LaunchError(Stage.LAUNCH, 0, why)
        return LaunchError(self._stage, 0, f"the child ended{self._in_step()}: {ended}")

    def _in_step(self) -> str:
        step = self._launching.steps.words()
        return f" in {step}" if step else ""

    async def call(
        self, method: str, *arguments: Any, returns: Any = Any, timeout: float | Default | None = DEFAULT
    ) -> Any:
        """Call *method* of the plugin and return its result; see `proxy` for calls with types.

        Any number of calls may be under way; a plugin without event loop answers them in the order of their coming. A
        call that is cancelled or runs into *timeout* (seconds; by default the process type's ``call_timeout``) ends
        here at once, and the child is told. If it does not end the call within ``cancel_grace``, although it works on
        nothing else, ``unresponsive`` says what becomes of it.

        Args:
            arguments: Anything that msgspec can encode. Buffers, arrays, streams and callbacks take an interface.
            returns: The type that the result must fit. Without one, small results are plain values, and large ones
                must be bytes or str, because plain values can take much more memory than they had on the way.

        Raises:
            UnknownMethod, ArgumentError, ResultError: the call does not fit the plugin; the child lives on.
            RemoteError: the plugin raised; the child lives on.
            CallTimeout: the call took too long.
            ChildEnded: the child ended before it answered.
            PeerProtocolError: the child broke the protocol; it was killed.
        """
        return await self._conversation.call(method, arguments, returns, timeout)

    def map(
        self,
        method: str,
        calls: Iterable[tuple[Any, ...]],
        *,
        returns: Any = Any,
        chunksize: int = 64,
        timeout: float | Default | None = DEFAULT,
    ) -> AsyncGenerator[Any]:
        """Yield the results of many calls of *method*, in order; each of *calls* is a tuple of arguments.

        So one argument is a tuple of one: ``host.map("size", [(picture,) for picture in pictures])``.

        *chunksize* calls travel together, and two such chunks are under way at a time. The first error of a chunk is
        raised instead of its results; *timeout* is for a chunk. All calls have equally many arguments.
        Errors are those of `call`.
        """
        return self._conversation.map(method, calls, returns, chunksize, timeout)

    def proxy(self, interface: Callable[..., T], *, timeout: float | Default | None = DEFAULT) -> T:
        """Return an object with the methods of the class *interface*, annotated; each is a call, checked both ways.

        (It is not ``type[T]``, of which mypy would take no Protocol and no abstract class.)
        *timeout* is for each call, in seconds; for a stream, for each wait for an item. Errors are those of `call`.
        """
        return cast(T, self._conversation.proxy(cast(type, interface), 0, timeout))

    @property
    def use(self) -> PeerUse | None:
        """Calls made, under way and given up, and how the shared memory is used; None before the child is ready."""
        return self._conversation.use

    def reserve(self, length: int) -> SharedBuffer | None:
        """Return *length* bytes of the memory that the child reads, to be filled and then passed as an argument.

        The argument is then not copied on its way. None if there is no room there now: pass any other bytes instead.
        The first time there is none, for the memory is made when it is first wanted.
        """
        return self._conversation.reserve(length)

    def trim(self) -> None:
        """Give shared and private memory back that is kept for large payloads to come; the next of them is slower."""
        self._conversation.trim()

    def set_log_level(self, level: int | str, logger: str = "") -> None:
        """Set the level of a *logger* of the child (by default its root) once it reads this, so not during a call.

        What is below it the child does not even make a text of. The application's own levels count too, here.

        Raises:
            ValueError: there is no such level.
            RuntimeError: the child is not ready.
        """
        self._conversation.set_log_level(level, logger)

    async def hung_up(self) -> Ended:
        """The channel is closed: the child has ended, or else it is killed. Nobody could talk to it any more."""
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(HUNG_UP):
                await self._end_came.wait()
            self.kill("it closed its channel and did not end")
            ended = await self.wait()
        return ended

    async def shutdown(self, grace: float = GRACE) -> Ended:
        """Ask the child to end, wait *grace* seconds, then kill it. A child that has ended already is no error."""
        if self._progress.reach(State.CLOSING):
            with anyio.move_on_after(grace):
                await self._conversation.shut_down()
                await self._end_came.wait()
        if not self._end_came.is_set():
            self.kill(f"it did not end within {grace:g} s of being asked")
        return await self.wait()

    def kill(self, why: str = "the host killed it") -> None:
        """Kill the child by its pidfd, at once; whoever started it reaps it."""
        self._progress.reach(State.CLOSING)
        if not self._end_came.is_set():
            self._why = self._why or why
            self._conversation.cut()
            for pidfd in self._pidfds():
                pidfds.kill(pidfd)

    def _pidfds(self) -> list[int]:
        """The launched process and, where that is a helper, the child behind it."""
        found = [self._launched.pidfd] if self._launched is not None else []
        return found if self._launching.pidfd is None else [*found, self._launching.pidfd]

    async def wait(self) -> Ended:
        """Wait until the child has ended and was reaped; return how."""
        if self._ended is None:
            await self._end_came.wait()
            await self._drain()
        if self._ended is None:
            stderr = tuple(self._outputs[1].last) if len(self._outputs) > 1 else ()
            cpu_limit = self.process.policy.limits.cpu
            self._ended = ended_from(self._exited, stage=self._stage, why=self._why, stderr=stderr, cpu_limit=cpu_limit)
            self._progress.reach(State.ENDED)
        return self._ended

    async def _drain(self) -> None:
        """Give the last output a moment; a descendant of the child may hold the pipes open for longer."""
        with anyio.move_on_after(0.2):
            for output in self._outputs:
                await output.drained.wait()

    async def _finish(self) -> None:
        """Leave nothing: kill what still runs, wait until it is reaped. Runs shielded."""
        if not self._outputs:  # nothing was asked of a backend
            self._progress.reach(State.ENDED)
            return
        if not self._end_came.is_set():
            self.kill()
            await self._end_came.wait()
        await self.wait()
