"""What is really enforced on a child, read back by the host from outside. Stage 8.

A child that says "I am sealed" proves nothing, and a library call that returned success only little more. So the
host reads /proc/PID of the process that its pidfd holds, for *every thread*: seccomp filters, no_new_privs,
capabilities and even namespaces belong to a thread, not to a process (proc_pid_status(5), namespaces(7),
credentials(7)), and one thread that escaped is enough. Reading ``ns`` and ``root`` of another process asks for
ptrace access (ptrace(2), PTRACE_MODE_READ): the host has it as the owner of the child's user namespace, as long as
the child is dumpable. The numbers in /proc mean the right process only while the pidfd shows that it lives, so it is
looked at once more in the end.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..ipc import pidfds
from .errors import SandboxError
from .layers import Layer
from .policy import Limits, Policy

_NAMESPACES = {
    Layer.USER_NS: "user",
    Layer.PID_NS: "pid",
    Layer.NET_NS: "net",
    Layer.IPC_NS: "ipc",
    Layer.MOUNT_NS: "mnt",
    Layer.UTS_NS: "uts",
    Layer.CGROUP_NS: "cgroup",
}
_CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


@dataclass(frozen=True, slots=True)
class LayerStatus:
    """One layer: whether the backend promised it, whether the kernel shows it, and what the kernel says.

    ``thread`` is the tid of a thread that lacks the layer, if some have it and some do not.
    """

    layer: Layer
    promised: bool
    engaged: bool
    detail: str
    thread: int | None = None


@dataclass(frozen=True, slots=True)
class Protection:
    """All layers of one child as read from outside, and over how many threads."""

    layers: tuple[LayerStatus, ...]
    threads: int
    notes: tuple[str, ...] = ()

    def shortfall(self) -> LayerStatus | None:
        """Return the first layer that was promised and is not there."""
        return next((status for status in self.layers if status.promised and not status.engaged), None)

    def engaged(self) -> frozenset[Layer]:
        """Return the layers that the kernel shows."""
        return frozenset(status.layer for status in self.layers if status.engaged)

    def as_json(self) -> dict[str, object]:
        """Return plain values for a machine to read."""
        layers = [
            {
                "layer": status.layer.value,
                "promised": status.promised,
                "engaged": status.engaged,
                "detail": status.detail,
                "thread": status.thread,
            }
            for status in self.layers
        ]
        return {"threads": self.threads, "layers": layers, "notes": list(self.notes)}

    def __str__(self) -> str:
        lines = [f"{_mark(status):<9} {status.layer.value:<17} {status.detail}" for status in self.layers]
        return "\n".join([*lines, *(f"note      {note}" for note in self.notes)])


def _mark(status: LayerStatus) -> str:
    if status.engaged:
        return "engaged"
    return "MISSING" if status.promised else "-"


@dataclass(frozen=True, slots=True)
class _Thread:
    tid: int
    status: Mapping[str, str]
    namespaces: Mapping[str, str]
    root: tuple[int, int]
    cwd: tuple[int, int]


@dataclass(slots=True)
class _Reading:
    """What /proc says of one process."""

    threads: list[_Thread]
    limits: Mapping[str, str]
    fds: Mapping[int, str]
    directories: Mapping[int, str]
    entries: list[str]
    root_is_read_only: bool
    own: Mapping[str, str] = field(default_factory=dict)


def verify(*, outer_pid: int, pidfd: int, promised: frozenset[Layer], policy: Policy) -> Protection:
    """Read what is enforced on the process that *pidfd* holds and that is *outer_pid* here; own neither.

    Raises:
        SandboxError: the process ended meanwhile, or /proc of it cannot be read.
    """
    try:
        reading = _read(outer_pid)
    except OSError as error:
        raise SandboxError(f"could not read the protection of process {outer_pid}: {error.strerror}") from error
    if pidfds.has_ended(pidfd):
        raise SandboxError(f"process {outer_pid} ended while its protection was read")
    layers = tuple(_judge(layer, layer in promised, reading, policy) for layer in Layer)
    return Protection(layers, len(reading.threads), _notes(reading, promised))


def _read(outer_pid: int) -> _Reading:
    base = f"/proc/{outer_pid}"
    found = [_read_thread(f"{base}/task/{tid}", int(tid)) for tid in os.listdir(f"{base}/task")]
    threads = [thread for thread in found if thread is not None]
    if not threads:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    fds = {int(fd): _link(f"{base}/fd/{fd}") for fd in os.listdir(f"{base}/fd")}
    return _Reading(
        threads=threads,
        limits=_limits(Path(f"{base}/limits").read_text()),
        fds=fds,
        directories={fd: name for fd, name in fds.items() if os.path.isdir(f"{base}/fd/{fd}")},
        entries=_entries(f"{base}/root/"),
        root_is_read_only=bool(os.statvfs(f"{base}/root/").f_flag & os.ST_RDONLY),
        own={name: _link(f"/proc/self/ns/{name}") for name in _NAMESPACES.values()},
    )


def _read_thread(base: str, tid: int) -> _Thread | None:
    """Return what a thread is confined by, None if it has ended since it was listed.

    A thread that begins after the listing inherits all of this from one that was read.
    """
    status: dict[str, str] = {}
    try:
        for line in Path(f"{base}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            status[key] = value.strip()
        namespaces = {name: os.readlink(f"{base}/ns/{name}") for name in _NAMESPACES.values()}
        return _Thread(tid, status, namespaces, _identity(f"{base}/root"), _identity(f"{base}/cwd"))
    except (FileNotFoundError, ProcessLookupError):
        return None


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:  # an fd that has just been closed
        return ""


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _entries(root: str) -> list[str]:
    """Return the first names below *root*; one name too many is enough to know that it is not empty."""
    with os.scandir(root) as scan:
        return [entry.name for entry, _ in zip(scan, range(16), strict=False)]


def _limits(text: str) -> dict[str, str]:
    """Return the hard limits of /proc/PID/limits by their name there; columns are 26, 21 and 21 wide, see proc(5).

    The hard ones: a process may raise its soft limits up to them, and a soft limit is never above.
    """
    return {line[:26].strip(): line[47:68].strip() for line in text.splitlines()[1:]}


def _judge(layer: Layer, promised: bool, reading: _Reading, policy: Policy) -> LayerStatus:
    if layer in _NAMESPACES:
        engaged, detail, thread = _namespace(_NAMESPACES[layer], reading)
    elif layer is Layer.EMPTY_ROOT:
        engaged, detail, thread = _empty_root(reading, policy)
    elif layer is Layer.RLIMITS:
        engaged, detail, thread = (*_rlimits(reading, policy.limits), None)
    elif layer is Layer.LANDLOCK:
        engaged, detail, thread = False, "not used by this backend", None
    else:
        engaged, detail, thread = _status_layer(layer, reading)
    return LayerStatus(layer, promised, engaged, detail, thread)


def _namespace(name: str, reading: _Reading) -> tuple[bool, str, int | None]:
    for thread in reading.threads:
        if thread.namespaces[name] == reading.own[name]:
            return False, f"thread {thread.tid} is in the host's: {reading.own[name]}", thread.tid
    return True, f"{reading.threads[0].namespaces[name]}, the host's is {reading.own[name]}", None


def _status_layer(layer: Layer, reading: _Reading) -> tuple[bool, str, int | None]:
    shown = {
        Layer.SECCOMP: ("Seccomp", "Seccomp_filters"),
        Layer.NO_NEW_PRIVS: ("NoNewPrivs",),
        Layer.CAPABILITIES: _CAPABILITY_SETS,
    }[layer]
    for thread in reading.threads:
        values = {key: thread.status.get(key, "?") for key in shown}
        if not _fits(layer, values):
            return (
                False,
                f"thread {thread.tid}: " + ", ".join(f"{key} {value}" for key, value in values.items()),
                thread.tid,
            )
    listener = next((fd for fd, name in reading.fds.items() if "seccomp notify" in name), None)
    if layer is Layer.SECCOMP and listener is not None:
        return False, f"fd {listener} is the filter's own listener: it could allow itself anything", None
    first = reading.threads[0].status
    return True, ", ".join(f"{key} {first[key].lstrip('0') or '0'}" for key in shown if key in first), None


def _fits(layer: Layer, values: Mapping[str, str]) -> bool:
    if layer is Layer.SECCOMP:
        return values["Seccomp"] == "2"
    if layer is Layer.NO_NEW_PRIVS:
        return values["NoNewPrivs"] == "1"
    return all(set(value) == {"0"} for value in values.values())


def _empty_root(reading: _Reading, policy: Policy) -> tuple[bool, str, int | None]:
    root = reading.threads[0].root
    named = {path.lstrip("/").split("/")[0] for path in (*policy.read_only, *policy.read_write, *policy.devices)}
    for thread in reading.threads:
        if thread.root != root or thread.cwd != root:
            return False, f"thread {thread.tid} has another root or working directory", thread.tid
    if surplus := sorted(set(reading.entries) - named):
        return False, f"the root holds {', '.join(surplus[:5])}{', ...' if len(surplus) > 5 else ''}", None
    if reading.directories:
        fd, name = next(iter(reading.directories.items()))
        return False, f"fd {fd} is the directory {name}, a way around the root", None
    if not reading.root_is_read_only:
        return False, "the root is empty but not read-only", None
    return True, "read-only, holds " + (", ".join(sorted(named)) if named else "nothing"), None


_LIMIT_NAMES = {
    "memory": "Max address space",
    "cpu": "Max cpu time",
    "open_files": "Max open files",
    "processes": "Max processes",
    "file_size": "Max file size",
}


def _rlimits(reading: _Reading, limits: Limits) -> tuple[bool, str]:
    asked = {_LIMIT_NAMES[key]: getattr(limits, key) for key in _LIMIT_NAMES if getattr(limits, key) is not None}
    asked["Max core file size"] = 0
    for name, value in asked.items():
        shown = reading.limits.get(name, "?")
        if not shown.isdigit() or int(shown) > value:
            return False, f"{name} is {shown} instead of {value}"
    return True, ", ".join(f"{name.removeprefix('Max ')} {reading.limits[name]}" for name in asked)


def _notes(reading: _Reading, promised: frozenset[Layer]) -> tuple[str, ...]:
    notes: list[str] = []
    uid = reading.threads[0].status.get("Uid", "?").split()[0]
    if uid == "0":
        notes.append("uid 0: to the host's files this child is root, kept out by its empty root and its filter only")
    if not promised:
        notes.append("this backend confines nothing")
    return tuple(notes)
