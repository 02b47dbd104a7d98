"""What there is at the seal: threads and fds, as the host sees them from outside, held against what steps declare.

The steps' own reports come from the child, each at the end of a step. This is the host's look at the whole, before the
first step and in stage 8. It finds what came in between: a thread that a thread of a step has started since.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ...ipc.messages import Fd, Left, shorten
from ...sandbox.declaration import Leaves
from ...sandbox.fd_kinds import fd_kind
from .compare import Undeclared, undeclared

_MOST = 64


class Seen(NamedTuple):
    """A child at one moment: its threads but for the first by tid, and its fds by number and name."""

    threads: Mapping[int, str]
    fds: Mapping[tuple[int, str], str]


class AtSeal(NamedTuple):
    """What early init has left at the seal, and what of it no step declares and no step has reported."""

    left: Left
    undeclared: Undeclared | None


def look(pid: int) -> Seen:
    """Look at the process *pid*, whose pidfd the caller holds. `OSError` as from /proc."""
    threads: dict[int, str] = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{tid}/comm", encoding="utf-8", errors="backslashreplace") as comm:
                threads[int(tid)] = comm.read().rstrip("\n")
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
    threads.pop(pid, None)
    fds: dict[tuple[int, str], str] = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            what = os.readlink(f"/proc/{pid}/fd/{name}")
            fds[int(name), what] = fd_kind(os.stat(f"/proc/{pid}/fd/{name}").st_mode, what)
        except FileNotFoundError:  # it has just been closed
            continue
    return Seen(threads, fds)


def at_seal(before: Seen, after: Seen, declared: Iterable[Leaves], reported: Iterable[Left]) -> AtSeal:
    """Return what there is *after* early init that was not there *before*, and what of it is a surprise.

    What a step has *reported* it has been told about already, whether it is *declared* or not.
    """
    threads = Counter(name for tid, name in after.threads.items() if tid not in before.threads)
    fds = [Fd(kind, shorten(what, 200)) for (fd, what), kind in after.fds.items() if (fd, what) not in before.fds]
    left = Left(dict(threads.most_common(_MOST)), tuple(fds[:_MOST]))
    reports = list(reported)
    known = {name for report in reports for name in report.threads}, {fd for report in reports for fd in report.fds}
    surprise = Left(
        {name: count for name, count in left.threads.items() if name not in known[0]},
        tuple(fd for fd in left.fds if fd not in known[1]),
    )
    leaves = list(declared)
    union = Leaves(
        threads=tuple(name for each in leaves for name in each.threads),
        fds=tuple(kind for each in leaves for kind in each.fds),
    )
    return AtSeal(left, undeclared(surprise, union))
