"""What a sealed child may do. A policy says nothing of how: backends and the filter compiler turn it into kernel rules.

A policy is a value. It is frozen, equal to its copy, prints itself, has a hash that is the same in every process, and
goes to TOML and back without loss. The default policy, ``Policy()``, allows a child to compute and to answer, on one
thread, and nothing else; each word ``allow_...`` returns a policy with one right more::

    Policy().allow_threads().allow_local_channels().allow_files("/srv/fonts").with_limits(memory="512MiB")

Rights that weaken a seal most also want a token of `belljar.sandbox.danger`, so that a reviewer can look for them.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import msgspec

from .danger import DEVICES, EXECUTABLE_MEMORY, Danger
from .errors import PolicyError
from .fields import misfit
from .policy_check import check_names, check_rules
from .quantities import format_size, parse_duration, parse_size

P = TypeVar("P", bound="Policy")
Family = Literal["unix", "inet", "inet6", "netlink"]
CovertChannel = Literal["keys", "locks", "vsock", "sysv-ipc", "posix-queues"]
Size = Annotated[
    int,
    msgspec.Meta(description="a number of bytes such as 64 << 20 (with_limits and TOML take text such as '64MiB')"),
]
WholeSeconds = Annotated[int, msgspec.Meta(description="a whole number of seconds such as 30")]

# Part of every hash. Raise it whenever a field is added or the meaning of one changes.
_HASH_VERSION: Final = 4
_LISTS: Final = ("read_only", "read_write", "devices", "network", "covert_channels", "syscalls", "danger")


def _check_types(struct: msgspec.Struct, place: str) -> None:
    if (wrong := misfit(struct)) is not None:
        raise PolicyError(f"{place}.{wrong.path()}: {wrong.text}")


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Resource limits of one child, None for none. Core dumps are always off. See setrlimit(2).

    Attributes:
        memory: Bytes of address space (RLIMIT_AS). Mapped but untouched memory counts, so leave room: a thread's stack
            alone maps 8 MiB, and its malloc arena up to 64 MiB.
        cpu: Seconds of processor time, over all threads (RLIMIT_CPU). The kernel then sends SIGKILL: soft and hard
            limit are equal, for pid 1 of a namespace ignores SIGXCPU.
        open_files: One more than the highest fd (RLIMIT_NOFILE).
        processes: RLIMIT_NPROC. Threads count, and the kernel counts per uid *and user namespace*, over all children
            that share both: a number that fits one child may starve a second. Hence None in every preset; a child
            that may not start processes is held by its filter instead.
        file_size: Bytes of the largest file that the child may write (RLIMIT_FSIZE); memfds, in which large results
            travel, count too.
    """

    memory: Size | None = None
    cpu: WholeSeconds | None = None
    open_files: int | None = None
    processes: int | None = None
    file_size: Size | None = None

    def __post_init__(self) -> None:
        _check_types(self, "policy.limits")

    @classmethod
    def from_table(cls, table: dict[str, Any], *, place: str = "limits") -> Self:
        """Make limits of a TOML table whose sizes may read ``"512MiB"`` and whose times ``"30s"``.

        Raises:
            PolicyError: An unknown key or an unusable value; *place* is put before the key.
        """
        check_names(table, tuple(_LIMIT_READERS), place=place)
        return cls(**{key: _read_limit(key, value, place) for key, value in table.items()})


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a sealed child may do; what is not named is refused.

    Attributes:
        read_only: Absolute paths of files and folders that the child may read.
        read_write: The same, for reading, writing, creating and deleting below them.
        devices: Absolute paths of device nodes below ``/dev`` that the child may open and use. Needs DEVICES.
        gpu: May command a GPU through a DRM node that is open: the ioctls of rendering, never those that set modes of a
            screen. The node is opened before the seal, or named under *devices*, which brings this too. Needs DEVICES.
        network: Socket families that the child may create. Sockets that it is given work without. All but ``unix``
            need the token NETWORK.
        subprocesses: May fork; with *read_only* or *read_write* may also execute what it can read.
        threads: May start threads. Those that run at the seal stay.
        executable_memory: May map memory as executable, as JIT compilers and dlopen() do. Needs EXECUTABLE_MEMORY.
        local_channels: May make pipes, eventfds, timerfds, epoll instances and AF_UNIX socket pairs that begin and end
            in the child, as asyncio needs.
        covert_channels: Ways for two sealed children to talk past the host: kernel ``keys``, file ``locks`` and leases
            (databases need them), ``vsock``, System V and POSIX IPC. Needs COVERT_CHANNELS.
        open_directories: May keep directories open that early init opened. Needs OPEN_DIRECTORIES, and goes with no
            file: that the filter refuses all opening is then what closes this way around an empty root.
        syscalls: Single calls by name that no other key grants. Needs SYSCALLS.
        danger: The tokens for the rights above that need one, and no others.
        limits: Resource limits.
    """

    read_only: tuple[str, ...] = ()
    read_write: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    gpu: bool = False
    network: tuple[Family, ...] = ()
    subprocesses: bool = False
    threads: bool = False
    executable_memory: bool = False
    local_channels: bool = False
    covert_channels: tuple[CovertChannel, ...] = ()
    open_directories: bool = False
    syscalls: tuple[str, ...] = ()
    danger: tuple[Danger, ...] = ()
    limits: Annotated[Limits, msgspec.Meta(description="Limits such as Limits(memory=1 << 30)")] = Limits()

    def __post_init__(self) -> None:
        _check_types(self, "policy")

    @classmethod
    def compute(cls) -> Self:
        """Computation: threads and an event loop inside; no files, network or sub-processes; no limits."""
        return cls().allow_threads().allow_local_channels()

    @classmethod
    def media(cls) -> Self:
        """Decoding of untrusted media: threads, memory, the fds it was given, time, and signals to itself.

        No file names, no socket but the one it has, no processes, not even an event loop. 1 GiB of address space,
        256 fds, files (memfds) of 256 MiB. ``limits.processes`` stays None because RLIMIT_NPROC counts per uid and
        user namespace, across children: one child's threads would use up another's.
        """
        return cls().allow_threads().with_limits(memory="1GiB", open_files=256, file_size="256MiB")

    @classmethod
    def graphics(cls, *, jit: bool = True) -> Self:
        """Rendering with a context that was made before the seal, by what the driver was seen to do once sealed.

        With *jit*, for llvmpipe, Mesa's renderer without a GPU: executable memory, for it compiles each shader when it
        first draws with it (without, it crashes), and nothing else. The threads that it has started go on.

        Without, for a GPU whose driver makes its code in the GPU's own memory: the ioctls of rendering, and threads,
        which such drivers start when a queue of theirs fills. Written from Mesa's source; not tried on a GPU.

        4 GiB of address space: llvmpipe starts two threads for each processor, and a child so has 0.6 GiB of it on 2
        processors and 1.5 GiB on 16 (llvmpipe counts no further), and the scene lives in it too.
        """
        limited = cls().with_limits(memory="4GiB", open_files=256, file_size="256MiB")
        return limited.allow_executable_memory(EXECUTABLE_MEMORY) if jit else limited.allow_threads().allow_gpu(DEVICES)

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return the preset called *name*, ``compute``, ``media`` or ``graphics``.

        Raises:
            PolicyError: There is none of that name.
        """
        presets = {"compute": cls.compute, "media": cls.media, "graphics": cls.graphics}
        check_names((name,), tuple(presets), place="policy", word="preset")
        return presets[name]()

    @classmethod
    def from_table(cls, table: dict[str, Any], *, place: str = "policy") -> Self:
        """Make a checked policy of a parsed TOML table.

        Raises:
            PolicyError: An unknown key, a wrong type, or a contradiction; *place* is put before the key.
        """
        check_names(table, cls.__struct_fields__, place=place)
        try:
            limits = msgspec.convert(table.get("limits", {}), dict[str, Any])
        except msgspec.ValidationError as error:
            hint = 'write it as a table, { memory = "512MiB" }'
            raise PolicyError(f"{place}.limits: {str(error).lower()}; {hint}") from error
        fields = {**table, "limits": Limits.from_table(limits, place=f"{place}.limits")}
        policy = _convert(cls, fields, place)
        check_rules(policy, place=place)
        return policy

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Read what `to_toml` wrote, or what a person did.

        Raises:
            PolicyError: Not TOML, an unknown key, a wrong type, or a contradiction.
        """
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise PolicyError(f"could not read the policy: {error}") from error
        return cls.from_table(table)

    def allow_threads(self) -> Self:
        """May start threads."""
        return self._with(threads=True)

    def allow_local_channels(self) -> Self:
        """May make pipes, eventfds, timerfds, epoll instances and socket pairs, as event loops do."""
        return self._with(local_channels=True)

    def allow_subprocesses(self) -> Self:
        """May fork; may execute what files it can read."""
        return self._with(subprocesses=True)

    def allow_files(self, *paths: str) -> Self:
        """May read the files and folders *paths*."""
        return self._with(read_only=_added(self.read_only, paths))

    def allow_files_read_write(self, *paths: str) -> Self:
        """May read, write, create and delete the files *paths* and what is below the folders among them."""
        return self._with(read_write=_added(self.read_write, paths))

    def allow_local_sockets(self) -> Self:
        """May make AF_UNIX sockets, and connect them to what has a name in its files."""
        return self._with(network=_added(self.network, "unix"))

    def allow_network(self, families: Family | tuple[Family, ...], danger: Danger) -> Self:
        """May make sockets of *families*: ``inet``, ``inet6`` or ``netlink``. The token is NETWORK."""
        return self._with(danger, network=_added(self.network, families))

    def allow_devices(self, paths: str | tuple[str, ...], danger: Danger) -> Self:
        """May open and use the device nodes *paths*. The token is DEVICES."""
        return self._with(danger, devices=_added(self.devices, paths))

    def allow_gpu(self, danger: Danger) -> Self:
        """May command a GPU through a node that early init has opened. The token is DEVICES."""
        return self._with(danger, gpu=True)

    def allow_executable_memory(self, danger: Danger) -> Self:
        """May make memory executable. The token is EXECUTABLE_MEMORY."""
        return self._with(danger, executable_memory=True)

    def allow_covert_channels(self, channels: CovertChannel | tuple[CovertChannel, ...], danger: Danger) -> Self:
        """May use *channels*, over which two children could talk past the host. The token is COVERT_CHANNELS."""
        return self._with(danger, covert_channels=_added(self.covert_channels, channels))

    def allow_open_directories(self, danger: Danger) -> Self:
        """May keep directories open that early init opened. The token is OPEN_DIRECTORIES."""
        return self._with(danger, open_directories=True)

    def allow_syscalls(self, names: str | tuple[str, ...], danger: Danger) -> Self:
        """May make the calls *names*, which no other word grants. The token is SYSCALLS."""
        return self._with(danger, syscalls=_added(self.syscalls, names))

    def with_limits(self, **limits: str | float | None) -> Self:
        """Replace the *limits* that are named, ``memory="512MiB"``; None takes one away."""
        given = {key: value for key, value in limits.items() if value is not None}
        read = msgspec.structs.asdict(Limits.from_table(given, place="policy.limits"))
        check_names(limits, tuple(read), place="policy.limits")
        return self._with(limits=msgspec.structs.replace(self.limits, **{key: read[key] for key in limits}))

    def _with(self, *danger: Danger, **changes: Any) -> Self:
        """Return a checked copy with *changes*, and with *danger* among its tokens."""
        changed = msgspec.structs.replace(self, danger=_added(self.danger, danger), **changes)
        changed.check()
        return changed

    def check(self) -> None:
        """Refuse a policy that contradicts itself or that no kernel rule can keep.

        Raises:
            PolicyError: Names the key, what is wrong with it, and the remedy.
        """
        for token in _bare_strings(self.danger):
            raise PolicyError(f"policy.danger: {token!r} is no Danger; import it from belljar.sandbox.danger")
        _convert(Policy, dict(_fields(self)), "policy")  # for the names in it
        check_rules(self, place="policy")

    def grants(self, right: str) -> bool:
        """Whether a sealed child has *right*, one of `belljar.sandbox.declaration.RIGHTS`, at least for some names."""
        return {
            "files": bool(self.read_only or self.read_write),
            "devices": bool(self.devices),
            "gpu": self.gpu or any(path.startswith("/dev/dri/") for path in self.devices),
            "network": bool({"inet", "inet6", "netlink"} & set(self.network)),
            "local-sockets": "unix" in self.network,
            "threads": self.threads,
            "subprocesses": self.subprocesses,
            "executable-memory": self.executable_memory,
        }[right]

    def hash(self) -> str:
        """Return 64 hex digits, the same for the same rights in every process, whatever their order or spelling."""
        fields = {key: sorted(set(value)) if key in _LISTS else value for key, value in _fields(self)}
        text = json.dumps([_HASH_VERSION, fields], sort_keys=True, separators=(",", ":"), default=msgspec.to_builtins)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def to_toml(self) -> str:
        """Write the policy as TOML that `from_toml` reads back as an equal policy.

        Raises:
            PolicyError: As `check` does.
        """
        self.check()
        lines = [f"{key} = {_toml(value)}" for key, value in _fields(self) if key != "limits"]
        limits = [f"{key} = {_toml(value)}" for key, value in _written_limits(self.limits)]
        return "\n".join([*lines, "", "[limits]", *limits, ""])

    def __str__(self) -> str:
        """Say in one line what is allowed, what is not, and the limits."""
        rights = [(_NAMES.get(key, key.replace("_", " ")), value) for key, value in _fields(self) if key != "limits"]
        allowed = [name if value is True else f"{name} {' '.join(value)}" for name, value in rights if value]
        refused = [f"no {name}" for name, value in rights if not value and name != "danger"]
        limits = [f"{key.replace('_', ' ')} {value}" for key, value in _written_limits(self.limits)]
        return "; ".join(", ".join(part) for part in (allowed, refused, limits) if part)


_NAMES: Final = {"syscalls": "extra syscalls"}


def _added(old: tuple[Any, ...], new: object) -> tuple[Any, ...]:
    """Return *old* with those of *new*, one or a tuple, that it lacks."""
    items: tuple[Any, ...] = new if isinstance(new, tuple) else (new,)
    return old + tuple(item for item in items if item not in old)


def _bare_strings(tokens: Any) -> list[str]:
    """Return those of *tokens* that say what a Danger says without being one: no import would show them."""
    return [token for token in tokens if type(token) is str] if isinstance(tokens, tuple) else []


def _fields(struct: msgspec.Struct) -> list[tuple[str, Any]]:
    return [(key, getattr(struct, key)) for key in struct.__struct_fields__]


def _convert(cls: type[P], fields: dict[str, Any], place: str) -> P:
    """Make a policy of *fields* with their types checked; Python itself checks none of them."""
    try:
        return msgspec.convert(msgspec.to_builtins(fields, builtin_types=(bytes, bytearray)), cls)
    except (msgspec.ValidationError, TypeError) as error:
        problem, _, where = str(error).partition(" - at `$")
        raise PolicyError(f"{place}{where.rstrip('`')}: {problem[:1].lower()}{problem[1:]}") from error


def _whole_seconds(value: str | float) -> int:
    seconds = parse_duration(value)
    if seconds != int(seconds):
        raise ValueError(f"expected whole seconds, which is all that RLIMIT_CPU counts, got {value!r}")
    return int(seconds)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"expected a whole number, got {value!r}")
    return value


_LIMIT_READERS: Final[dict[str, Callable[[Any], int]]] = {
    "memory": parse_size,
    "cpu": _whole_seconds,
    "open_files": _count,
    "processes": _count,
    "file_size": parse_size,
}
_LIMIT_WRITERS: Final[dict[str, Callable[[int], str | int]]] = {
    "memory": format_size,
    "cpu": "{}s".format,
    "open_files": int,
    "processes": int,
    "file_size": format_size,
}


def _written_limits(limits: Limits) -> list[tuple[str, str | int]]:
    return [(key, _LIMIT_WRITERS[key](value)) for key, value in _fields(limits) if value is not None]


def _read_limit(key: str, value: object, place: str) -> int:
    try:
        return _LIMIT_READERS[key](value)
    except (TypeError, ValueError) as error:
        raise PolicyError(f"{place}.{key}: {error}") from error


def _toml(value: Any) -> str:
    """Write one TOML value. JSON's strings and arrays are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
