"""What a step left behind: threads, fds, executable memory, environment, signal handling, each before and after it.

The child looks at itself, while it is still trusted: /proc/self/task, fd, maps and status, proc(5). It is advice for
people, compared with what the step declared; what the seal rests on the host reads itself, in stage 8.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..ipc.messages import Fd, Left, shorten
from ..sandbox.fd_kinds import fd_kind

_MOST = 64
_LONGEST = 128


# The start of a line of /proc/self/maps (start-end perms offset dev inode path) of executable memory, and what of these
# has no file behind it: inode 0, but for the kernel's own [vdso] and [vsyscall], and memfds and /dev/zero.
_EXECUTABLE = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ..x. \S+ \S+ (?:0 *(?!\[v)[^ \n]*$|\d+ +/(?:memfd:|dev/zero))")

# Without the two between the classic and the realtime signals, with which glibc talks to its own threads, nptl(7).
_SIGNALS = {number: f"SIGRTMIN+{number - signal.SIGRTMIN}" for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1)}
_SIGNALS |= {number: number.name for number in signal.Signals}


class Snapshot(NamedTuple):
    """This process at one moment."""

    threads: Mapping[int, str]
    fds: Mapping[tuple[int, str], str]
    executable: int
    environment: Mapping[str, str]
    signals: frozenset[str]


def look() -> Snapshot:
    """Take a snapshot of this process; about a millisecond with 600 mappings, which the kernel takes to list them."""
    return Snapshot(_threads(), _fds(), _executable_bytes(), _environment(), _handled_signals())


def left(before: Snapshot, after: Snapshot) -> Left:
    """Return what there is in *after* that was not in *before*."""
    threads = Counter(name for tid, name in after.threads.items() if tid not in before.threads)
    fds = [
        Fd(kind, shorten(what, 200)) for (number, what), kind in after.fds.items() if (number, what) not in before.fds
    ]
    changed = {pair[0] for pair in before.environment.items() ^ after.environment.items()}
    return Left(
        threads=dict(threads.most_common(_MOST)),
        fds=tuple(fds[:_MOST]),
        executable_memory=max(0, after.executable - before.executable),
        environment=_names(changed),
        signals=_names(before.signals ^ after.signals),
    )


def _names(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(shorten(name, _LONGEST) for name in sorted(found)[:_MOST])


def _threads() -> dict[int, str]:
    found: dict[int, str] = {}
    for tid in os.listdir("/proc/self/task"):
        try:
            found[int(tid)] = _text(f"/proc/self/task/{tid}/comm").rstrip("\n")
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
    return found


def _fds() -> dict[tuple[int, str], str]:
    found: dict[tuple[int, str], str] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            what = os.readlink(f"/proc/self/fd/{name}")
            found[int(name), what] = fd_kind(os.fstat(int(name)).st_mode, what)
        except OSError:  # that of the listing itself, or one that has just been closed
            continue
    return found


def _executable_bytes() -> int:
    """Return how much memory is executable and has no file behind it."""
    with open("/proc/self/maps", "rb", buffering=0) as maps:
        lines = maps.read().split(b"\n")
    found = filter(None, (_EXECUTABLE.match(line) for line in lines if b"x" in line[:40]))
    return sum(int(match[2], 16) - int(match[1], 16) for match in found)


def _environment() -> dict[str, str]:
    """The C library's, which also holds what a library has set behind Python's back."""
    pairs = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    found: dict[str, str] = {}
    for index in range(4096):
        if (pair := pairs[index]) is None:
            break
        name, _, value = os.fsdecode(pair).partition("=")
        found[name] = value
    return found


def _handled_signals() -> frozenset[str]:
    """The signals that are caught or ignored: bit masks in /proc/self/status, signal(7)."""
    fields = dict(line.partition(":")[::2] for line in _text("/proc/self/status").splitlines())
    found: set[str] = set()
    for field, how in (("SigCgt", "caught"), ("SigIgn", "ignored")):
        mask = int(fields[field], 16)
        found |= {f"{name} {how}" for number, name in _SIGNALS.items() if mask & 1 << number - 1}
    return frozenset(found)


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="backslashreplace") as file:
        return file.read()
