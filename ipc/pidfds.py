"""Processes by pidfd: what the kernel says of one, and how it is signalled.

A pid is a number that is used again; a pidfd stays with its process. So the host waits on pidfds, kills by pidfd
and asks /proc only while it holds one (pidfd_open(2), pidfd_send_signal(2)). ``/proc/self/fdinfo/FD`` of a pidfd
gives the pid in the reader's own pid namespace and in every inner one (``NSpid``), outermost first.
"""

from __future__ import annotations

import fcntl
import select
import signal
import struct
from dataclasses import dataclass

# linux/pidfd.h: struct pidfd_info in its first form of 64 bytes, the exit code last; PIDFD_INFO_EXIT asks for it.
_INFO_SIZE, _INFO_EXIT = 64, 1 << 3
_GET_INFO = 3 << 30 | _INFO_SIZE << 16 | 0xFF << 8 | 11


@dataclass(frozen=True, slots=True)
class Pids:
    """The pid of one process in the reader's namespace, then in each inner one."""

    outer_pid: int
    by_namespace: tuple[int, ...]


def pids_of(pidfd: int) -> Pids:
    """Return the pids of the process behind *pidfd*; ``outer_pid`` is -1 once it has been reaped."""
    fields: dict[str, str] = {}
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        for line in file:
            key, _, value = line.partition(":")
            fields[key] = value
    by_namespace = tuple(int(part) for part in fields.get("NSpid", "").split())
    return Pids(int(fields["Pid"]), by_namespace)


def has_ended(pidfd: int) -> bool:
    """Return whether the process has ended, a zombie included."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def exit_status(pidfd: int) -> int | None:
    """Return the wait status of a process that somebody else has reaped, None where the kernel does not tell.

    PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15. See pidfd_open(2).
    """
    buffer = bytearray(struct.pack("=Q", _INFO_EXIT).ljust(_INFO_SIZE, b"\0"))
    try:
        fcntl.ioctl(pidfd, _GET_INFO, buffer)
    except OSError:  # an older kernel, or nobody has reaped it yet
        return None
    (mask,) = struct.unpack_from("=Q", buffer)
    return int(struct.unpack_from("=i", buffer, _INFO_SIZE - 4)[0]) if mask & _INFO_EXIT else None


def kill(pidfd: int) -> None:
    """Send SIGKILL; a process that has already ended is left alone."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return


def ancestors(outer_pid: int) -> list[int]:
    """Return the pids from *outer_pid* up to pid 1. Hold a pidfd of it, and look at that again afterwards."""
    chain: list[int] = []
    while outer_pid > 0:
        chain.append(outer_pid)
        try:
            with open(f"/proc/{outer_pid}/status", encoding="utf-8", errors="replace") as file:
                outer_pid = next(int(line.split()[1]) for line in file if line.startswith("PPid:"))
        except FileNotFoundError:
            break
    return chain
