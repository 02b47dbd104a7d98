"""What a child can still do, operation by operation, and which layer keeps it from the rest.

A layer is a means; what a person asks is "can it read my files". So each operation has a row that says which layers
refuse it: wholly (the row's closer returns an empty text), partly (it says what is left), or not at all (None). An
operation that one layer refuses wholly is enforced, whatever the others do; one that the policy grants is refused
beyond what it grants. Whether a row is true is for tests/escape to find out: it attacks each operation under each
backend, and the attack's outcome and the row must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from ...ipc.messages import Landlock
from ..layers import Layer
from ..policy import Policy
from ..seccomp.answers import Answer, Rights, Rules
from ..seccomp.rules import executes


class Verdict(StrEnum):
    """What comes of an operation."""

    ENFORCED = "enforced"
    PARTLY = "partly"
    GRANTED = "granted"
    OPEN = "open"


class Operation(StrEnum):
    """Something that a plugin might try."""

    READ_FILE = "read a file"
    WRITE_FILE = "write a file"
    STAT = "stat a file"
    LIST_DIRECTORY = "list a directory"
    EXECUTE = "execute a program"
    MAKE_PROCESS = "make a process"
    MAKE_THREAD = "make a thread"
    EXECUTABLE_MEMORY = "new executable memory"
    INET = "inet socket"
    UNIX_PATH = "unix path socket"
    UNIX_ABSTRACT = "abstract socket"
    VSOCK = "vsock"
    SIGNAL_OUTSIDE = "signal outside"
    SEE_PROCESSES = "see processes"
    PTRACE = "ptrace"
    KEYCTL = "keyctl"
    IO_URING = "io_uring"
    KERNEL_TOOLS = "bpf, perf, userfaultfd"
    MOUNT = "mount"
    NEW_USER_NAMESPACE = "new user namespace"
    TERMINAL = "terminal ioctl"
    IPC_OBJECTS = "ipc objects"
    TIME_AND_NAME = "set time or host name"


GROUPS: Mapping[str, tuple[Operation, ...]] = {
    "files": (Operation.READ_FILE, Operation.WRITE_FILE, Operation.LIST_DIRECTORY, Operation.EXECUTE),
    "network": (Operation.INET, Operation.UNIX_PATH, Operation.UNIX_ABSTRACT, Operation.VSOCK),
    "processes": (Operation.SIGNAL_OUTSIDE, Operation.PTRACE, Operation.EXECUTE),
}
"""Words for ``require`` that stand for several operations."""


class Held(NamedTuple):
    """What holds a child: the engaged layers, the filter's rules if there is one, and landlock's features."""

    layers: frozenset[Layer]
    policy: Policy
    rights: Rights
    rules: Rules
    landlock: Landlock | None
    older_threads: bool


class OperationStatus(NamedTuple):
    """One operation: the verdict, the layers that refuse it, what the policy grants of it, and why only partly."""

    operation: Operation
    verdict: Verdict
    layers: tuple[Layer, ...]
    granted: str = ""
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "operation": self.operation.value,
            "verdict": self.verdict.value,
            "layers": [layer.value for layer in self.layers],
            "granted": self.granted,
            "why": self.why,
        }

    def __str__(self) -> str:
        by = f"by {', '.join(self.layers)}" if self.layers else ""
        granted = f"the policy grants {self.granted}" if self.granted else ""
        return "; ".join(part for part in (by, granted, self.why) if part)


Closer = Callable[[Held], str | None]


def judge_operations(held: Held) -> tuple[OperationStatus, ...]:
    """Return the status of every operation under what holds the child."""
    return tuple(_judge(operation, held) for operation in Operation)


def _judge(operation: Operation, held: Held) -> OperationStatus:
    closers, granted_by = _TABLE[operation]
    granted = granted_by(held.policy)
    answers = {layer: closer(held) for layer, closer in closers.items() if layer in held.layers}
    wholly = tuple(layer for layer, answer in answers.items() if answer == "")
    if wholly:
        return OperationStatus(operation, Verdict.ENFORCED, wholly, granted)
    partly = {layer: answer for layer, answer in answers.items() if answer}
    if partly:
        return OperationStatus(operation, Verdict.PARTLY, tuple(partly), granted, "; ".join(partly.values()))
    if granted and operation not in GROUPS["files"] and operation is not Operation.STAT:
        return OperationStatus(operation, Verdict.GRANTED, (), granted)
    return OperationStatus(operation, Verdict.OPEN, (), granted)  # a path that is granted, and all others too


def _wholly(held: Held) -> str:
    return ""


def _calls(*names: str) -> Closer:
    """Closed if the filter refuses all of *names*, whatever their arguments."""

    def closer(held: Held) -> str | None:
        return "" if all(held.rules.get(name, Answer.ENOSYS) in _REFUSALS for name in names) else None

    return closer


_REFUSALS = frozenset(Answer) - {Answer.ALLOW}


def _unless(right: Callable[[Rights], object]) -> Closer:
    return lambda held: None if right(held.rights) else ""


def _unless_channel(*names: str) -> Closer:
    return _unless(lambda rights: set(names) & set(rights.covert_channels))


def _channels(*names: str) -> Callable[[Policy], str]:
    return lambda policy: ", ".join(name for name in names if name in policy.covert_channels)


def _if(condition: Callable[[Held], object], why: str = "") -> Closer:
    return lambda held: why if condition(held) else None


def _landlock(feature: str, partly: str = "") -> Closer:
    """Closed by a feature of landlock, for all threads."""

    def closer(held: Held) -> str | None:
        if held.landlock is None or feature not in held.landlock.granted:
            return None
        older = "threads that were there before the seal are not held" if held.older_threads else ""
        return "; ".join(part for part in (partly, older) if part)

    return closer


def _landlock_writes(held: Held) -> str | None:
    """Closed by ABI 3, but for what landlock has no access for, unless the filter refuses it."""
    modes = "" if _calls("fchmodat", "utimensat")(held) == "" else "modes and times of files elsewhere can be changed"
    if held.landlock is None or "truncate" in held.landlock.granted:
        return _landlock("truncate", modes)(held)
    older = "before ABI 3, truncate(2) empties any file that the child's user may write"
    return _landlock("file", "; ".join(filter(None, (older, modes))))(held)


def _executed_by_landlock(held: Held) -> str | None:
    """A memfd lies on no mount that landlock looks at; where the filter lets execve pass, /proc/self/fd names it."""
    return _landlock("file", "a program in a memfd can be executed" if executes(held.rights) else "")(held)


def _outer_landlock(feature: str) -> Closer:
    """Closed by landlock's outer ruleset, which stage 3 put on the only thread there was."""
    return lambda held: "" if held.landlock is not None and feature in held.landlock.granted else None


def _paths(*fields: str) -> Callable[[Policy], str]:
    return lambda policy: ", ".join(path for field in fields for path in getattr(policy, field))


def _right(field: str, words: str) -> Callable[[Policy], str]:
    return lambda policy: words if getattr(policy, field) else ""


def _families(*families: str) -> Callable[[Policy], str]:
    return lambda policy: ", ".join(family for family in families if family in policy.network)


def _nothing(policy: Policy) -> str:
    return ""


def _execution(policy: Policy) -> str:
    return _paths("read_only", "read_write")(policy) if policy.subprocesses and policy.executable_memory else ""


# The view of files that bubblewrap leaves: a mount namespace of its own without an empty root.
_in_view = _if(lambda held: Layer.EMPTY_ROOT not in held.layers, "of the files in the view only, which are read-only")
_view_is_read_only = _if(lambda held: True)

_METADATA = "metadata of known names leaks: newfstatat with AT_EMPTY_PATH cannot be told from fstat"
_EXISTENCE = "whether a pid exists can be told, by the metadata of /proc and by futex(2)"

_Row = tuple[Mapping[Layer, Closer], Callable[[Policy], str]]

_TABLE: Mapping[Operation, _Row] = {
    Operation.READ_FILE: (
        {
            Layer.EMPTY_ROOT: _wholly,
            Layer.MOUNT_NS: _in_view,
            Layer.LANDLOCK: _landlock("file"),
            Layer.SECCOMP: _unless(lambda rights: rights.reads),
        },
        _paths("read_only", "read_write", "devices"),
    ),
    Operation.WRITE_FILE: (
        {
            Layer.EMPTY_ROOT: _wholly,
            Layer.MOUNT_NS: _view_is_read_only,
            Layer.LANDLOCK: _landlock_writes,
            Layer.SECCOMP: _unless(lambda rights: rights.writes or rights.devices),
        },
        _paths("read_write", "devices"),
    ),
    Operation.STAT: (
        {
            Layer.EMPTY_ROOT: _wholly,
            Layer.MOUNT_NS: _in_view,
            Layer.SECCOMP: _if(lambda held: not held.rights.reads, _METADATA),
        },
        _paths("read_only", "read_write", "devices"),
    ),
    Operation.LIST_DIRECTORY: (
        {
            Layer.EMPTY_ROOT: _wholly,
            Layer.MOUNT_NS: _in_view,
            Layer.LANDLOCK: _landlock("file"),
            Layer.SECCOMP: _unless(lambda rights: rights.reads),
        },
        _paths("read_only", "read_write"),
    ),
    Operation.EXECUTE: (
        {
            Layer.EMPTY_ROOT: _wholly,
            Layer.LANDLOCK: _executed_by_landlock,
            Layer.SECCOMP: _unless(executes),
        },
        _execution,
    ),
    Operation.MAKE_PROCESS: (
        {Layer.SECCOMP: _unless(lambda rights: rights.subprocesses)},
        _right("subprocesses", "sub-processes"),
    ),
    Operation.MAKE_THREAD: (
        {Layer.SECCOMP: _unless(lambda rights: rights.threads)},
        _right("threads", "threads"),
    ),
    Operation.EXECUTABLE_MEMORY: (
        {Layer.SECCOMP: _unless(lambda rights: rights.executable_memory)},
        _right("executable_memory", "executable memory"),
    ),
    Operation.INET: (
        {
            Layer.NET_NS: _wholly,
            Layer.LANDLOCK: _landlock("tcp", "of inet sockets, TCP only"),
            Layer.SECCOMP: _unless(lambda rights: set(rights.families) - {"unix"}),
        },
        _families("inet", "inet6", "netlink"),
    ),
    Operation.UNIX_PATH: (
        {
            Layer.EMPTY_ROOT: _wholly,
            Layer.MOUNT_NS: _wholly,  # the system's part of a view holds no sockets; what the policy names is granted
            Layer.LANDLOCK: _landlock("unix-path"),
            Layer.SECCOMP: _unless(lambda rights: "unix" in rights.families),
        },
        _families("unix"),
    ),
    Operation.UNIX_ABSTRACT: (
        {
            Layer.NET_NS: _wholly,
            Layer.LANDLOCK: _landlock("abstract-socket-scope"),
            Layer.SECCOMP: _unless(lambda rights: "unix" in rights.families),
        },
        _families("unix"),
    ),
    Operation.VSOCK: ({Layer.SECCOMP: _unless_channel("vsock")}, _channels("vsock")),
    Operation.SIGNAL_OUTSIDE: (
        {
            Layer.PID_NS: _wholly,
            Layer.LANDLOCK: _outer_landlock("signal-scope"),
            Layer.SECCOMP: _if(lambda held: held.rights.own_pid_only),
        },
        _nothing,
    ),
    Operation.SEE_PROCESSES: (
        {
            Layer.PID_NS: _wholly,
            Layer.SECCOMP: _if(lambda held: held.rights.own_pid_only and not held.rights.reads, _EXISTENCE),
        },
        _nothing,
    ),
    Operation.PTRACE: (
        {
            Layer.PID_NS: _wholly,
            Layer.LANDLOCK: _landlock("file"),
            Layer.SECCOMP: _calls("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd"),
        },
        _nothing,
    ),
    Operation.KEYCTL: ({Layer.SECCOMP: _unless_channel("keys")}, _channels("keys")),
    Operation.IO_URING: ({Layer.SECCOMP: _calls("io_uring_setup", "io_uring_enter", "io_uring_register")}, _nothing),
    Operation.KERNEL_TOOLS: ({Layer.SECCOMP: _calls("bpf", "perf_event_open", "userfaultfd")}, _nothing),
    Operation.MOUNT: (
        {
            Layer.CAPABILITIES: _if(lambda held: Layer.SECCOMP in held.layers),
            Layer.SECCOMP: _calls("mount", "umount2", "fsopen", "move_mount", "pivot_root", "chroot"),
        },
        _nothing,
    ),
    Operation.NEW_USER_NAMESPACE: ({Layer.SECCOMP: _calls("unshare", "setns", "clone3")}, _nothing),
    Operation.TERMINAL: ({Layer.SECCOMP: _wholly}, _nothing),
    Operation.IPC_OBJECTS: (
        {
            Layer.IPC_NS: _wholly,
            Layer.SECCOMP: _unless_channel("sysv-ipc", "posix-queues"),
        },
        _channels("sysv-ipc", "posix-queues"),
    ),
    Operation.TIME_AND_NAME: (
        {
            Layer.CAPABILITIES: _wholly,
            Layer.SECCOMP: _calls("settimeofday", "clock_settime", "sethostname", "setdomainname"),
        },
        _nothing,
    ),
}


def requirement_names() -> tuple[str, ...]:
    """Return the words that ``require`` may hold: layers, operations, and groups of these."""
    return (*(layer.value for layer in Layer), *(operation.value for operation in Operation), *GROUPS)


def unmet(required: Sequence[str], layers: Mapping[Layer, str], operations: Sequence[OperationStatus]) -> list[str]:
    """Return why each of *required* is not met by the *layers* (with their limits) and *operations*, if it is not."""
    by_name = {status.operation: status for status in operations}
    problems: list[str] = []
    for name in required:
        if name in set(Layer):
            if name not in layers:
                problems.append(f"it has no {name}")
            continue
        for operation in GROUPS.get(name) or (Operation(name),):
            status = by_name[operation]
            if status.verdict is not Verdict.ENFORCED:
                problems.append(f"{operation}: {status.verdict} ({status})")
    return problems
