"""A zygote: a process with one thread that has loaded what its children need, and forks them.

    guard - zygote - child A, child B, and one spare            backends ``landlock`` and ``seccomp``
    guard - helper - zygote - child A, child B, and one spare   backend ``namespaces`` (`namespace_zygote`)

A child is forked before anybody wants it. The *spare* knows nothing yet and waits for its birth; a launch then costs
two messages instead of a fork (and, with namespaces, of five of those). A launch that finds no spare, or needs another
kind, forks its own.

Who dies with whom: each child asks for SIGKILL on the zygote's end, as the zygote does on the guard's (prctl(2),
PR_SET_PDEATHSIG: it fires when the thread that forked ends, and both have only one). The end of the host shows as end
of file here.
"""

from __future__ import annotations

import gc
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import msgspec

from ...ipc import datagram, pidfds
from ...ipc.messages import RunStep
from ..steps import StepFailed, step
from .rootfs import View
from .wire import Exited, Failed, Launched, Shared, receive_request, send_report, send_request


class Runtime(NamedTuple):
    """What a zygote is given to run, for it knows nothing of children.

    Attributes:
        prepare: called once, before it is ready.
        run_child: what a forked child runs: the fd of its link to the zygote, and whether it keeps the host's network
            namespace.
        run_shared: runs an early-init step here, for all children.
    """

    prepare: Callable[[], None]
    run_child: Callable[[int, bool], NoReturn]
    run_shared: Callable[[RunStep], None]


@dataclass(slots=True)
class Child:
    """A child as its zygote knows it: the pid is the zygote's own number for it.

    Over ``link`` goes its birth; what comes back is for `Zygote.hear`. A child without a report socket is the spare.
    """

    launched_pid: int
    pidfd: int
    link: socket.socket
    report: socket.socket | None = None
    view: View = View()  # noqa: RUF009 - frozen


class Zygote:
    """Forks children, reaps and reports them, until the host is gone."""

    def __init__(self, requests: socket.socket, runtime: Runtime) -> None:
        self.requests = requests
        self.runtime = runtime
        self.children: dict[int, Child] = {}
        self.spare: Child | None = None
        self.poll = select.poll()

    def run(self) -> None:
        """Serve until end of file on the request socket."""
        self.poll.register(self.requests, select.POLLIN)
        while True:
            # One event a turn: what it closes and opens anew may have the number of another event of the same poll.
            fd, _ = self.poll.poll()[0]
            if fd == self.requests.fileno():
                if not self._serve():
                    return
            else:
                self.attend(fd)

    def _serve(self) -> bool:
        request = receive_request(self.requests)
        if request is None:
            return False
        body, (report_fd, *fds) = request
        report = socket.socket(fileno=report_fd)
        if "share" in body:
            send_report(report, self._share(msgspec.convert(body["share"], RunStep)))
            report.close()
            return True
        if "settle" in body:
            self.settle()
            self.prepare_spare()
            report.close()
            return True
        try:
            self._launch(body, report, fds)
        except StepFailed as error:
            send_report(report, Failed(2, error.errno, str(error), error.step))
            report.close()
        finally:
            datagram.close_all(fds)
        return True

    def _launch(self, body: dict[str, Any], report: socket.socket, fds: list[int]) -> None:
        share_network = body["share_network"]
        spare, self.spare = (None, self.spare) if share_network else (self.spare, None)
        if spare is not None and pidfds.has_ended(spare.pidfd):
            spare = None  # killed while it waited; it is reaped at its own turn
        child = spare or self._fork_child(share_network)
        child.report, child.view = report, View(**body["view"])
        try:
            send_request(child.link, {}, fds)
        except OSError as error:  # it has ended, or its user has too many fds on their way (ETOOMANYREFS)
            child.report = None
            pidfds.kill(child.pidfd)
            raise StepFailed("give the child its birth", error.errno or 0, error.strerror or "") from error
        send_report(report, Launched(child.launched_pid, child.pidfd))

    def _share(self, shared: RunStep) -> Shared:
        """Run a step and say whether this process is still fit to fork.

        A second thread or a new fd would end that, and so would memory that is mapped to be shared: in it, its children
        could talk to each other past their hosts.

        Whatever the step raises is its own affair and is only reported: the host then leaves it to early init in each
        child, where it has a deadline, a name and a place in the timeline.
        """
        error = ""
        fds, mappings = len(os.listdir("/proc/self/fd")), _shared_mappings()
        try:
            self.runtime.run_shared(shared)
        except BaseException as raised:  # noqa: BLE001 - a step may raise anything, SystemExit included
            error = f"{type(raised).__name__}: {raised}"
        threads, fds = len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")) - fds
        return Shared(threads, fds, _shared_mappings() - mappings, error[:2000])

    def prepare_spare(self) -> None:
        """Fork the next child now. If that fails, the next launch will say why."""
        if self.spare is None:
            try:
                self.spare = self._fork_child(share_network=False)
            except StepFailed:
                return

    def _fork_child(self, share_network: bool) -> Child:
        ours, childs = datagram.control_pair()
        try:
            pid = self.fork()
        except StepFailed:
            ours.close()
            childs.close()
            raise
        if pid == 0:
            self._become_child(childs.detach(), ours, share_network)
        childs.close()
        child = Child(pid, os.pidfd_open(pid), ours)
        for fd in (child.pidfd, ours.fileno()):
            self.children[fd] = child
            self.poll.register(fd, select.POLLIN)
        return child

    def fork(self) -> int:
        """Fork a child; 0 in it. `StepFailed` if that cannot be done."""
        with step("fork the child"):
            return os.fork()

    def _become_child(self, link_fd: int, ours: socket.socket, share_network: bool) -> NoReturn:
        """The zygote's sockets are here too; their objects must not close fd numbers that mean something else later."""
        for child in self.children.values():
            child.link.detach()
            if child.report is not None:
                child.report.detach()
        ours.detach()
        self.requests.detach()
        self.runtime.run_child(link_fd, share_network)

    def settle(self) -> None:
        """Collect garbage and freeze the rest: a collection in a child would copy every page that it shares."""
        gc.collect()
        gc.freeze()

    def attend(self, fd: int) -> None:
        """Something happened to the child that *fd* belongs to."""
        child = self.children[fd]
        if fd == child.pidfd:
            self._reap(child)
        else:
            self.hear(child)

    def hear(self, child: Child) -> None:
        """Something came over the link: its end, for this zygote's child seals itself, or has ended."""
        self.bury()  # what early init has left to itself would not be sealed; the child waits for this
        with suppress(OSError):  # ENOTCONN: it has ended. Not just closed, for a child just forked may have a copy
            child.link.shutdown(socket.SHUT_RDWR)
        self.forget_link(child)
        self.prepare_spare()  # now: the host verifies and the child waits for it, so nobody waits for this process

    def forget_link(self, child: Child) -> None:
        """Close the link, which has served."""
        self.poll.unregister(child.link)
        del self.children[child.link.fileno()]
        child.link.close()

    def _reap(self, child: Child) -> None:
        _, status, usage = os.wait4(child.launched_pid, 0)
        if child is self.spare:
            self.spare = None
        if child.link.fileno() >= 0:
            self.forget_link(child)
        self.poll.unregister(child.pidfd)
        del self.children[child.pidfd]
        os.close(child.pidfd)
        self.bury()
        self.prepare_spare()  # if this one never came to its seal
        if child.report is not None:
            send_report(child.report, Exited(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))
            child.report.close()

    def bury(self) -> None:
        """Nothing: a child was pid 1, and all that it started ended with it."""


def _shared_mappings() -> int:
    """Return how many mappings a fork shares and may write, now or after mprotect(2): ``sh`` in proc_pid_smaps(5).

    The ``s`` of /proc/self/maps stands at files that were opened for reading only too, which do no harm.
    """
    with open("/proc/self/smaps", "rb") as smaps:
        return sum(line.startswith(b"VmFlags:") and b" sh " in line for line in smaps)


def serve(zygote: Zygote) -> NoReturn:
    """Prepare, say that the zygote is ready, and serve until the host is gone."""
    zygote.runtime.prepare()
    datagram.send(zygote.requests, b"ready")
    zygote.run()
    os._exit(0)
