"""Kill and reap what ended processes have left behind. For a child subreaper, whose children such orphans become.

A pid of an unreaped child of one's own cannot be used again, so taking pidfds of them is free of races.
See prctl(2), PR_SET_CHILD_SUBREAPER.

A child that may start processes can leave a fork bomb: each one killed makes room for another, and killing one after
the other never comes to an end (tried: 60 processes outlive every attempt). So what is still there after some rounds
is stopped first. A stopped process forks nothing and keeps its place under RLIMIT_NPROC, so once all stand still they
can all be killed. To stop an orphaned process group is not enough: when one of its members ends, the kernel continues
the others (SIGCONT, setpgid(2)). So each also loses the right to fork, RLIMIT_NPROC 0, which root does not heed.
"""

from __future__ import annotations

import os
import resource
import select
import signal
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from ...ipc import pidfds

_QUICK_ROUNDS = 3
_SWEEPS = 200
_SWEEP_MS = 2


def own_children() -> list[int]:
    """Return the pids of this process's children, reparented ones included. See proc_pid_task_children(5)."""
    pid = os.getpid()
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_strays(keep: Collection[int]) -> list[resource.struct_rusage]:
    """Kill and reap every child but those in *keep*: a subreaper's other children are orphans of ended ones.

    Returns what each has used, with those that it had reaped itself. See wait4(2).
    """
    usages: list[resource.struct_rusage] = []
    for rounds in count():
        strays = [pid for pid in own_children() if pid not in keep]
        if not strays:
            break
        for pid in strays if rounds < _QUICK_ROUNDS else hold_still(strays):
            _signal(pid, signal.SIGKILL)
        usages += [os.wait4(pid, 0)[2] for pid in strays]
    return usages


def hold_still(strays: Iterable[int]) -> list[int]:
    """Stop *strays* and all below them, and return their pids. Gives up on those that do not stop in a while."""
    nothing = select.poll()
    found: list[int] = []
    for _ in range(_SWEEPS):
        found = list(_with_descendants(strays))
        running = [pid for pid in found if _is_running(pid)]
        if not running:
            break
        for pid in running:
            _signal(pid, signal.SIGSTOP)
        nothing.poll(_SWEEP_MS)
    return found


def _with_descendants(pids: Iterable[int]) -> Iterator[int]:
    for pid in pids:
        yield pid
        with suppress(FileNotFoundError, ProcessLookupError):
            for tid in os.listdir(f"/proc/{pid}/task"):
                children = Path(f"/proc/{pid}/task/{tid}/children").read_text().split()
                yield from _with_descendants(map(int, children))


def _is_running(pid: int) -> bool:
    """Whether *pid* could fork: not stopped, ended, or asleep in the kernel as one that waits for its vfork is."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "TtZXD"


def _signal(pid: int, number: signal.Signals) -> None:
    """Send *number* to a descendant, and take its right to fork; one that has ended, or is none, is left alone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if os.getpid() not in pidfds.ancestors(pid):  # its number may mean another process since it was found
            return
        with suppress(ProcessLookupError, PermissionError, ValueError):  # PermissionError: of a setuid helper
            resource.prlimit(pid, resource.RLIMIT_NPROC, (0, 0))
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)
