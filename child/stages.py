"""The child's stages in their order: 3 confine early, 4 hello, 5 configure, 6 early init, 7 seal, 9 load, 10 ready.

Stages 1, 2 and 8 are the host's (`belljar.host.stages`). Nothing of the plugin runs before the host has said, after
stage 8, that the seal holds; only ``load = "early"``, for plugins that the user calls trusted, moves it to stage 6.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TextIO, TypeVar

from ..ipc.channel.base import Channel, EndOfChannel
from ..ipc.channel.over_socket import SocketChannel
from ..ipc.datagram import Datagram, close_all
from ..ipc.errors import PeerProtocolError
from ..ipc.frames import LogLevels
from ..ipc.interface.adapters import load_adapters
from ..ipc.interface.fitting import pack
from ..ipc.messages import (
    HIGHEST,
    LOWEST,
    Configure,
    Hello,
    Listening,
    Load,
    Plugin,
    Ready,
    Sealed,
    StageFailed,
    shorten,
)
from ..ipc.payload import read_sealed
from ..ipc.peer.records import Answer
from ..ipc.stage import Stage
from ..sandbox.backends import child_half
from ..sandbox.backends.namespaces import ChildSide as NamespacesChild
from ..sandbox.base import Birth, ChildHalf
from ..sandbox.confine import reset_signals
from ..sandbox.errors import SandboxError
from ..sandbox.launch.forked import await_birth, leave_the_zygote
from ..sandbox.seccomp.install import install
from ..sandbox.steps import StepFailed
from . import warm
from .bundle import BundleImporter, load_attribute
from .dispatch import NO_LOOP, BlockingChild, make_peer, plugin_answers
from .early_init import EarlyInit
from .errors_as_text import class_name, describe, text_of
from .link import HostGone, Link
from .log_records import LogRecords, set_levels
from .refused import RefusedImports
from .services import Services, offer
from .step import CHANNEL_ZMQ, StepError, handed, scene

if TYPE_CHECKING:
    from .on_loop import ChildOnLoop

MAX_ERRNO = 4095
"""The largest number of an error that a kernel can return, and that a `StageFailed` may have."""

P = TypeVar("P", bound="BlockingChild | ChildOnLoop")


class StageError(Exception):
    """A stage failed; ``errno`` is 0 where the kernel had no part in it."""

    def __init__(self, stage: Stage, number: int, text: str) -> None:
        super().__init__(text)
        self.stage = stage
        self.errno = number


def run_isolated(link_fd: int, share_network: bool) -> NoReturn:
    """Be a child that a zygote with namespaces forked: isolate before the birth, which may come much later."""
    link = socket.socket(fileno=link_fd)
    half = NamespacesChild(link)
    half.isolate(share_network)
    birth, control_fd = _be_born(link)
    run(birth, control_fd, half)


def run_forked(link_fd: int, share_network: bool) -> NoReturn:
    """Be a child that a plain zygote forked: which backend it has, its birth says."""
    leave_the_zygote(link_fd)
    link = socket.socket(fileno=link_fd)
    birth, control_fd = _be_born(link)
    run(birth, control_fd, child_half(birth.backend, link))


def _be_born(link: socket.socket) -> tuple[Birth, int]:
    """Wait for the birth; return it and the control channel's fd. A spare that nobody needed exits."""
    born = await_birth(link)
    if born is None:
        os._exit(0)
    birth, (control_fd, stdout, stderr) = born
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    close_all((stdout, stderr))
    return birth, control_fd


def run_executed(birth: Birth, control_fd: int) -> NoReturn:
    """Be a child that the guard started by exec."""
    reset_signals()  # the guard ignores some, and what is ignored stays so over an exec, signal(7)
    warm.standard_library()  # as a zygote does, before stage 3: it reads files, and starts no thread
    run(birth, control_fd, child_half(birth.backend, None))


def run(birth: Birth, control_fd: int, half: ChildHalf) -> NoReturn:
    """Take the stages, serve calls, exit. Owns *control_fd*."""
    child = Child(birth, Link(control_fd), half)
    code = 1
    try:
        child.take_stages()
        code = 0
    except StageError as error:
        child.report(error)
    except (HostGone, EndOfChannel):
        code = 0
    except BaseException as error:  # noqa: BLE001 - nobody else would say why the child ends
        _print_last(error, without_files=child.refused.is_watching)
    finally:
        _leave(code)


def _print_last(error: BaseException, *, without_files: bool) -> None:
    """Write the traceback of *error* to stderr itself: the plugin may have replaced or closed `sys.stderr`."""
    _, trace = describe(error, without_files=without_files)
    with suppress(OSError):
        os.write(2, shorten(trace, 8192).encode())


def _leave(code: int) -> NoReturn:
    """Exit without the interpreter's own end: a zygote's objects live in this process too and must not act."""
    try:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # the host no longer reads, or the plugin closed it, or has put another there
                stream.flush()
    finally:
        os._exit(code)


class Child:
    """What the stages hand on to each other."""

    def __init__(self, birth: Birth, link: Link, half: ChildHalf) -> None:
        self.birth = birth
        self.link = link
        self.half = half
        self.took: dict[str, float] = {}
        self.refused = RefusedImports()
        self.log = LogRecords(self.refused)
        self.methods: dict[str, Answer] = {}

    def take_stages(self) -> None:
        """Take the stages in the order of docs/launch-order.md, then serve."""
        self.confine_early()
        self.say_hello()
        configuration, received = self.await_configuration()
        self.early_init(configuration, received)
        self.seal(configuration)
        if scene.loop is None:
            peer = self.get_ready(make_peer, configuration)
            peer.serve()
            self.leave(peer)
        else:
            scene.loop.run_until_complete(self._serve_on_loop(configuration))

    async def _serve_on_loop(self, configuration: Configure) -> None:
        from .on_loop import make_peer  # by the step asyncio, before the seal: other children have no asyncio

        peer = self.get_ready(make_peer, configuration)
        await peer.serve()
        self.leave(peer)

    def leave(self, peer: BlockingChild | ChildOnLoop) -> None:
        """Send what is still to be sent, and hang up."""
        self.log.drain(wait=True)
        peer.channel.close()

    def get_ready(self, make: Callable[..., P], configuration: Configure) -> P:
        """Stages 9 and 10; return the peer to serve with."""
        services = self.load()
        channel: Channel = handed(CHANNEL_ZMQ) if configuration.endpoint else SocketChannel(self.link.sock)
        services.peer = peer = make(channel, self.methods, self.refused, services, configuration.max_payload)
        peer.on(LogLevels, set_levels)
        peer.idle = partial(self.log.drain, wait=scene.loop is None)
        self.ready()
        self.log.flow(peer)
        self.log.drain(wait=True)
        return peer

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Time the block, and turn whatever it raises into a `StageError` with the stage's number."""
        began = time.perf_counter()
        try:
            yield
        except HostGone:
            raise
        except StepFailed as error:
            raise StageError(stage, error.errno, str(error)) from error
        except OSError as error:
            raise StageError(stage, _errno(error), _sentence(error)) from error
        except MemoryError as error:
            raise StageError(stage, errno.ENOMEM, _sentence(error)) from error
        except BaseException as error:
            raise StageError(stage, 0, _sentence(error)) from error
        self.took[stage.label] = self.took.get(stage.label, 0.0) + (time.perf_counter() - began) * 1000

    def report(self, error: StageError) -> None:
        """Tell the host which stage failed. It may be gone."""
        self.log.print_kept()
        message = StageFailed(error.stage, error.errno, shorten(str(error), 4096), self.refused.take())
        try:
            self.link.send(message)
        except HostGone:
            return

    def confine_early(self) -> None:
        """Stage 3: all that needs a single thread."""
        with self.stage(Stage.CONFINE_EARLY):
            self.half.confine_early(self.birth)
            os.environ.update(self.birth.env)  # after what a helper says in variables, which it must not cover
            # New objects: a zygote's remember that its own fds were files that seek, and the child's are pipes.
            sys.stdout, sys.stderr = _text_stream(1), _text_stream(2)
            faulthandler.enable()  # a crash in C leaves its Python stack in the last lines of stderr

    def say_hello(self) -> None:
        """Stage 4: only the credentials that the kernel adds count; the pid in it is for the logs."""
        self.link.send(Hello(LOWEST, HIGHEST, os.getpid(), self.took))

    def await_configuration(self) -> tuple[Configure, Datagram]:
        """Stage 5: the host has believed the hello and says what to do, and which pid this process has outside."""
        with self.stage(Stage.CONFIGURE):
            message, received = self.link.receive()
            if not isinstance(message, Configure):
                raise PeerProtocolError(f"the host sent {type(message).__name__} instead of a configuration")
            if not LOWEST <= message.version <= HIGHEST:
                raise PeerProtocolError(f"the host chose version {message.version}, which was not offered")
            os.environ["BELLJAR_OUTER_PID"] = str(message.outer_pid)
            return message, received

    def early_init(self, configuration: Configure, received: Datagram) -> None:
        """Stage 6: what needs files, devices or threads, while this process is still trusted."""
        with self.stage(Stage.EARLY_INIT):
            warm.standard_library()
            self.log.install(configuration.log_level)
            scene.endpoint, scene.control = configuration.endpoint, self.link.sock
            self.steps = EarlyInit(self.link, configuration.steps, self.birth.policy)
            self.steps.run()
            load_adapters()
            if configuration.early is not None:
                self._load(configuration.early, received)

    def seal(self, configuration: Configure) -> None:
        """Stage 7: what must rest is stopped, no directory left open, the root emptied, the filter on every thread."""
        listener: int | None = None
        with self.stage(Stage.SEAL):
            self.steps.quiesce()
            if configuration.bpf and not self.birth.policy.open_directories:
                refuse_directories()
            landlock = self.half.take_files()
            if configuration.bpf:
                listener = install(configuration.bpf, listener=configuration.listener)
                self.refused.watch()
        if listener is not None:
            with self.stage(Stage.SEAL):  # ETOOMANYREFS: another process of this user keeps all fds from being sent
                self.link.send(Listening(), [listener])
            os.close(listener)
        self.link.send(Sealed(self.took, landlock))

    def load(self) -> Services:
        """Stage 9: what rested goes on, late steps, then the plugin's own code; the host has verified the seal."""
        message, received = self.link.receive()
        with self.stage(Stage.LOAD):
            if not isinstance(message, Load):
                raise PeerProtocolError(f"the host sent {type(message).__name__} instead of the plugin")
            self.steps.resume()
            self.steps.run(late=True)
            services = Services(message.services, message.descriptions)
            offer(services)
            if message.plugin is not None:
                self._load(message.plugin, received)
        return services

    def ready(self) -> None:
        """Stage 10: calls may flow."""
        took = {Stage.LOAD.label: self.took.get(Stage.LOAD.label, 0.0)}
        methods = {name: answer.declared for name, answer in self.methods.items()}
        with self.stage(Stage.LOAD):
            description = pack("plugin", methods)
        self.link.send(Ready(tuple(methods)[:64], took, scene.loop is not None, description))

    def _load(self, plugin: Plugin, received: Datagram) -> None:
        importer = BundleImporter(read_sealed(received.take_fd(), 1 << 30))
        try:
            factory = load_attribute(importer, plugin.module, plugin.attribute)
        except ModuleNotFoundError as error:
            if error.name == "asyncio" and scene.loop is None:
                raise ImportError(f"it imports asyncio, {NO_LOOP}") from error
            raise
        if not callable(factory):
            raise TypeError(f"{plugin.module}.py: {plugin.attribute} is not a class")
        self.methods = plugin_answers(factory(), on_loop=scene.loop is not None)


def _text_stream(fd: int) -> TextIO:
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def refuse_directories() -> None:
    """Raise if a directory is open: its fd would lead around an empty root. See openat(2)."""
    for name in os.listdir("/proc/self/fd"):
        try:
            mode = os.fstat(int(name)).st_mode
        except OSError:  # the fd of the listing itself
            continue
        if stat.S_ISDIR(mode):
            path = os.readlink(f"/proc/self/fd/{name}")
            raise SandboxError(f"early init left the directory {path} open as fd {name}; close it before the seal")


def _errno(error: OSError) -> int:
    """Return the number of *error*, 0 if it has none that a kernel could have said: a plugin may raise one, too."""
    number: object = error.errno
    return number if type(number) is int and 0 <= number <= MAX_ERRNO else 0


def _sentence(error: BaseException) -> str:
    """Return what went wrong, with the early-init step or the plugin's line where there is one."""
    try:
        return _in_words(error)
    except BaseException:  # noqa: BLE001 - the error is foreign code, see errors_as_text
        return f"{class_name(error)}: {text_of(error)}"


def _in_words(error: BaseException) -> str:
    notes = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))
    if isinstance(error, SystemExit):
        return f"{notes}it called exit({error.code!r})"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{notes}{error.filename}:{error.lineno}: {error.msg}"
    if isinstance(error, (StepError, StepFailed, SandboxError, PeerProtocolError)):
        return f"{notes}{error}"
    text = str(error)
    return f"{notes}{_place(error)}{type(error).__name__}{f': {text}' if text else ''}"


def _place(error: BaseException) -> str:
    """Return ``file:line: `` of the innermost frame of the plugin, if the error came through one."""
    place, trace = "", error.__traceback__
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        if filename.startswith("<bundle>/"):
            place = f"{filename}:{trace.tb_lineno}: "
        trace = trace.tb_next
    return place
