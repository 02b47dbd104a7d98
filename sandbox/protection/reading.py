"""What /proc says of a child, for every thread. Stage 8.

A child that says "I am sealed" proves nothing, and a library call that returned success only little more. So the
host reads /proc/PID of the process that its pidfd holds, for *every thread*: seccomp filters, no_new_privs,
capabilities and even namespaces belong to a thread, not to a process (proc_pid_status(5), namespaces(7),
credentials(7)), and one thread that escaped is enough. Reading ``ns`` and ``root`` of another process asks for
ptrace access (ptrace(2), PTRACE_MODE_READ): the host has it as the owner of the child's user namespace, as long as
the child is dumpable. The numbers in /proc mean the right process only while the pidfd shows that it lives, so it is
looked at once more in the end.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..layers import Layer

NAMESPACES = {
    Layer.USER_NS: "user",
    Layer.PID_NS: "pid",
    Layer.NET_NS: "net",
    Layer.IPC_NS: "ipc",
    Layer.MOUNT_NS: "mnt",
    Layer.UTS_NS: "uts",
    Layer.CGROUP_NS: "cgroup",
}

_PF_EXITING = 0x4
_PF_IO_WORKER = 0x10  # include/linux/sched.h


@dataclass(frozen=True, slots=True)
class Thread:
    """What one thread is confined by; root and working directory as device and inode."""

    tid: int
    status: Mapping[str, str]
    namespaces: Mapping[str, str]
    root: tuple[int, int]
    cwd: tuple[int, int]
    serves_io_uring: bool

    @property
    def name(self) -> str:
        """Its name of 15 bytes at most, which the child wrote; what no terminal should see is replaced."""
        return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in self.status["Name"])


@dataclass(slots=True)
class Reading:
    """What /proc says of one process; ``own`` and ``own_filters`` are the host's namespaces and number of filters.

    ``processes`` are those that it has started, and orphans of those: pid -> name.
    """

    outer_pid: int
    threads: list[Thread]
    limits: Mapping[str, str]
    fds: Mapping[int, str]
    directories: Mapping[int, str]
    entries: list[str]
    root_is_read_only: bool
    own: Mapping[str, str]
    own_filters: int
    processes: Mapping[int, str]


def read(outer_pid: int) -> Reading:
    """Read all of it. `OSError` as from /proc; ESRCH when the process has ended.

    Threads before fds: a call that has ended when its thread is read has left its fd where it is read next.
    """
    base = f"/proc/{outer_pid}"
    found = [_read_thread(f"{base}/task/{tid}", int(tid)) for tid in os.listdir(f"{base}/task")]
    threads = [thread for thread in found if thread is not None]
    if not threads:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    fds = {int(fd): _link(f"{base}/fd/{fd}") for fd in os.listdir(f"{base}/fd")}
    return Reading(
        outer_pid=outer_pid,
        threads=threads,
        limits=_limits(Path(f"{base}/limits").read_text()),
        fds=fds,
        directories={fd: name for fd, name in fds.items() if os.path.isdir(f"{base}/fd/{fd}")},
        entries=_entries(f"{base}/root/"),
        root_is_read_only=_is_read_only(f"{base}/root/"),
        own={name: _link(f"/proc/self/ns/{name}") for name in NAMESPACES.values()},
        own_filters=int(_fields("/proc/self/status").get("Seccomp_filters", "0")),
        processes=_processes(outer_pid, threads[0]),
    )


def _read_thread(base: str, tid: int) -> Thread | None:
    """Return what a thread is confined by, None if it has ended since it was listed.

    A thread that begins after the listing inherits all of this from one that was read.
    """
    try:
        status = _fields(f"{base}/status")
        namespaces = {name: os.readlink(f"{base}/ns/{name}") for name in NAMESPACES.values()}
        is_served = bool(_flags(f"{base}/stat") & _PF_IO_WORKER)
        return Thread(tid, status, namespaces, _identity(f"{base}/root"), _identity(f"{base}/cwd"), is_served)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:  # also for a moment of a thread that is on its way out: it has no memory to judge by
        if _is_exiting(base):
            return None
        raise


def _is_exiting(base: str) -> bool:
    """Whether a thread runs no code of its own any more: PF_EXITING of linux/sched.h in field 9 of stat, proc(5)."""
    try:
        flags = int(Path(f"{base}/stat").read_text().rpartition(")")[2].split()[6])
    except (FileNotFoundError, ProcessLookupError):
        return True
    return bool(flags & _PF_EXITING)


def _flags(path: str) -> int:
    """Return the flags of a thread, field 9; the name before them, in parentheses, may hold anything. See proc(5)."""
    return int(Path(path).read_bytes().rpartition(b")")[2].split()[6])


def _processes(outer_pid: int, thread: Thread) -> dict[int, str]:
    """Return the processes that a child has started, by pid; orphans become children of pid 1 of the namespace.

    That is the child itself, or else its launcher (`bubblewrap`). Without a pid namespace, orphans become the zygote's.
    """
    found = {pid for tid in os.listdir(f"/proc/{outer_pid}/task") for pid in _children(outer_pid, int(tid))}
    launcher = int(thread.status["PPid"])
    is_first = thread.status["NSpid"].split()[-1] == "1"
    if not is_first and thread.namespaces["pid"] != _link("/proc/self/ns/pid"):
        found |= {pid for tid in os.listdir(f"/proc/{launcher}/task") for pid in _children(launcher, int(tid))}
    return {pid: _name(pid) for pid in sorted(found - {outer_pid})}


def _children(pid: int, tid: int) -> list[int]:
    """Return the pids that thread *tid* has started; none if it has ended. See proc_tid_children(5)."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{tid}/children").read_text("ascii").split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _name(pid: int) -> str:
    try:
        return _fields(f"/proc/{pid}/status")["Name"]
    except (FileNotFoundError, ProcessLookupError):
        return "ended"


def _fields(path: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in Path(path).read_text("utf-8", "replace").splitlines())
    return {key: value.strip() for key, _, value in pairs}


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:  # an fd that has just been closed
        return ""


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _entries(root: str) -> list[str]:
    """Return the first names below *root*; one name too many is enough to know that it is not empty.

    chrome-sandbox leaves a directory of a process that has ended as root: it has no names, and says ESRCH.
    """
    try:
        with os.scandir(root) as scan:
            return [entry.name for entry, _ in zip(scan, range(16), strict=False)]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _is_read_only(root: str) -> bool:
    """Whether nothing can be made in *root*: it is mounted read-only, or belongs to proc(5), which has no way to."""
    return bool(os.statvfs(root).f_flag & os.ST_RDONLY) or _is_of_proc(root)


def _is_of_proc(root: str) -> bool:
    return os.stat(root).st_dev == os.stat("/proc").st_dev


def _limits(text: str) -> dict[str, str]:
    """Return the hard limits of /proc/PID/limits by their name there; columns are 26, 21 and 21 wide, see proc(5).

    The hard ones: a process may raise its soft limits up to them, and a soft limit is never above.
    """
    return {line[:26].strip(): line[47:68].strip() for line in text.splitlines()[1:]}
