"""Try what belljar needs to know and bound processes: capabilities, limits, pidfds, credentials, memfds, /proc."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
from errno import EFBIG
from pathlib import Path

from ...ipc import credentials, payload, pidfds
from .. import confine
from ..errors import SandboxError
from ..policy import Limits
from ..steps import StepFailed, step
from .forked import Forked, start

_CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_NAMESPACES = ("user", "pid", "net", "ipc", "mnt", "uts", "cgroup")


def status_field(key: str, process: str = "self") -> str:
    """Return one field of ``/proc/PROCESS/status``, or nothing. See proc_pid_status(5)."""
    with step(f"read /proc/{process}/status"):
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{key}:")), "")


def capabilities() -> str:
    """Drop every set and the bounding set where all were full, and read all back."""
    from .namespaces import become_capable

    become_capable()
    confine.drop_capabilities()
    left = [name for name in _CAPABILITY_SETS if int(status_field(name) or "1", 16)]
    if left:
        raise SandboxError(f"{', '.join(left)} still hold capabilities although all were dropped")
    return ""


def rlimits() -> str:
    """Set limits, read them back, and see one enforced."""
    confine.set_limits(Limits(open_files=64, file_size=4096))
    for which, most in ((resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_FSIZE, 4096), (resource.RLIMIT_CORE, 1)):
        soft, hard = resource.getrlimit(which)
        if not 0 <= soft == hard <= most:
            raise SandboxError(f"rlimit {which} is {soft}, {hard} although it was set to {most}")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with step("make a memfd"):
        fd = os.memfd_create("belljar-probe")
    try:
        os.pwrite(fd, b"x", 8192)
    except OSError as error:
        if error.errno == EFBIG:
            return ""
        raise StepFailed("see a large file refused", error.errno or 0, error.strerror or "") from error
    raise SandboxError("a file grew beyond RLIMIT_FSIZE")


def pidfd() -> str:
    """Open one, see that its process lives, kill through it, see the end, and reap through it."""
    forked = _sleeper()
    with step("open a pidfd"):
        fd = os.pidfd_open(forked.launched_pid)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if poll.poll(0):
        raise SandboxError("a pidfd says that a living process has ended")
    with step("send a signal by pidfd"):
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    poll.poll()
    with step("wait for a process by pidfd"):
        ended = os.waitid(os.P_PIDFD, fd, os.WEXITED)
    if ended is None or ended.si_status != signal.SIGKILL:
        raise SandboxError("a process did not end by the signal that was sent by pidfd")
    return ""


def passpidfd() -> str:
    """Receive a pidfd of the sender with a message."""
    receiver, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with step("ask for pidfds of senders"):
        receiver.setsockopt(socket.SOL_SOCKET, credentials.SO_PASSPIDFD, 1)
    sender.send(b"hello")
    with step("receive a pidfd of the sender"):
        _, controls, _, _ = receiver.recvmsg(64, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in controls:
        if (level, kind) == (socket.SOL_SOCKET, credentials.SCM_PIDFD):
            named = pidfds.pids_of(int.from_bytes(data[:4], "little", signed=True)).outer_pid
            if named == os.getpid():
                return ""
            raise SandboxError(f"a message of process {os.getpid()} came with a pidfd of {named}")
    raise SandboxError("a message came without the pidfd that was asked for")


def memfd_seal() -> str:
    """Seal a memfd as payloads are, and see that it can neither be written nor shrunk."""
    with step("make a sealed memfd"):
        fd = payload.make_sealed(b"belljar")
    payload.check_sealed(fd, 64)
    for what, change in (("written", lambda: os.pwrite(fd, b"x", 0)), ("shrunk", lambda: os.ftruncate(fd, 1))):
        try:
            change()
        except PermissionError:
            continue
        raise SandboxError(f"a sealed memfd could be {what}")
    return ""


def proc() -> str:
    """Find this process and another one in /proc, with all that the verification of a seal reads."""
    if status_field("Pid") != str(os.getpid()):
        raise SandboxError("/proc belongs to another pid namespace: /proc/self/status names another pid")
    forked = _sleeper()
    other = str(forked.launched_pid)
    status_field("Seccomp", other)
    for kind in _NAMESPACES:
        with step(f"read /proc/PID/ns/{kind} of another process"):
            os.readlink(f"/proc/{other}/ns/{kind}")
    for name in ("root", "cwd"):
        with step(f"read /proc/PID/{name} of another process"):
            os.readlink(f"/proc/{other}/{name}")
    with step("list the threads and fds of another process"):
        os.listdir(f"/proc/{other}/task")
        os.listdir(f"/proc/{other}/fd")
    return ""


def _sleeper() -> Forked:
    """Start a process that waits until it is killed: by a probe, or with the probe's process group."""

    def sleep() -> str:
        signal.pause()
        return ""

    with step("fork a process"):
        return start(sleep, 10)
