"""A zygote: a process with one thread that has imported what its children need, and forks them.

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
import importlib
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from ...ipc import datagram, pidfds
from ..steps import StepFailed, step
from .rootfs import View
from .wire import Exited, Failed, Launched, Preloaded, receive_request, send_report, send_request

RunChild = Callable[[int, bool], NoReturn]
"""What a forked child runs: the fd of its link to the zygote, and whether it keeps the host's network namespace."""


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

    def __init__(self, requests: socket.socket, run_child: RunChild) -> None:
        self.requests = requests
        self.run_child = run_child
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
        if "preload" in body:
            send_report(report, preload(body["preload"]))
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
        self.run_child(link_fd, share_network)

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


def serve(zygote: Zygote, prepare: Callable[[], None]) -> NoReturn:
    """Call *prepare*, say that the zygote is ready, and serve until the host is gone."""
    prepare()
    datagram.send(zygote.requests, b"ready")
    zygote.run()
    os._exit(0)


def preload(module: str) -> Preloaded:
    """Import *module* and say whether the zygote is still fit to fork: a second thread would end that.

    Whatever the import raises is the module's own affair and is only reported: the host then leaves the module to
    early init in each child, where it has a deadline, a name and a place in the timeline.
    """
    error = ""
    try:
        importlib.import_module(module)
    except BaseException as raised:  # noqa: BLE001 - an import may raise anything, SystemExit included
        error = f"{type(raised).__name__}: {raised}"
    return Preloaded(len(os.listdir("/proc/self/task")), error[:2000])
