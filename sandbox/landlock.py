"""Landlock: a process takes accesses from itself, for good and without any privilege. See landlock(7).

Each ABI knows more accesses than the one before, and a kernel refuses (EINVAL) what it does not know. So a `Wish` says
what should be denied, `grant` cuts it to what an ABI knows, and `Landlock.unknown` names what was cut.

What the kernel does not tell (tried, ABI 7): no file in /proc shows a domain. So the process that restricts itself
then *tries* one thing that is denied now, and fails the seal if that works. `restrict_self` reaches only the calling
thread and threads that it starts later, until ABI 8 brings a flag for all: whoever uses this counts the threads. And
stat(2) is no access that landlock knows: metadata of a known name can be read in any domain.
"""

from __future__ import annotations

import operator
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import reduce
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from ..ipc.messages import Landlock
from . import syscalls as sc
from .errors import SandboxError
from .policy import Policy
from .steps import step

LATEST_ABI: Final = 10

ALL_THREADS_ABI: Final = 8
"""The first ABI whose rules reach threads that run already."""

FS_EXECUTE, FS_WRITE_FILE, FS_READ_FILE, FS_READ_DIR = (1 << bit for bit in range(4))
FS_REMOVE_DIR, FS_REMOVE_FILE = 1 << 4, 1 << 5
FS_MAKE_DIR, FS_MAKE_REG, FS_MAKE_SOCK, FS_MAKE_FIFO = 1 << 7, 1 << 8, 1 << 9, 1 << 10
FS_MAKE_SYM, FS_REFER, FS_TRUNCATE, FS_IOCTL_DEV, FS_RESOLVE_UNIX = (1 << bit for bit in range(12, 17))
FS_FIRST: Final = (1 << 13) - 1  # all of ABI 1, device nodes (bits 6 and 11) included
NET_TCP: Final = 0b0011  # to bind and to connect
NET_UDP: Final = 0b1100
SCOPE_ABSTRACT_UNIX, SCOPE_SIGNAL = 1 << 0, 1 << 1
_LOG_SAME_EXEC_OFF, _ALL_THREADS = 1 << 0, 1 << 3

_READ: Final = FS_READ_FILE | FS_READ_DIR
_MAKE: Final = FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_FIFO | FS_MAKE_SYM
_WRITE: Final = FS_WRITE_FILE | FS_TRUNCATE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_REFER | _MAKE
_OF_A_FILE: Final = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV | FS_RESOLVE_UNIX


class Feature(NamedTuple):
    """What one ABI brought: bits of the three masks, and of restrict_self's flags."""

    name: str
    abi: int
    fs: int = 0
    net: int = 0
    scoped: int = 0
    flags: int = 0


FEATURES: Final = (
    Feature("file", 1, fs=FS_FIRST),
    Feature("refer", 2, fs=FS_REFER),
    Feature("truncate", 3, fs=FS_TRUNCATE),
    Feature("tcp", 4, net=NET_TCP),
    Feature("ioctl", 5, fs=FS_IOCTL_DEV),
    Feature("abstract-socket-scope", 6, scoped=SCOPE_ABSTRACT_UNIX),
    Feature("signal-scope", 6, scoped=SCOPE_SIGNAL),
    # Denials of a sealed child are told by the seccomp listener; the audit log of the machine is spared them.
    Feature("log", 7, flags=_LOG_SAME_EXEC_OFF),
    Feature("all-threads", ALL_THREADS_ABI, flags=_ALL_THREADS),
    Feature("unix-path", 9, fs=FS_RESOLVE_UNIX),
    Feature("udp", 10, net=NET_UDP),
)
"""In the order of the kernel's documentation; all that is handled here is denied unless a rule allows it."""


class Wish(msgspec.Struct, frozen=True):
    """Which features to deny with, and which paths stay open how. For one `restrict`."""

    features: tuple[str, ...]
    paths: tuple[tuple[str, int], ...] = ()


def describe(found: Landlock) -> str:
    """Return one line for people."""
    unknown = f"; not known to this kernel: {', '.join(found.unknown)}" if found.unknown else ""
    return f"ABI {found.abi}: {', '.join(found.granted)}{unknown}"


def outer() -> Wish:
    """What can be denied before early init, which still opens files and sockets: signals to others."""
    return Wish(("signal-scope", "log"))


def inner(policy: Policy, real_paths: Mapping[str, str] = MappingProxyType({})) -> Wish:
    """What a sealed child under *policy*, of whose paths some are links to *real_paths*, does not need."""
    families = set(policy.network)
    left_open = {"tcp", "udp"} if families & {"inet", "inet6"} else set[str]()
    sockets = FS_MAKE_SOCK | FS_RESOLVE_UNIX if "unix" in families else 0  # of others, only those below named paths
    features = tuple(feature.name for feature in FEATURES if feature.name not in left_open)
    reading = _READ | (FS_EXECUTE if policy.subprocesses and policy.executable_memory else 0)
    writing = reading | _WRITE | sockets
    device = FS_READ_FILE | FS_WRITE_FILE | FS_IOCTL_DEV
    ways = ((policy.read_only, reading), (policy.read_write, writing), (policy.devices, device))
    return Wish(features, tuple((real_paths.get(path, path), access) for paths, access in ways for path in paths))


def grant(wish: Wish, abi: int) -> Landlock:
    """Return what *abi* can do of *wish*, without doing it."""
    chosen = [feature for feature in FEATURES if feature.name in wish.features]
    granted = tuple(feature.name for feature in chosen if feature.abi <= abi)
    unknown = tuple(feature.name for feature in chosen if feature.abi > abi)
    return Landlock(abi, granted, unknown, "all-threads" in granted)


def doubt(found: Landlock | None, abi: int) -> str:
    """Return why a child that was told to use ABI *abi* at most cannot have got what it says; empty if it can.

    The word of a child cannot be proven, since no file shows a domain, but it can contradict itself and the kernel.
    """
    if found is None:
        return ""
    by_name = {feature.name: feature for feature in FEATURES}
    if found.abi != min(abi, LATEST_ABI):
        return f"it speaks of landlock ABI {found.abi} instead of {min(abi, LATEST_ABI)}"
    if strange := {*found.granted, *found.unknown} - by_name.keys():
        return f"it names {len(strange)} features that landlock does not have"
    if newer := [name for name in found.granted if by_name[name].abi > abi]:
        return f"it says that ABI {abi} gave it {newer[0]}"
    if older := [name for name in found.unknown if by_name[name].abi <= abi]:
        return f"it says that ABI {abi} does not know {older[0]}"
    if found.all_threads and "all-threads" not in found.granted:
        return "it says that landlock reached all threads, without the feature for that"
    return ""


def restrict(wish: Wish, abi: int) -> Landlock:
    """Deny, with ABI *abi* at most, what *wish* says: for this thread, or for all where the ABI can.

    Needs no_new_privs. A path that does not exist is an error, for the policy then means something else.

    Raises:
        StepFailed: naming the step.
        SandboxError: the kernel said yes, and yet a forbidden file can be opened.
    """
    found = grant(wish, min(abi, LATEST_ABI))
    used = [feature for feature in FEATURES if feature.name in found.granted]
    fs, net, scoped, flags = (
        reduce(operator.or_, (getattr(feature, field) for feature in used), 0) for field in Feature._fields[2:]
    )
    if not fs | net | scoped:  # this ABI knows nothing of the wish, and the kernel refuses an empty ruleset
        return found
    with ExitStack() as fds:
        with step("create a landlock ruleset"):
            ruleset = sc.landlock_create_ruleset(fs, net, scoped)
        fds.callback(os.close, ruleset)
        for path, access in wish.paths:
            _allow(ruleset, path, access & fs)
        with step("restrict this process with landlock"):
            sc.landlock_restrict_self(ruleset, flags)
    if fs & FS_READ_DIR:
        _try_what_is_denied(wish.paths)
    return found


def _allow(ruleset: int, path: str, access: int) -> None:
    with step(f"allow {path} in landlock"):
        fd = sc.open_without_links(path)
        try:
            is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
            # The kernel refuses accesses on a file that only a folder can have.
            sc.landlock_add_path(ruleset, access if is_folder else access & _OF_A_FILE, fd)
        finally:
            os.close(fd)


def _try_what_is_denied(paths: Sequence[tuple[str, int]]) -> None:
    """See one thing refused: to list the root, which no policy grants."""
    try:
        os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except PermissionError:
        return
    except OSError:  # the root is gone already, which is more than was asked
        return
    raise SandboxError(f"landlock was engaged, and yet / can be listed (allowed are {[path for path, _ in paths]})")
