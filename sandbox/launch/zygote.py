"""The zygote of the ``namespaces`` backend, pid 1 of a pid namespace of its own.

    guard - helper - zygote - child A, child B, and one spare

It has all capabilities in its user namespace and none outside, has one thread, has imported what the children will
need, and forks them: each child becomes pid 1 of a nested pid namespace. pid_namespaces(7): unshare(CLONE_NEWPID)
moves the *next* child only, and setns(2) back to the own namespace is allowed because that namespace belongs to the
zygote's own user namespace, so one zygote can serve any number of children (tried).

A child is forked before anybody wants it. The *spare* has made its namespaces and given up its capabilities, knows
nothing yet, and waits for its birth; a launch then costs two messages instead of a fork and five namespaces, of
which the network namespace is the dearest. A launch that finds no spare, or needs another kind, forks its own.

Who dies with whom: pid 1 of a pid namespace takes all of it along, so the end of the zygote is the end of every
child. The zygote asks for SIGKILL on the helper's end (`helper`). The end of the host shows as end of file here.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from ...ipc import datagram, pidfds
from .. import syscalls as sc
from ..steps import StepFailed, step
from .rootfs import View, replace_root
from .wire import Exited, Failed, Launched, Preloaded, receive_request, send_report, send_request

RunChild = Callable[[int, bool], NoReturn]
"""What a forked child runs: the fd of its link to the zygote, and whether it keeps the host's network namespace."""

SEAL_REQUEST = b"C"
SEAL_DONE = b"O"


@dataclass(slots=True)
class _Child:
    """A child as its zygote knows it: the pid is the zygote's own number for it.

    Over ``link`` comes first its birth, from here, then its request for the empty root, from there. A child without
    a report socket is the spare.
    """

    launched_pid: int
    pidfd: int
    link: socket.socket
    report: socket.socket | None = None
    view: View = View()  # noqa: RUF009 - frozen


class Zygote:
    """Forks children, empties their roots, reaps and reports them, until the host is gone."""

    def __init__(self, requests: socket.socket, run_child: RunChild) -> None:
        self.requests = requests
        self.run_child = run_child
        self.children: dict[int, _Child] = {}
        self.spare: _Child | None = None
        self.poll = select.poll()
        with step("open the zygote's own namespaces"):
            self.pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            self.mount_namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

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
                self._attend(fd, self.children[fd])

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
            settle()
            self._prepare_spare()
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
            send_request(child.link, body["birth"], fds)
        except (BrokenPipeError, ConnectionResetError) as error:
            child.report = None
            raise StepFailed("give the child its birth", error.errno or 0, "it has ended") from error
        send_report(report, Launched(child.launched_pid, child.pidfd))

    def _prepare_spare(self) -> None:
        """Fork the next child now. If that fails, the next launch will say why."""
        if self.spare is None:
            try:
                self.spare = self._fork_child(share_network=False)
            except StepFailed:
                return

    def _fork_child(self, share_network: bool) -> _Child:
        ours, childs = datagram.control_pair()
        try:
            pid = self._fork()
        except StepFailed:
            ours.close()
            childs.close()
            raise
        if pid == 0:
            self._become_child(childs.detach(), ours, share_network)
        childs.close()
        child = _Child(pid, os.pidfd_open(pid), ours)
        for fd in (child.pidfd, ours.fileno()):
            self.children[fd] = child
            self.poll.register(fd, select.POLLIN)
        return child

    def _fork(self) -> int:
        """Fork a child into a new pid namespace, and aim the next fork at the own one again."""
        with step("make the child's pid namespace"):
            sc.unshare(sc.CLONE_NEWPID)
        try:
            pid = os.fork()
        except OSError as error:
            self._return_to_own_pid_namespace()
            raise StepFailed("fork the child", error.errno or 0, error.strerror or "") from error
        if pid:
            self._return_to_own_pid_namespace()
        return pid

    def _return_to_own_pid_namespace(self) -> None:
        sc.setns(self.pid_namespace, sc.CLONE_NEWPID)  # if this fails, the zygote ends: it could not fork rightly

    def _become_child(self, link_fd: int, ours: socket.socket, share_network: bool) -> NoReturn:
        """The zygote's sockets are here too; their objects must not close fd numbers that mean something else later."""
        for child in self.children.values():
            child.link.detach()
            if child.report is not None:
                child.report.detach()
        ours.detach()
        self.requests.detach()
        self.run_child(link_fd, share_network)

    def _attend(self, fd: int, child: _Child) -> None:
        if fd == child.pidfd:
            self._reap(child)
        elif _asks_for_seal(child.link):
            self._seal(child)
            self._prepare_spare()  # now: the host verifies and the child waits for it, so nobody waits for this process
        else:
            self._forget_link(child)

    def _seal(self, child: _Child) -> None:
        """Empty the child's root, once: the link is closed afterwards, whatever the outcome."""
        try:
            replace_root(child.pidfd, self.mount_namespace, child.view)
        except StepFailed as error:
            answer = json.dumps({"errno": error.errno, "step": error.step}).encode()
        else:
            answer = SEAL_DONE
        try:
            child.link.send(answer, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):  # it has just ended; its pidfd tells
            return
        finally:
            self._forget_link(child)

    def _forget_link(self, child: _Child) -> None:
        self.poll.unregister(child.link)
        del self.children[child.link.fileno()]
        child.link.close()

    def _reap(self, child: _Child) -> None:
        _, status, usage = os.wait4(child.launched_pid, 0)
        if child is self.spare:
            self.spare = None
        if child.link.fileno() >= 0:
            self._forget_link(child)
        self.poll.unregister(child.pidfd)
        del self.children[child.pidfd]
        os.close(child.pidfd)
        self._prepare_spare()  # if this one never came to its seal
        if child.report is not None:
            send_report(child.report, Exited(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))
            child.report.close()


def _asks_for_seal(link: socket.socket) -> bool:
    """Whether a child asks for its empty root; if not, it has ended, perhaps with its birth unread (ECONNRESET)."""
    try:
        return link.recv(1) == SEAL_REQUEST
    except ConnectionResetError:
        return False


def settle() -> None:
    """Collect garbage and freeze the rest: a collection in a child would copy every page that it shares."""
    gc.collect()
    gc.freeze()


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
