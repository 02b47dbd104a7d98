"""The zygote of backends without a pid namespace. What its children start has no other launcher that outlives it.

Their own children die with this process (PR_SET_PDEATHSIG), but a fork clears that, and processes that *they* started
and left behind would live on if guard and zygote died in one moment, as they do when the guard's end kills the zygote.
So once nothing foreign runs in it any more, the zygote is not killed with the guard, but sees its end and buries all.
"""

from __future__ import annotations

import os
import select
import socket
from typing import NoReturn

from ...ipc import pidfds
from .. import syscalls
from .strays import kill_strays
from .zygote import Runtime, Zygote, serve


class PlainZygote(Zygote):
    """Isolates nothing: its children do that to themselves."""

    def __init__(self, requests: socket.socket, runtime: Runtime, guard_pidfd: int) -> None:
        super().__init__(requests, runtime)
        self.guard_pidfd = guard_pidfd
        self.poll.register(guard_pidfd, select.POLLIN)

    def run(self) -> None:
        """Serve until the host is gone, then bury all."""
        super().run()
        kill_strays(keep=())

    def settle(self) -> None:
        """A module that hangs while it is imported must not outlive the guard; from now on none is imported."""
        super().settle()
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 0)

    def attend(self, fd: int) -> None:
        """The guard has ended: nobody else would find what the children have left behind."""
        if fd == self.guard_pidfd:
            kill_strays(keep=())
            os._exit(1)
        super().attend(fd)

    def bury(self) -> None:
        """Kill what a child has left behind when it ended, if it could start processes at all."""
        kill_strays(keep={child.launched_pid for child in self.children.values()})


def run_plain_zygote(requests_fd: int, runtime: Runtime) -> NoReturn:
    """Be such a zygote. The guard has asked the kernel to kill this process with it (`spawn`)."""
    guard_pid = os.getppid()
    guard_pidfd = os.pidfd_open(guard_pid)
    if os.getppid() != guard_pid or pidfds.has_ended(guard_pidfd):
        os._exit(1)
    requests = socket.socket(fileno=requests_fd)
    requests.set_inheritable(False)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    serve(PlainZygote(requests, runtime, guard_pidfd))
