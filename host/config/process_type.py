"""`Process`: one type of child, and the checks that need nothing but the file system.

A process type says what runs (the plugin), what is warmed up before the seal, and under which policy and limits.
It comes from a file through `belljar.host.config.load.load_config`, or is made in Python; both end in `check`, so both
answer bad input with the same `ConfigError`.
"""

from __future__ import annotations

import keyword
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from ...sandbox.errors import PolicyError, SandboxError
from ...sandbox.fields import Bytes, Seconds, misfit, shown
from ...sandbox.policy import Policy
from ...sandbox.user import resolve_user
from ..plan.find import CHANNEL_ZMQ, Planned, find_steps, with_loop
from ..plan.plan import Plan, make_plan
from ..plan.step import Step
from .files import MAX_NAME, existing, split_entry
from .place import Place, quoted

Load: TypeAlias = Literal["after-seal", "early"]
LOADS: tuple[str, ...] = ("after-seal", "early")

ChannelKind: TypeAlias = Literal["socket", "zmq"]
CHANNELS: tuple[str, ...] = ("socket", "zmq")

LogLevel: TypeAlias = Literal["host", "debug", "info", "warning", "error", "critical"]
LOG_LEVELS: tuple[str, ...] = ("host", "debug", "info", "warning", "error", "critical")

Unresponsive: TypeAlias = Literal["kill", "warn"]
UNRESPONSIVE: tuple[str, ...] = ("kill", "warn")

MAX_PAYLOAD = 1 << 40

_STEP = "Step('fonts', options={'files': ('a.ttf',)})"
Entry: TypeAlias = Annotated[str | Step, msgspec.Meta(description=f"a step's name, or a Step such as {_STEP}")]
Entries: TypeAlias = Annotated[
    tuple[Entry, ...], msgspec.Meta(description=f"a tuple of names and Steps such as ('asyncio', {_STEP})")
]


class Process(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One process type. Paths are relative to whatever folder `resolve` is given.

    A value of the wrong type is a `ConfigError` at once; all else is checked by `resolve` and at a launch. A list will
    do where a tuple is meant.

    Attributes:
        plugin: ``path/file.py:Class`` or ``path/package_folder:Class``.
        name: For people and logs; the class name in lower case if not given.
        load: ``after-seal`` (stage 9, the default) or ``early`` (stage 6, only for plugins that you trust).
        backend: How the child is confined; ``auto`` for the strongest that works here and meets ``require``.
        prefer: With ``auto``, the backends to try, in this order; not given, all that confine, strongest first.
        require: The floor: layers, operations and groups of operations that must be enforced
            (`belljar.sandbox.protection.operations`). Not given, ``auto`` asks for a seccomp filter and no_new_privs.
        run_as: Whom a root host's children run as: a user's name or ``UID:GID``. Not given, root's children become
            ``nobody``; to let them stay root takes the word ``root``.
        policy: What the child may do once it is sealed.
        preload: Modules to import before the seal.
        early_init: Steps to take before the seal: names of steps that ship or that a package declares,
            ``file.py:function``, or a `Step` with options. This code is trusted. See docs/early-init.md.
        force_plan: Launch even though the plan is refused, to see what becomes of it; what speaks against it is logged.
        channel: What calls travel over: ``socket``, which host and child have between them anyway, or ``zmq``, which
            the step ``channel-zmq`` connects. See docs/protocol.md.
        launch_timeout: Seconds from the start of a launch until the child is ready.
        step_timeout: Seconds that an early-init step may take that declares no deadline; at most ``launch_timeout``.
        files: More files and folders that the plugin finds beside its own.
        env: The child's environment, on top of the few variables that every child gets.
        call_timeout: Seconds that a call may take, if it says nothing itself; of a stream, that each item may take.
            None, in TOML ``"none"``: for ever.
        cancel_grace: Seconds that a child has to end a call that was given up.
        unresponsive: What becomes of a child that does not: ``kill`` or ``warn``.
        log_level: From which level on the child's ``logging`` reaches the host's; ``host`` is the level that the
            application has set for the logger ``belljar.child.<name>`` by the launch. See docs/logging.md.
        max_payload: Bytes that one argument list, one result or one attachment may have.
        shared_memory: Bytes of shared memory in each direction, at most, through which large ones travel. What does not
            fit takes a slower way. 0: all of them do.
    """

    plugin: Annotated[str, msgspec.Meta(description="a str such as 'thumbnailer.py:Thumbnailer'")]
    name: str = ""
    load: Load = "after-seal"
    backend: str = "namespaces"
    prefer: tuple[str, ...] | None = None
    require: tuple[str, ...] | None = None
    run_as: str = ""
    policy: Annotated[Policy, msgspec.Meta(description="a Policy such as Policy.media()")] = Policy.compute()
    preload: tuple[str, ...] = ()
    early_init: Entries = ()
    force_plan: bool = False
    channel: ChannelKind = "socket"
    launch_timeout: Seconds = 10.0
    step_timeout: Seconds = 10.0
    files: tuple[str, ...] = ()
    env: dict[str, str] = {}
    call_timeout: Seconds | None = 30.0
    cancel_grace: Seconds = 1.0
    unresponsive: Unresponsive = "kill"
    log_level: LogLevel = "host"
    max_payload: Bytes = 64 << 20
    shared_memory: Bytes = 256 << 20

    def __post_init__(self) -> None:
        for key in ("prefer", "require", "preload", "early_init", "files"):
            if isinstance(listed := getattr(self, key), list):
                msgspec.structs.force_setattr(self, key, tuple(listed))
        if (wrong := misfit(self)) is not None:
            has_name = {type(self.name), type(self.plugin)} == {str}
            source = f"process {self.name or self.attribute.lower()}" if has_name else "process"
            raise Place(source).at(*wrong.keys).error(wrong.text)
        if not self.name:
            msgspec.structs.force_setattr(self, "name", self.attribute.lower())

    @property
    def path(self) -> Path:
        """The plugin's file or package folder."""
        return Path(self.plugin.rpartition(":")[0])

    @property
    def module(self) -> str:
        """The name under which the child imports the plugin."""
        return self.path.stem if self.path.suffix == ".py" else self.path.name

    @property
    def attribute(self) -> str:
        """The name of the plugin's class."""
        return self.plugin.rpartition(":")[2]

    def resolve(self, base: Path | None = None) -> Process:
        """Return this process type with absolute paths (relative ones start at *base*, by default the current folder).

        Nothing of the plugin is run, and its text is not even parsed: see `belljar.host.bundle`.

        Raises:
            ConfigError: Something named here does not exist, cannot be used, or contradicts something else.
        """
        return check(self, base or Path(), Place(f"process {self.name}"))


def expect_process(process: object) -> None:
    """Raise `TypeError` unless *process* is a process type: for what is handed to a host."""
    if not isinstance(process, Process):
        expected = "a Process such as Process(plugin='thumbnailer.py:Thumbnailer') or load_config(file).process(name)"
        raise TypeError(f"expected {expected}, got {shown(process)}")


def check(process: Process, base: Path, place: Place) -> Process:
    """Return *process* with absolute paths, or raise the `ConfigError` that says what is wrong at *place*."""
    _check_values(process, place)
    plugin = _plugin(process, base, place.at("plugin"))
    steps = find_steps(process.preload, process.early_init, base, place)
    files = [str(existing(place.at("files"), base, entry)) for entry in process.files]
    resolved = msgspec.structs.replace(
        process,
        plugin=plugin,
        early_init=tuple(step.entry for step in steps[len(process.preload) :]),
        files=tuple(files),
        step_timeout=min(process.step_timeout, process.launch_timeout),
    )
    _check_origins(resolved, steps, place)
    return resolved


def _check_backend(process: Process, place: Place) -> None:
    """Imported late: ``--help`` and a Process made in Python need none of it."""
    from ...sandbox.backends import names
    from ...sandbox.protection.operations import requirement_names

    choice(place.at("backend"), "backend", process.backend, ("auto", *names()))
    for name in process.prefer or ():
        choice(place.at("prefer"), "backend", name, names())
    for name in process.require or ():
        choice(place.at("require"), "layer or operation", name, requirement_names())
    if process.prefer is not None and process.backend != "auto":
        raise place.at("prefer").error(
            f"it only counts with backend = 'auto', and backend is {quoted(process.backend)}"
        )
    if twice := next((name for name in process.prefer or () if (process.prefer or ()).count(name) > 1), ""):
        raise place.at("prefer").error(f"{quoted(twice)} stands in it twice")
    if process.prefer == ():
        raise place.at("prefer").error("expected at least one backend, or no such key")


def with_backend(process: Process, backend: str, place: Place) -> Process:
    """Return *process* with another backend; ``prefer`` goes where it would mean nothing, and ``require`` stays."""
    from ...sandbox.backends import names

    choice(place, "backend", backend, ("auto", *names()))
    prefer = process.prefer if backend == "auto" else None
    return msgspec.structs.replace(process, backend=backend, prefer=prefer)


def choice(place: Place, what: str, value: str, valid: tuple[str, ...]) -> None:
    """Raise the error with the nearest valid name unless *value* is one of *valid*."""
    if value not in valid:
        raise place.unknown(what, value, valid)


def _check_values(process: Process, place: Place) -> None:
    choice(place.at("load"), "way to load", process.load, LOADS)
    _check_channel(process.channel, place.at("channel"))
    _check_backend(process, place)
    if not process.name.isprintable() or "/" in process.name or not 0 < len(process.name) <= 64:
        raise place.error(f"expected a name of 1 to 64 printable characters without '/', got {quoted(process.name)}")
    choice(place.at("log_level"), "level", process.log_level, LOG_LEVELS)
    choice(place.at("unresponsive"), "answer", process.unresponsive, UNRESPONSIVE)
    for key in ("launch_timeout", "step_timeout", "call_timeout", "cancel_grace"):
        seconds: float | None = getattr(process, key)
        if seconds is not None and not 0 < seconds < float("inf"):
            raise place.at(key).error(f"expected more than 0 seconds, got {seconds:g}")
    if not 0 < process.max_payload <= MAX_PAYLOAD:
        raise place.at("max_payload").error(f"expected 1 byte to 1TiB, got {process.max_payload}")
    if not 0 <= process.shared_memory <= MAX_PAYLOAD:
        raise place.at("shared_memory").error(f"expected 0 bytes to 1TiB, got {process.shared_memory}")
    for module in process.preload:
        if len(module) > MAX_NAME or not all(part.isidentifier() for part in module.split(".")):
            raise place.at("preload").error(f"expected the name of a module such as 'PIL.Image', got {quoted(module)}")
    _check_env(process.env, place.at("env"))
    _check_user(process.run_as, place.at("run_as"))
    try:
        process.policy.check()
    except PolicyError as error:
        raise place.at("policy").error(str(error)) from None


def _check_channel(channel: str, place: Place) -> None:
    if channel == "memory":
        raise place.error("'memory' would seal nothing, so no process type can have it; a test uses MemoryHost instead")
    choice(place, "channel", channel, CHANNELS)
    if channel == "zmq" and find_spec("zmq") is None:
        raise place.error("'zmq' needs pyzmq: install belljar[zmq]")


def _check_user(run_as: str, place: Place) -> None:
    try:
        resolve_user(run_as)
    except SandboxError as error:
        raise place.error(str(error).partition(": ")[2]) from None


def _check_env(env: dict[str, str], place: Place) -> None:
    for name, value in env.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise place.at(name).error("expected a name without '=' and a value, neither with a null character")


def _plugin(process: Process, base: Path, place: Place) -> str:
    entry, attribute = split_entry(process.plugin, place, "a plugin such as 'thumbnailer.py:Thumbnailer'")
    path = existing(place, base, entry)
    if path.is_dir():
        if not (path / "__init__.py").is_file():
            raise place.error(f"expected a package, but {quoted(str(path))} has no __init__.py")
    elif path.suffix != ".py" or not path.is_file():
        raise place.error(f"expected a .py file or a package's folder, got {quoted(str(path))}")
    check_module_name(place, path.stem if path.is_file() else path.name)
    return f"{path}:{attribute}"


def check_module_name(place: Place, name: str) -> None:
    """Raise unless a child can import *name* from a bundle: an ASCII identifier that Python does not use itself."""
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name):
        raise place.error(f"expected a file name that Python can import, got {quoted(name)}")
    if name in sys.stdlib_module_names or name == "belljar":
        raise place.error(f"the name {quoted(name)} belongs to a module of Python or belljar: rename the file")


def _check_origins(process: Process, steps: Sequence[Planned], place: Place) -> None:
    """Refuse what would run the code of a sealed plugin before the seal, by mistake or by a shared name."""
    for module in process.preload:
        if module.partition(".")[0] == process.module:
            raise place.at("preload").error(
                f"{quoted(module)} has the name of the plugin's own module: rename the file"
            )
    if process.load == "early":
        return
    bundled = [path.resolve() for path in (process.path, *map(Path, process.files))]
    for step in steps:
        if any(step.declared.file.resolve().is_relative_to(path) for path in bundled):
            raise place.at("early_init").error(
                f"{quoted(step.name)} belongs to the plugin and would run before the seal: "
                "move it, or set load = 'early'"
            )


def plan_of(process: Process) -> Plan:
    """Return the plan of a resolved *process*: its steps in their order.

    Raises:
        PlanError: what they declare of each other has no order.
        ConfigError: a file has changed since the process type was resolved.
    """
    place = Place(f"process {process.name}")
    preload = with_loop(process.preload, process.early_init)
    steps = (Step(CHANNEL_ZMQ), *process.early_init) if process.channel == "zmq" else process.early_init
    return make_plan(preload, steps, Path("/"), place, env=bool(process.env))
