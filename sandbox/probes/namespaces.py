"""Try each namespace as the ``namespaces`` backend uses it, and the empty root.

User namespaces in two steps, as Gecko learned: where AppArmor restricts them, making one succeeds, mapping ids may
succeed, and only the first *use* of a capability fails. And a single call with CLONE_NEWUSER | CLONE_NEWPID passes
there, so nothing less than the real order of calls is tried. See user_namespaces(7).
"""

from __future__ import annotations

import os
import socket
from errno import ENOSPC, EROFS

from ...ipc import credentials, datagram
from .. import syscalls as sc
from ..errors import SandboxError
from ..launch.rootfs import View, replace_root
from ..launch.userns import enter_user_namespace, forbid_nested_user_namespaces
from ..steps import StepFailed, step
from .forked import in_fork, result_of, start

# Root needs no user namespace to make the others. The backend makes one anyway: capabilities then end at its border.
_NOTE_FOR_ROOT = "used also as root"


def userns() -> str:
    """Make one, map ids, use a capability in it, and close the door to nested ones."""
    enter_user_namespace()
    with step("use a capability in the user namespace"):
        sc.unshare(sc.CLONE_NEWNS)
        sc.mount("none", "/", None, sc.MS_REC | sc.MS_PRIVATE)
    forbid_nested_user_namespaces()
    try:
        sc.unshare(sc.CLONE_NEWUSER)
    except OSError as error:
        if error.errno == ENOSPC:
            return _NOTE_FOR_ROOT if os.geteuid() == 0 else ""
        raise StepFailed("see a nested user namespace refused", error.errno or 0, error.strerror or "") from error
    raise SandboxError("a nested user namespace could be made although user.max_user_namespaces was set to 0")


def pidns() -> str:
    """Be pid 1 of one, and be seen from outside under the pid that fork returned."""
    become_capable()
    with step("make a pid namespace"):
        sc.unshare(sc.CLONE_NEWPID)
    outside, inside = datagram.control_pair()
    credentials.request_credentials(outside)

    def speak() -> str:
        inside.send(b"hello")
        return str(os.getpid())

    with step("fork into the pid namespace"):
        forked = start(speak, 10)
    launched_pid, inner_pid = forked.launched_pid, result_of(forked)
    sender_pid = _sender(outside)
    if inner_pid != "1":
        raise SandboxError(f"the first process of a new pid namespace has pid {inner_pid} instead of 1")
    if sender_pid != launched_pid:
        raise SandboxError(f"the credentials of process {launched_pid} name {sender_pid} outside its pid namespace")
    return ""


def _sender(sock: socket.socket) -> int:
    with step("receive credentials"):
        _, controls, _, _ = sock.recvmsg(64, socket.CMSG_SPACE(credentials.UCRED.size))
    for level, kind, data in controls:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            return int(credentials.UCRED.unpack(data)[0])
    return 0


def netns() -> str:
    """Make a network namespace."""
    return _move("net", sc.CLONE_NEWNET)


def ipcns() -> str:
    """Make an ipc namespace."""
    return _move("ipc", sc.CLONE_NEWIPC)


def cgroupns() -> str:
    """Make a cgroup namespace."""
    return _move("cgroup", sc.CLONE_NEWCGROUP)


def utsns() -> str:
    """Make a uts namespace and name the host in it."""
    _move("uts", sc.CLONE_NEWUTS)
    with step("set the host name"):
        sc.sethostname(b"belljar")
    if socket.gethostname() != "belljar":
        raise SandboxError("the host name did not change although sethostname succeeded")
    return ""


def mountns() -> str:
    """Make a mount namespace and mount a tmpfs in it."""
    _become_mounter()
    with step("mount a tmpfs"):
        sc.mount("belljar", "/proc", "tmpfs", 0, "size=64k")
    if os.listdir("/proc"):
        raise SandboxError("a mounted tmpfs is not seen")
    return ""


def empty_root() -> str:
    """Empty the root of another process from outside, as a zygote does at stage 7; let that one look and write."""
    _become_mounter()
    with step("open the own mount namespace"):
        own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    launcher, sealed = socket.socketpair()

    def look() -> str:
        launcher.close()
        with step("make a mount namespace"):
            sc.unshare(sc.CLONE_NEWNS)
        os.chdir("/")
        sealed.send(b"C")
        if sealed.recv(1) == b"O":
            _check_empty()
        return ""

    forked = start(look, 10)
    sealed.close()
    if launcher.recv(1) == b"C":
        with step("open a pidfd"):
            pidfd = os.pidfd_open(forked.launched_pid)
        replace_root(pidfd, own, View())
        launcher.send(b"O")
    return result_of(forked)


def _check_empty() -> None:
    with step("look at the empty root"):
        entries = os.listdir("/")
    if entries:
        raise SandboxError(f"the emptied root still holds {entries[0]!r}")
    try:
        os.mkdir("/written")
    except OSError as error:
        if error.errno != EROFS:
            raise StepFailed("see a write refused as read-only", error.errno or 0, error.strerror or "") from error
    else:
        raise SandboxError("the empty root can be written to")


def _move(kind: str, flag: int) -> str:
    become_capable()
    link = f"/proc/self/ns/{kind}"
    with step(f"read {link}"):
        before = os.stat(link).st_ino
    with step(f"make the {kind} namespace"):
        sc.unshare(flag)
    if os.stat(link).st_ino == before:
        raise SandboxError(f"{link} did not change although unshare succeeded")
    return in_fork(lambda: "")  # a process can still be started in there


def _become_mounter() -> None:
    become_capable()
    with step("make a mount namespace"):
        sc.unshare(sc.CLONE_NEWNS)
    with step("make all mounts private"):
        sc.mount("none", "/", None, sc.MS_REC | sc.MS_PRIVATE)


def become_capable() -> None:
    """Enter a user namespace, as the backend does. Root can try the rest also without one."""
    try:
        enter_user_namespace()
    except StepFailed:
        if os.geteuid() != 0:
            raise
