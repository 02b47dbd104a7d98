"""The helper of the ``namespaces`` backend: makes the namespaces of a zygote, forks it, and then only waits.

The number of the zygote in the outer pid namespace stays behind the helper, which the guard started and can kill.

A second helper is pid 1 of the new pid namespace and only waits too, so that the zygote is pid 2: each of its children
is pid 1 of a namespace of its own, and OpenSSL, tempfile and others look by getpid(2) whether they were forked. From a
zygote that is pid 1 too, all children drew the same random numbers (tried with OpenSSL 3.0: `ssl.RAND_bytes`).
"""

from __future__ import annotations

import os
import signal
import socket
from typing import NoReturn

from ...ipc import pidfds
from .. import confine
from .. import syscalls as sc
from ..steps import StepFailed, step
from .namespace_zygote import NamespaceZygote
from .userns import enter_user_namespace, forbid_nested_user_namespaces
from .wire import Failed, send_report
from .zygote import Runtime, serve


def run_helper(requests_fd: int, runtime: Runtime) -> NoReturn:
    """Be the helper: make the namespaces, fork the zygote, wait for it. Reports a failure over *requests_fd*."""
    requests = socket.socket(fileno=requests_fd)
    requests.set_inheritable(False)
    try:
        pid = _fork_into_namespaces()
    except StepFailed as error:
        send_report(requests, Failed(2, error.errno, str(error), error.step))
        os._exit(1)
    if pid == 0:
        _run_init(requests, runtime)
    _wait(requests, pid)


def _wait(requests: socket.socket, pid: int) -> NoReturn:
    requests.close()
    os.waitpid(pid, 0)
    os._exit(0)


def _fork_into_namespaces() -> int:
    helper_pidfd = os.pidfd_open(os.getpid())
    enter_user_namespace()
    with step("make a pid namespace"):
        sc.unshare(sc.CLONE_NEWPID)
    with step("fork the zygote's init"):
        pid = os.fork()
    if pid == 0:
        confine.die_with(signal.SIGKILL)
        if pidfds.has_ended(helper_pidfd):  # it ended before the line above: nobody would tell us
            os._exit(1)
    os.close(helper_pidfd)
    return pid


def _run_init(requests: socket.socket, runtime: Runtime) -> NoReturn:
    """Be pid 1, whose end takes the zygote along, and its children with it; and end with the zygote."""
    try:
        with step("fork the zygote"):
            pid = os.fork()
    except StepFailed as error:
        send_report(requests, Failed(2, error.errno, str(error), error.step))
        os._exit(1)
    if pid == 0:
        _run_zygote(requests, runtime)
    _wait(requests, pid)


def _run_zygote(requests: socket.socket, runtime: Runtime) -> NoReturn:
    try:
        with step("make the zygote's mount namespace"):
            sc.unshare(sc.CLONE_NEWNS)
            sc.mount("none", "/", None, sc.MS_REC | sc.MS_PRIVATE)
        forbid_nested_user_namespaces()
        zygote = NamespaceZygote(requests, runtime)
    except StepFailed as error:
        send_report(requests, Failed(2, error.errno, str(error), error.step))
        os._exit(1)
    serve(zygote)
