"""The host's stages in their order: 1 prepare, 2 launch, 4 hello, 5 configure, 8 verify, 9 load, 10 ready.

Stages 3, 6 and 7 are the child's own (`belljar.child.stages`); the host waits for them here, with their deadlines.
One `Launching` is one launch. It holds what the launch needs until the child is ready.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from ..ipc import datagram, pidfds
from ..ipc.channel.base import Channel, EndOfChannel
from ..ipc.channel.over_socket import SocketChannel
from ..ipc.errors import HelloError, PeerProtocolError, printable
from ..ipc.hello import Expected, Facts, choose_version, judge_hello, judge_sender
from ..ipc.interface import ValueUnfit
from ..ipc.interface.fitting import unpack
from ..ipc.messages import (
    Configure,
    FromChild,
    Hello,
    Landlock,
    Listening,
    Load,
    Plugin,
    Ready,
    Sealed,
    StageFailed,
    StepBegan,
    StepEnded,
)
from ..ipc.stage import Stage
from ..sandbox import landlock, protection
from ..sandbox.base import Birth, HostHalf, Launch
from ..sandbox.errors import SandboxError
from ..sandbox.graphics import find_driver
from ..sandbox.hints import hint
from ..sandbox.launch.client import LaunchFailed
from ..sandbox.launch.wire import Launched
from ..sandbox.layers import Layer
from ..sandbox.probe import is_probed, probe
from ..sandbox.protection import Protection
from ..sandbox.protection.verify import Expectation
from ..sandbox.seccomp.compile import bind_pid, compile_policy, is_compiled
from ..sandbox.steps import StepFailed
from ..sandbox.user import closed_to, resolve_user
from .bundle import make_bundle
from .calls import host_only, some_of
from .choose import below_floor, choose, rights_of
from .config.granted_paths import check_granted_paths, real_paths
from .config.place import Place
from .config.process_type import Process, plan_of
from .connection import Connection
from .errors import LaunchError, PlanError, ProtectionError
from .log_records import initial_level
from .plan.check import check_plan, surroundings
from .plan.plan import Plan
from .plan.watch import StepWatch

if TYPE_CHECKING:
    from ..ipc.channel.zmq_ends import Meeting

log = logging.getLogger("belljar.host")


class Launching:
    """One launch: what stage 1 prepared and what the later stages found out. Close it in any case."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.timeline: dict[str, float] = {}
        self.fds = ExitStack()
        self.listener: int | None = None
        self.landlock: Landlock | None = None
        self.pidfd: int | None = None
        self.steps = StepWatch(process, Plan(), self.timeline)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Time the block as *stage*, and give every error in it the number of the stage."""
        began = time.perf_counter()
        try:
            yield
        except LaunchFailed as error:
            raise LaunchError(Stage(error.failure.stage), error.failure.errno, str(error)) from error
        except StepFailed as error:
            raise _refused(stage, error) from error
        except (SandboxError, PeerProtocolError) as error:
            raise LaunchError(stage, 0, str(error)) from error
        except OSError as error:  # such as no fd left for a pipe, or a launcher that has just ended
            raise _refused(stage, StepFailed("pass this stage", error.errno or 0, error.strerror or "")) from error
        finally:
            self.timeline[stage.label] = (time.perf_counter() - began) * 1000

    async def prepare(self) -> None:
        """Stage 1: resolve and check everything, and make the channel, before any process exists."""
        with self.stage(Stage.PREPARE):
            self.process = self.process.resolve()
            self.plan = plan_of(self.process)
            self.steps = StepWatch(self.process, self.plan, self.timeline)
            self.user = resolve_user(self.process.run_as)
            if closed := closed_to(self.user, *self.plan.files):
                raise SandboxError(closed)
            if not is_probed(self.user):
                await _in_thread(partial(probe, self.user))
            self.machine = probe(self.user)
            check_granted_paths(self.process)
            self.half: HostHalf = choose(self.process, self.machine)
            self.promised = self.half.promises(self.process.policy)
            self._check_plan()
            if not self._is_warm():
                # Compiling a filter and starting a zygote take 0.1 s and more: not in the event loop.
                await _in_thread(self._warm)
            self.bpf = self._filter() if self._filters() else b""
            self.bundle = self.fds.enter_context(make_bundle(self.process))
            ours, self.childs_end = datagram.control_pair()
            self.connection = Connection(ours)
            self.fds.callback(self.childs_end.close)
            self.meeting = self._make_meeting() if self.process.channel == "zmq" else None

    def _make_meeting(self) -> Meeting:
        """Make the folder in which the child will find its host."""
        from ..ipc.channel.zmq_ends import Meeting

        meeting = Meeting()
        self.fds.callback(meeting.close)
        if closed := closed_to(self.user, os.path.dirname(meeting.folder)):
            raise SandboxError(closed)
        return meeting

    def _check_plan(self) -> None:
        around = surroundings(self.process, self.half, self.machine)
        try:
            check_plan(self.plan, around, find_driver(self.user), Place(f"process {self.process.name}"))
        except PlanError as error:
            if not self.process.force_plan:
                raise
            log.warning("force_plan: launched although the plan is refused: %s", error)

    def _is_warm(self) -> bool:
        if self.process.channel == "zmq" and "zmq" not in sys.modules:
            return False
        if not self.half.is_warm(self.plan.shared, self.user):
            return False
        if not self._filters():
            return True
        own_pid_only = self.half.own_pid_only
        return is_compiled(self.process.policy, listener=self._listens(), own_pid_only=own_pid_only)

    def _warm(self) -> None:
        if self.process.channel == "zmq":
            importlib.import_module("zmq")
        if self._filters():
            self._filter()
        self.half.warm(self.plan.shared, self.user)

    def _filters(self) -> bool:
        return Layer.SECCOMP in self.promised

    def _filter(self) -> bytes:
        own_pid_only = self.half.own_pid_only
        return compile_policy(self.process.policy, listener=self._listens(), own_pid_only=own_pid_only)

    def _listens(self) -> bool:
        return not self.machine.missing(("seccomp-listener",))

    def launch(self, report: socket.socket, stdout: int, stderr: int) -> None:
        """Stage 2: ask the backend for the process. What becomes of it comes over the report socket."""
        process = self.process
        real = real_paths(process.policy)
        birth = Birth(self.half.name, process.name, process.policy, process.env, self._landlock_abi(), real)
        shared, files = self.plan.shared, self.plan.files
        if self.meeting is not None:
            files = (*files, self.meeting.folder)
        request = Launch(self.childs_end, report, stdout, stderr, birth, shared, self.user, files)
        self.started = self.half.start(request)
        self.fds.callback(self.started.close)
        self.childs_end.close()

    def _landlock_abi(self) -> int:
        return self.machine.landlock_abi if Layer.LANDLOCK in self.promised else 0

    async def accept_hello(self, launched: Launched) -> Hello:
        """Stage 4: believe the first message only if the kernel says that the launched process sent it."""
        with self.stage(Stage.HELLO):
            outer = pidfds.pids_of(launched.pidfd)
            self._check_launched(launched, outer)
            message, received = await self.connection.receive_first()
            if isinstance(message, StageFailed):
                received.close()
                raise failed(message)  # whoever says so: a launch that has failed trusts nobody
            try:
                facts = self._facts(message, received)
                expected = Expected(self.user.uid, outer.outer_pid, self.half.has_helper)
                sender = judge_sender(facts, expected)
                if doubt := self.started.confirm(sender.sender_pid):
                    raise HelloError(f"process {sender.sender_pid} is not the child: {doubt}")
                self.pidfd = self._identity(launched, received)
            finally:
                received.close()
            self.sender = sender
            self.connection.trust_only(sender.sender_pid)
            hello = judge_hello(facts)
            self.version = choose_version(hello)
        self.timeline |= hello.took
        return hello

    def _check_launched(self, launched: Launched, outer: pidfds.Pids) -> None:
        """The pid that the launcher forked must be among those that the kernel knows for its pidfd (NSpid)."""
        if outer.outer_pid > 0 and launched.launched_pid not in outer.by_namespace:
            raise HelloError(f"the launcher's pid {launched.launched_pid} is not among {outer.by_namespace}")

    def _facts(self, message: FromChild, received: datagram.Datagram) -> Facts:
        pidfd_pid = pidfds.pids_of(received.pidfd).outer_pid if received.pidfd is not None else None
        chain: list[int] = []
        if self.half.has_helper and received.credentials:
            chain = pidfds.ancestors(received.credentials[0].sender_pid)
        return Facts(message, received.credentials, len(received.fds), pidfd_pid, chain)

    def _identity(self, launched: Launched, received: datagram.Datagram) -> int:
        """Return a pidfd of the child, owned by this launch.

        From the message where the kernel gives one. Else by number, with a second look: the number meant the child
        when the message came; if the process behind it still lives and is still that child, the pidfd is its.
        """
        if received.pidfd is not None:
            pidfd = os.dup(received.pidfd)
        else:
            pidfd = os.pidfd_open(received.credentials[0].sender_pid)
        self.fds.callback(os.close, pidfd)
        same = pidfds.pids_of(pidfd).outer_pid == received.credentials[0].sender_pid
        if not same or pidfds.has_ended(launched.pidfd) or pidfds.has_ended(pidfd):
            raise HelloError("the child ended while it was identified")
        return pidfd

    async def configure(self) -> None:
        """Stage 5: tell the child what to do, and the pid that it has outside."""
        process = self.process
        with self.stage(Stage.CONFIGURE):
            early = self._plugin() if process.load == "early" else None
            if self.meeting is not None:
                self.meeting.open(self.sender)
            message = Configure(
                version=self.version,
                outer_pid=self.connection.sender_pid,
                bpf=bind_pid(self.bpf, self.connection.sender_pid),
                listener=self._awaits_listener(),
                steps=tuple(step.to_run() for step in self.plan.steps),
                early=early,
                max_payload=process.max_payload,
                endpoint=self.meeting.endpoint if self.meeting is not None else "",
                log_level=initial_level(process.name, process.log_level),
            )
            self.steps.look_before(self.connection.sender_pid)
            await self.connection.send(message, [self.bundle.fd] if early else [])

    def _plugin(self) -> Plugin:
        return Plugin(self.bundle.module, self.bundle.attribute)

    async def await_initialised_and_sealed(self) -> None:
        """Stages 6 and 7, the child's: wait for each step with its deadline, then for the seal."""
        with self._protocol_error_is_of(Stage.SEAL):
            while not isinstance(message := await self._next_before_seal(), Sealed):
                pass
            if self._awaits_listener() and self.listener is None:
                raise PeerProtocolError("the child sealed itself without sending its listener")
            if doubt := landlock.doubt(message.landlock, self._landlock_abi()):
                raise PeerProtocolError(f"the child's word on its seal cannot be true: {doubt}")
        self.landlock = message.landlock
        self.timeline |= message.took
        if self.meeting is not None:
            self.meeting.hide()

    async def _next_before_seal(self) -> FromChild:
        with self.steps.deadline():
            message, received = await self.connection.receive()
        if isinstance(message, Listening) and self._awaits_listener() and self.listener is None:
            self.listener = received.take_fd()
            self.fds.callback(self._close_listener)
            return message
        received.expect_no_fd()
        if isinstance(message, (StepBegan, StepEnded)):
            self.steps.take(message)
        elif isinstance(message, StageFailed):
            raise failed(message)
        elif not isinstance(message, Sealed):
            raise PeerProtocolError(f"the child sent {type(message).__name__} instead of sealing itself")
        return message

    def _awaits_listener(self) -> bool:
        return bool(self.bpf) and self._listens()

    @contextmanager
    def _protocol_error_is_of(self, stage: Stage) -> Iterator[None]:
        """Give a protocol error of the waiting stage its number."""
        try:
            yield
        except PeerProtocolError as error:
            raise LaunchError(stage, 0, str(error)) from error

    def _close_listener(self) -> None:
        if self.listener is not None:
            os.close(self.listener)
            self.listener = None

    def hand_over_listener(self) -> int | None:
        """Return the listener's fd, which is the caller's from now on."""
        listener, self.listener = self.listener, None
        return listener

    async def verify(self) -> Protection:
        """Stage 8: stop the child, read from outside what is enforced, and let it go on.

        A shortfall is an error that names layer and thread.
        """
        pidfd = self.pidfd
        assert pidfd is not None  # stage 4 gave it
        expected = Expectation(
            self.half.name,
            self.promised,
            self.process.policy,
            rights_of(self.half, self.process.policy),
            self.landlock,
            self.process.require or (),
        )
        with self.stage(Stage.VERIFY), protection.stopped(pidfd):
            await self._await_still()
            found = protection.verify(outer_pid=self.connection.sender_pid, pidfd=pidfd, expected=expected)
            self.steps.look_at_seal(self.connection.sender_pid)
        if (short := found.shortfall()) is not None:
            text = f"the kernel does not show {short.layer.value}, which {self.half.name} promises: {short.detail}"
            raise ProtectionError(Stage.VERIFY, text, layer=short.layer, thread=short.thread)
        engaged = {status.layer: status.limit for status in found.layers if status.engaged}
        if below := below_floor(self.process, engaged, found.operations):
            raise LaunchError(Stage.VERIFY, 0, f"the sealed child is not held as foreseen: {below}")
        return found

    async def _await_still(self) -> None:
        """Wait until all threads of the child are stopped. One that does not stop, `protection.verify` names.

        Only waitid(2) would tell of it, which is for the process that launched the child.
        """
        for pause in protection.PAUSES:
            if protection.is_still(self.connection.sender_pid):
                return
            await anyio.sleep(pause)

    async def load(self, services: tuple[str, ...], descriptions: tuple[bytes, ...] = ()) -> None:
        """Stage 9: the seal holds; now, and not before, the child gets the plugin's code.

        A child that has ended instead may have said why; `await_ready` reads it.
        """
        with self.stage(Stage.LOAD), suppress(EndOfChannel):
            if self.process.load == "early":
                await self.connection.send(Load(None, services, descriptions))
            else:
                await self.connection.send(Load(self._plugin(), services, descriptions), [self.bundle.fd])

    async def await_ready(self, refusals: Callable[[], tuple[str, ...]]) -> Ready:
        """Stage 10: the plugin is loaded, calls may flow. *refusals* returns what the seal has refused so far."""
        with self.stage(Stage.READY):
            while True:
                with self.steps.deadline():
                    message, received = await self.connection.receive()
                received.expect_no_fd()
                if not isinstance(message, (StepBegan, StepEnded)):
                    break
                self.steps.take(message)
            if isinstance(message, StageFailed):
                if message.stage < Stage.LOAD:
                    raise PeerProtocolError(f"the sealed child says that stage {message.stage} failed")
                raise failed(message, refusals())
            if not isinstance(message, Ready):
                raise PeerProtocolError(f"the child sent {type(message).__name__} instead of being ready")
            try:
                unpack(message.description)
            except ValueUnfit as error:
                raise PeerProtocolError(f"the child describes its plugin wrongly: {error}") from None
        if (took := message.took.get(Stage.LOAD.label)) is not None:  # and nothing else: the plugin may have said it
            self.timeline[Stage.LOAD.label] = took
        return message

    def channel(self) -> Channel:
        """Return the channel of a child that is ready; it is closed with this launch."""
        sock = self.connection.sock
        channel = SocketChannel(sock, self.sender) if self.meeting is None else self.meeting.end(sock)
        self.fds.callback(channel.close)
        return channel

    def close(self) -> None:
        """Close what the launch still owns."""
        self.pidfd = None
        self.fds.close()


async def _in_thread(function: Callable[[], object]) -> None:
    """Run *function*, which blocks, in a thread, if one can be had."""
    try:
        await anyio.to_thread.run_sync(function, abandon_on_cancel=True)
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        raise StepFailed("start a thread", errno.EAGAIN, os.strerror(errno.EAGAIN)) from error


def _refused(stage: Stage, error: StepFailed) -> LaunchError:
    remedy = hint(error.step, error.errno)
    return LaunchError(stage, error.errno, f"{error}{f' ({remedy})' if remedy else ''}")


def failed(message: StageFailed, calls: tuple[str, ...] = ()) -> LaunchError:
    """Return the child's own report as an error, with what the seal refused, if that may be why.

    The imports are the child's word, the *calls* the kernel's.
    """
    step = message.text.removeprefix("could not ").partition(":")[0]
    remedy = hint(step, message.errno) if message.errno else ""
    said: list[str] = []
    if message.refused:
        advice = host_only(message.refused) or "preload it, or add it to files"
        said.append(f"after the seal it could not import {', '.join(message.refused)}; {advice}")
    if calls:
        said.append(f"the seal refused {some_of(calls)}")
    parts = [message.text, *(f"({part})" for part in (remedy, "; ".join(said)) if part)]
    return LaunchError(Stage(message.stage), message.errno, printable(" ".join(parts)))
