"""What a sealed child may do. A policy says nothing of how: backends and the filter compiler turn it into kernel rules.

A policy is a value. It is frozen, equal to its copy, prints itself, has a hash that is the same in every process, and
goes to TOML and back without loss. The default policy, ``Policy()``, allows a child to compute and to answer, on one
thread, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable
from typing import Any, Final, Literal, Self, TypeVar

import msgspec

from .errors import PolicyError
from .policy_check import check_names, check_rules
from .quantities import format_size, parse_duration, parse_size

P = TypeVar("P", bound="Policy")
Family = Literal["unix", "inet", "inet6", "netlink"]

# Part of every hash. Raise it whenever a field is added or the meaning of one changes.
_HASH_VERSION: Final = 1
_LISTS: Final = ("read_only", "read_write", "devices", "network")


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

    memory: int | None = None
    cpu: int | None = None
    open_files: int | None = None
    processes: int | None = None
    file_size: int | None = None

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
        devices: Absolute paths of device nodes below ``/dev`` that the child may open and use.
        network: Socket families that the child may create. Sockets that it is given work without.
        subprocesses: May fork; with *read_only* or *read_write* may also execute what it can read.
        threads: May start threads. Those that run at the seal stay.
        executable_memory: May map memory as executable, as JIT compilers and dlopen() do.
        local_channels: May make pipes, eventfds, timerfds, epoll instances and AF_UNIX socket pairs that begin and end
            in the child, as asyncio needs.
        limits: Resource limits.
    """

    read_only: tuple[str, ...] = ()
    read_write: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    network: tuple[Family, ...] = ()
    subprocesses: bool = False
    threads: bool = False
    executable_memory: bool = False
    local_channels: bool = False
    limits: Limits = Limits()

    @classmethod
    def compute(cls) -> Self:
        """Computation: threads and an event loop inside; no files, network or sub-processes; no limits."""
        return cls(threads=True, local_channels=True)

    @classmethod
    def media(cls) -> Self:
        """Decoding of untrusted media: threads, memory, the fds it was given, time, and signals to itself.

        No file names, no socket but the one it has, no processes, not even an event loop. 1 GiB of address space,
        256 fds, files (memfds) of 256 MiB. ``limits.processes`` stays None because RLIMIT_NPROC counts per uid and
        user namespace, across children: one child's threads would use up another's.
        """
        return cls(threads=True, limits=Limits(memory=1 << 30, open_files=256, file_size=256 << 20))

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return the preset called *name*, ``compute`` or ``media``.

        Raises:
            PolicyError: There is none of that name.
        """
        presets = {"compute": cls.compute, "media": cls.media}
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

    def check(self) -> None:
        """Refuse a policy that contradicts itself or that no kernel rule can keep.

        Raises:
            PolicyError: Names the key, what is wrong with it, and the remedy.
        """
        if _convert(Policy, dict(_fields(self)), "policy") != self:
            raise PolicyError("policy: paths and families must be tuples of str; write read_only=('/srv/fonts',)")
        check_rules(self, place="policy")

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
        rights = [(key.replace("_", " "), value) for key, value in _fields(self) if key != "limits"]
        allowed = [name if value is True else f"{name} {' '.join(value)}" for name, value in rights if value]
        refused = [f"no {name}" for name, value in rights if not value]
        limits = [f"{key.replace('_', ' ')} {value}" for key, value in _written_limits(self.limits)]
        return "; ".join(", ".join(part) for part in (allowed, refused, limits) if part)


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
