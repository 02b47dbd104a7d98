"""Processes by pidfd: what the kernel says of one, and how it is signalled.

A pid is a number that is used again; a pidfd stays with its process. So the host waits on pidfds, kills by pidfd
and asks /proc only while it holds one (pidfd_open(2), pidfd_send_signal(2)). ``/proc/self/fdinfo/FD`` of a pidfd
gives the pid in the reader's own pid namespace and in every inner one (``NSpid``), outermost first.
"""

from __future__ import annotations

import select
import signal
from dataclasses import dataclass


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
            with open(f"/proc/{outer_pid}/status", encoding="utf-8") as file:
                outer_pid = next(int(line.split()[1]) for line in file if line.startswith("PPid:"))
        except FileNotFoundError:
            break
    return chain
