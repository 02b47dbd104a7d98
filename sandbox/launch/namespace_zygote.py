"""The zygote of the ``namespaces`` backend, pid 2 of a pid namespace of its own (why not 1: `helper`).

It has all capabilities in its user namespace and none outside. Each child becomes pid 1 of a nested pid namespace.
pid_namespaces(7): unshare(CLONE_NEWPID) moves the *next* child only, and setns(2) back to the own namespace is allowed
because that namespace belongs to the zygote's own user namespace, so one zygote can serve any number of children
(tried). The spare has made its namespaces and given up its capabilities; of the five, the network namespace is the
dearest. At the seal a child asks here for its empty root, which takes capabilities that it does not have (`rootfs`).

Each child asks for SIGKILL on the zygote's end; and pid 1 waits for the zygote and ends with it, which takes all along.
"""

from __future__ import annotations

import json
import os
import socket

from .. import syscalls as sc
from ..steps import StepFailed, step
from .rootfs import replace_root
from .zygote import Child, Runtime, Zygote

SEAL_REQUEST = b"C"
SEAL_DONE = b"O"


class NamespaceZygote(Zygote):
    """Forks children into pid namespaces of their own, and empties their roots."""

    def __init__(self, requests: socket.socket, runtime: Runtime) -> None:
        super().__init__(requests, runtime)
        with step("open the zygote's own namespaces"):
            self.pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            self.mount_namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def fork(self) -> int:
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

    def hear(self, child: Child) -> None:
        """A child asks for its empty root, or has ended."""
        if _asks_for_seal(child.link):
            self._seal(child)
            self.prepare_spare()
        else:
            self.forget_link(child)

    def _seal(self, child: Child) -> None:
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
            self.forget_link(child)


def _asks_for_seal(link: socket.socket) -> bool:
    """Whether a child asks for its empty root; if not, it has ended, perhaps with its birth unread (ECONNRESET)."""
    try:
        return link.recv(1) == SEAL_REQUEST
    except ConnectionResetError:
        return False
