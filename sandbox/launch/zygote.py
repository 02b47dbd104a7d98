"""The helper and the zygote of the ``namespaces`` backend.

    guard - helper - zygote - child A, child B ...

The *helper* is exec'ed by the guard, makes the user namespace and a pid namespace below it, forks the zygote as pid
1 of that, and then only waits: the number of the zygote in the outer namespace stays behind it. The *zygote* has
all capabilities in its user namespace and none outside, has one thread, imports what the children will need, and
forks them: each child becomes pid 1 of a pid namespace of its own. pid_namespaces(7): unshare(CLONE_NEWPID) moves
the *next* child only, and setns(2) back to the own namespace is allowed because that namespace belongs to the
zygote's own user namespace, so one zygote can serve any number of children (tried).

Who dies with whom: pid 1 of a pid namespace takes all of it along, so the end of the zygote is the end of every
child. The zygote asks for SIGKILL on the helper's end, and looks at the helper once more after asking. The end of
the host shows as end of file on the request socket.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

from ...ipc import datagram, pidfds
from .. import confine
from .. import syscalls as sc
from ..base import Birth
from ..steps import StepFailed, step
from .rootfs import View, replace_root
from .userns import enter_user_namespace, forbid_nested_user_namespaces
from .wire import Exited, Failed, Launched, Preloaded, receive_request, send_report

RunChild = Callable[[Birth, int, int], NoReturn]
"""What a forked child runs: its birth, the fd of its control channel, and the fd of its sealer."""

SEAL_REQUEST = b"C"
SEAL_DONE = b"O"


def run_helper(requests_fd: int, prepare: Callable[[], None], run_child: RunChild) -> NoReturn:
    """Be the helper: make the namespaces, fork the zygote, wait for it. Reports a failure over *requests_fd*.

    The zygote calls *prepare* once before it is ready, and each of its children *run_child*.
    """
    requests = socket.socket(fileno=requests_fd)
    requests.set_inheritable(False)
    try:
        pid = _fork_into_namespaces()
    except StepFailed as error:
        send_report(requests, Failed(2, error.errno, str(error)))
        os._exit(1)
    if pid == 0:
        _run_zygote(requests, prepare, run_child)
    requests.close()
    os.waitpid(pid, 0)
    os._exit(0)


def _fork_into_namespaces() -> int:
    helper_pidfd = os.pidfd_open(os.getpid())
    enter_user_namespace()
    with step("make a pid namespace"):
        sc.unshare(sc.CLONE_NEWPID)
    with step("fork the zygote"):
        pid = os.fork()
    if pid == 0:
        confine.die_with(signal.SIGKILL)
        if pidfds.has_ended(helper_pidfd):  # it ended before the line above: nobody would tell us
            os._exit(1)
    os.close(helper_pidfd)
    return pid


def _run_zygote(requests: socket.socket, prepare: Callable[[], None], run_child: RunChild) -> NoReturn:
    try:
        with step("make the zygote's mount namespace"):
            sc.unshare(sc.CLONE_NEWNS)
            sc.mount("none", "/", None, sc.MS_REC | sc.MS_PRIVATE)
        forbid_nested_user_namespaces()
        zygote = Zygote(requests, run_child)
        prepare()
    except StepFailed as error:
        send_report(requests, Failed(2, error.errno, str(error)))
        os._exit(1)
    datagram.send(requests, b"ready")
    zygote.run()
    os._exit(0)


@dataclass(slots=True)
class _Child:
    """A child as its zygote knows it: the pid is the zygote's own number for it."""

    launched_pid: int
    pidfd: int
    report: socket.socket
    sealer: socket.socket
    view: View


class Zygote:
    """Forks children, empties their roots, reaps and reports them, until the host is gone."""

    def __init__(self, requests: socket.socket, run_child: RunChild) -> None:
        self.requests = requests
        self.run_child = run_child
        self.children: dict[int, _Child] = {}
        self.poll = select.poll()
        with step("open the zygote's own namespaces"):
            self.pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            self.mount_namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def run(self) -> None:
        """Serve until end of file on the request socket."""
        gc.collect()
        gc.freeze()  # a collection in a child would copy every page that it shares with the zygote
        self.poll.register(self.requests, select.POLLIN)
        while True:
            for fd, _ in self.poll.poll():
                if fd == self.requests.fileno():
                    if not self._serve():
                        return
                elif (child := self.children.get(fd)) is not None:
                    self._attend(fd, child)

    def _serve(self) -> bool:
        request = receive_request(self.requests)
        if request is None:
            return False
        body, (report_fd, *fds) = request
        report = socket.socket(fileno=report_fd)
        if "preload" in body:
            send_report(report, preload(body["preload"]))
            report.close()
        else:
            self._launch(body, report, fds)
            datagram.close_all(fds)
        return True

    def _launch(self, body: dict[str, Any], report: socket.socket, fds: list[int]) -> None:
        ours, childs = datagram.control_pair()
        try:
            pid = self._fork()
        except StepFailed as error:
            send_report(report, Failed(2, error.errno, str(error)))
            for sock in (ours, childs, report):
                sock.close()
            return
        if pid == 0:
            self._become_child(body, childs.detach(), fds)
        childs.close()
        child = _Child(pid, os.pidfd_open(pid), report, ours, View(**body["view"]))
        for fd in (child.pidfd, child.sealer.fileno()):
            self.children[fd] = child
            self.poll.register(fd, select.POLLIN)
        send_report(report, Launched(pid, child.pidfd))

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

    def _become_child(self, body: dict[str, Any], sealer_fd: int, fds: list[int]) -> NoReturn:
        control_fd, stdout, stderr = fds
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        birth = msgspec.convert(body["birth"], Birth)
        # The zygote's sockets exist here too. Their objects must not close fd numbers that mean something else later.
        for child in self.children.values():
            child.report.detach()
            child.sealer.detach()
        self.requests.detach()
        self.run_child(birth, control_fd, sealer_fd)

    def _attend(self, fd: int, child: _Child) -> None:
        if fd == child.pidfd:
            self._reap(child)
        elif child.sealer.recv(1) == SEAL_REQUEST:
            self._seal(child)
        else:
            self._forget_sealer(child)

    def _seal(self, child: _Child) -> None:
        """Empty the child's root, once: the sealer is closed afterwards, whatever the outcome."""
        try:
            replace_root(child.pidfd, self.mount_namespace, child.view)
        except StepFailed as error:
            answer = json.dumps({"errno": error.errno, "step": error.step}).encode()
        else:
            answer = SEAL_DONE
        try:
            child.sealer.send(answer, socket.MSG_NOSIGNAL)
        except BrokenPipeError:  # it has just ended; its pidfd tells
            return
        finally:
            self._forget_sealer(child)

    def _forget_sealer(self, child: _Child) -> None:
        self.poll.unregister(child.sealer)
        del self.children[child.sealer.fileno()]
        child.sealer.close()

    def _reap(self, child: _Child) -> None:
        _, status, usage = os.wait4(child.launched_pid, 0)
        if child.sealer.fileno() >= 0:
            self._forget_sealer(child)
        self.poll.unregister(child.pidfd)
        del self.children[child.pidfd]
        os.close(child.pidfd)
        send_report(child.report, Exited(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))
        child.report.close()


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
    gc.collect()
    gc.freeze()
    return Preloaded(len(os.listdir("/proc/self/task")), error[:2000])
