"""Kill and reap what ended processes have left behind. For a child subreaper, whose children such orphans become.

A pid of an unreaped child of one's own cannot be used again, so taking pidfds of them is free of races.
See prctl(2), PR_SET_CHILD_SUBREAPER.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Collection
from pathlib import Path

from ...ipc import pidfds


def own_children() -> list[int]:
    """Return the pids of this process's children, reparented ones included. See proc_pid_task_children(5)."""
    pid = os.getpid()
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_strays(keep: Collection[int]) -> list[resource.struct_rusage]:
    """Kill and reap every child but those in *keep*: a subreaper's other children are orphans of ended ones.

    Returns what each has used, with those that it had reaped itself. See wait4(2).
    """
    usages: list[resource.struct_rusage] = []
    while strays := [pid for pid in own_children() if pid not in keep]:
        for pid in strays:
            pidfd = os.pidfd_open(pid)
            pidfds.kill(pidfd)
            usages.append(os.wait4(pid, 0)[2])
            os.close(pidfd)
    return usages
