"""Stage 8: compare what a child is held by with what its backend promised.

A child that says "I am sealed" proves nothing, and a library call that returned success only little more. So the host
judges what it has read itself (`reading`) of a child that it has stopped (`still`), layer by layer, thread by thread.
One layer has no file in /proc: landlock. There the host has the word of the child, from before any untrusted code ran
in it, that the kernel accepted the ruleset and then refused what it forbids (`sandbox.landlock`); how many threads that
covers the host counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from ...ipc import pidfds
from ...ipc.messages import Landlock
from .. import landlock as rules_of_landlock
from ..base import empty_root_limit
from ..errors import SandboxError
from ..layers import Layer
from ..policy import Limits, Policy
from ..seccomp.answers import Rights
from ..seccomp.rules import rules_for
from .operations import Held, OperationStatus, judge_operations
from .reading import NAMESPACES, Reading, read
from .report import LayerStatus, Protection
from .still import PAUSES, STOPPED, where

_CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb")


class Expectation(NamedTuple):
    """What the host knows of a launch before it looks.

    ``promised`` holds the announced limit of each layer, ``asked`` the words of ``require``.
    """

    backend: str
    promised: Mapping[Layer, str]
    policy: Policy
    rights: Rights
    landlock: Landlock | None = None
    asked: Collection[str] = ()


class _Judged(NamedTuple):
    engaged: bool
    detail: str
    thread: int | None = None
    limit: str = ""


def verify(*, outer_pid: int, pidfd: int, expected: Expectation) -> Protection:
    """Read what is enforced on the process that *pidfd* holds and that is *outer_pid* here; own neither.

    A thread that is not stopped is a shortfall of the filter: see `still`.

    Raises:
        SandboxError: the process ended meanwhile, or /proc of it cannot be read.
    """
    try:
        reading = read(outer_pid)
    except OSError as error:
        raise SandboxError(f"could not read the protection of process {outer_pid}: {error.strerror}") from error
    if pidfds.has_ended(pidfd):
        raise SandboxError(f"process {outer_pid} ended while its protection was read")
    layers = tuple(_status(layer, reading, expected) for layer in Layer)
    engaged = frozenset(status.layer for status in layers if status.engaged)
    operations = judge_operations(_held(engaged, expected, older_threads=len(reading.threads) > 1))
    notes = _notes(reading, expected.promised)
    return Protection(
        layers=layers,
        threads=len(reading.threads),
        notes=notes,
        operations=operations,
        backend=expected.backend,
        landlock=expected.landlock,
        thread_names=dict(Counter(thread.name for thread in reading.threads).most_common()),
    )


def planned(expected: Expectation) -> tuple[OperationStatus, ...]:
    """Return what each operation will come to if every promise is kept by a child of one thread."""
    return judge_operations(_held(frozenset(expected.promised), expected, older_threads=False))


def _held(layers: frozenset[Layer], expected: Expectation, *, older_threads: bool) -> Held:
    granted = expected.landlock
    missed = older_threads and granted is not None and not granted.all_threads
    if empty_root_limit(expected.policy):  # a directory that is open lies outside of both
        layers -= {Layer.EMPTY_ROOT, Layer.MOUNT_NS}
    return Held(layers, expected.policy, expected.rights, rules_for(expected.rights), granted, missed)


def _status(layer: Layer, reading: Reading, expected: Expectation) -> LayerStatus:
    found = _judge(layer, reading, expected)
    promised = layer in expected.promised
    engaged = found.engaged
    if promised and found.limit and not expected.promised[layer]:
        engaged, found = False, found._replace(detail=f"{found.limit} ({found.detail})", limit="")
    limit = found.limit if engaged else ""
    return LayerStatus(layer, promised, engaged, found.detail, found.thread, limit, layer.value in expected.asked)


def _judge(layer: Layer, reading: Reading, expected: Expectation) -> _Judged:
    if layer in NAMESPACES:
        return _namespace(NAMESPACES[layer], reading)
    if layer is Layer.EMPTY_ROOT:
        return _empty_root(reading, expected.policy)
    if layer is Layer.RLIMITS:
        return _rlimits(reading, expected.policy.limits)
    if layer is Layer.LANDLOCK:
        return _landlock(reading, expected.landlock)
    if layer is Layer.CAPABILITIES:
        return _capabilities(reading)
    return _field(reading, "NoNewPrivs", "1") if layer is Layer.NO_NEW_PRIVS else _seccomp(reading)


def _namespace(name: str, reading: Reading) -> _Judged:
    for thread in reading.threads:
        if thread.namespaces[name] == reading.own[name]:
            return _Judged(False, f"thread {thread.tid} is in the host's: {reading.own[name]}", thread.tid)
    return _Judged(True, f"{reading.threads[0].namespaces[name]}, the host's is {reading.own[name]}")


def _field(reading: Reading, name: str, wanted: str) -> _Judged:
    for thread in reading.threads:
        if (shown := thread.status.get(name, "?")) != wanted:
            return _Judged(False, f"thread {thread.tid}: {name} {shown}", thread.tid)
    return _Judged(True, f"{name} {wanted}")


def _seccomp(reading: Reading) -> _Judged:
    """One filter more than the host has on every thread: that of an outer container is no promise of ours."""
    if (around := _way_around(reading)) is not None:
        return around
    found = _field(reading, "Seccomp", "2")
    for thread in reading.threads:
        count = thread.status.get("Seccomp_filters", "")  # Linux 5.9
        if found.engaged and count.isdigit() and int(count) <= reading.own_filters:
            return _Judged(False, f"thread {thread.tid} has only the {count} filters that the host has", thread.tid)
    if found.engaged and (restless := _restless(reading)) is not None:
        return restless
    listener = next((fd for fd, name in reading.fds.items() if "seccomp notify" in name), None)
    if listener is not None:
        return _Judged(False, f"fd {listener} is the filter's own listener: it could allow itself anything")
    filters = reading.threads[0].status.get("Seccomp_filters")
    return found._replace(detail=f"{found.detail}, Seccomp_filters {filters}") if found.engaged and filters else found


def _way_around(reading: Reading) -> _Judged | None:
    """What early init may have left that no filter of the child's threads reaches.

    Another process has no filter at all. An io_uring is served by the kernel, whose own threads make no calls.
    """
    for pid, name in reading.processes.items():
        return _Judged(
            False, f"process {pid} ({name}), which early init started, is not sealed; end it before the seal"
        )
    served = next((thread.tid for thread in reading.threads if thread.serves_io_uring), None)
    ring = next((fd for fd, name in reading.fds.items() if "[io_uring]" in name), None)
    if served is None and ring is None:
        return None
    what = f"fd {ring} is an io_uring" if ring is not None else f"thread {served} serves an io_uring"
    return _Judged(False, f"{what}, which passes by the filter; close it before the seal", served)


def _restless(reading: Reading) -> _Judged | None:
    """Name a thread that is not stopped: what it asked for before the seal, nobody has judged (see `still`)."""
    for thread in reading.threads:
        state, _, word = thread.status["State"].partition(" ")  # such as "D (disk sleep)"
        if state not in STOPPED:
            found = " ".join(filter(None, (word.strip("()"), where(reading.outer_pid, thread.tid))))
            return _Judged(
                False,
                f"thread {thread.tid} ({thread.name}) does not stop within {sum(PAUSES):.0f} s ({found}), so that what "
                "it asked for before the seal passes by the filter; end or quiesce it before the seal",
                thread.tid,
            )
    return None


def _capabilities(reading: Reading) -> _Judged:
    """The sets that a thread can use must be empty; the bounding set is a limit, if no_new_privs makes it idle."""
    for thread in reading.threads:
        full = [
            f"{name} {thread.status.get(name, '?')}" for name in _CAPABILITY_SETS if not _is_empty(thread.status, name)
        ]
        if full:
            return _Judged(False, f"thread {thread.tid}: {', '.join(full)}", thread.tid)
    bounding = next((thread for thread in reading.threads if not _is_empty(thread.status, "CapBnd")), None)
    if bounding is None:
        return _Judged(True, "no capability in any set")
    if bounding.status.get("NoNewPrivs") != "1":
        return _Judged(False, f"thread {bounding.tid}: CapBnd {bounding.status.get('CapBnd', '?')}", bounding.tid)
    limit = "the bounding set is not empty; no_new_privs keeps an exec from using it"
    return _Judged(True, f"CapBnd {bounding.status['CapBnd'].lstrip('0')}, no capability in any other set", None, limit)


def _is_empty(status: Mapping[str, str], name: str) -> bool:
    return set(status.get(name, "?")) == {"0"}


def _landlock(reading: Reading, granted: Landlock | None) -> _Judged:
    if granted is None or not granted.granted:
        return _Judged(False, "not used by this backend" if granted is None else "this kernel knows none of it")
    older = "" if granted.all_threads else _older_threads(len(reading.threads) - 1)
    return _Judged(True, rules_of_landlock.describe(granted), None, older)


def _older_threads(count: int) -> str:
    if count == 0:
        return ""
    threads = "1 thread was" if count == 1 else f"{count} threads were"
    return f"{threads} there before the seal, which landlock does not reach before ABI 8"


def _empty_root(reading: Reading, policy: Policy) -> _Judged:
    root = reading.threads[0].root
    named = {path.lstrip("/").split("/")[0] for path in (*policy.read_only, *policy.read_write, *policy.devices)}
    for thread in reading.threads:
        if thread.root != root or thread.cwd != root:
            return _Judged(False, f"thread {thread.tid} has another root or working directory", thread.tid)
    if surplus := sorted(set(reading.entries) - named):
        return _Judged(False, f"the root holds {', '.join(surplus[:5])}{', ...' if len(surplus) > 5 else ''}")
    if reading.directories and not policy.open_directories:
        fd, name = next(iter(reading.directories.items()))
        return _Judged(False, f"fd {fd} is the directory {name}, a way around the root")
    if not reading.root_is_read_only:
        return _Judged(False, "the root is empty but not read-only")
    holds = "read-only, holds " + (", ".join(sorted(named)) if named else "nothing")
    limit = empty_root_limit(policy) if reading.directories else ""
    return _Judged(True, ", ".join((holds, *reading.directories.values())), None, limit)


_LIMIT_NAMES = {
    "memory": "Max address space",
    "cpu": "Max cpu time",
    "open_files": "Max open files",
    "processes": "Max processes",
    "file_size": "Max file size",
}


def _rlimits(reading: Reading, limits: Limits) -> _Judged:
    asked = {_LIMIT_NAMES[key]: getattr(limits, key) for key in _LIMIT_NAMES if getattr(limits, key) is not None}
    asked["Max core file size"] = 1  # what stops a dump that is piped too, see `confine.set_limits`
    for name, value in asked.items():
        shown = reading.limits.get(name, "?")
        if not shown.isdigit() or int(shown) > value:
            return _Judged(False, f"{name} is {shown} instead of {value}")
    return _Judged(True, ", ".join(f"{name.removeprefix('Max ')} {reading.limits[name]}" for name in asked))


def _notes(reading: Reading, promised: Mapping[Layer, str]) -> tuple[str, ...]:
    notes: list[str] = []
    if any("0" in thread.status.get("Uid", "?").split() for thread in reading.threads):
        notes.append("uid 0: to the host's files this child is root, and only what is listed above keeps it out")
    if not promised:
        notes.append("this backend confines nothing")
    return tuple(notes)
