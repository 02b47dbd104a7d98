"""What a process does to itself in stage 3, whatever the backend: small one-way steps.

A capability in *any* set is one too many: the bounding set bounds what an exec could give back, the inheritable and
ambient sets pass on, and uid 0 of a user namespace gets all of them at exec unless securebits say otherwise. So all
sets go, the securebits are locked, and no_new_privs closes what is left. See capabilities(7), prctl(2).
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Collection

import prctl

from . import syscalls
from .policy import Limits, Policy
from .steps import step

_LOCKED = (
    prctl.SECBIT_NOROOT
    | prctl.SECBIT_NOROOT_LOCKED
    | prctl.SECBIT_NO_SETUID_FIXUP
    | prctl.SECBIT_NO_SETUID_FIXUP_LOCKED
    | prctl.SECBIT_KEEP_CAPS_LOCKED
)

OPEN_FILES = 1024
"""RLIMIT_NOFILE of a child whose policy names none."""

_NO_CAPABILITY = tuple((cap, flag, False) for flag in prctl.ALL_FLAGS for cap in prctl.ALL_CAPS)


def drop_capabilities() -> None:
    """Empty the bounding set and every other set of this single-threaded process, and lock the securebits.

    Clearing the permitted and inheritable sets clears the ambient set with them, capabilities(7).
    """
    with step("drop the capability bounding set"):
        prctl.capbset.limit()
    with step("lock the securebits"):
        prctl.set_securebits(_LOCKED)
    with step("drop the capabilities"):
        prctl.set_caps(*_NO_CAPABILITY)


def drop_own_capabilities() -> None:
    """Empty every capability set that this single-threaded process may empty.

    The bounding set and the securebits take CAP_SETPCAP, capabilities(7). Without it they stay as they are, and
    no_new_privs is what keeps an exec from making use of them.
    """
    if prctl.cap_effective.setpcap:
        drop_capabilities()
        return
    with step("drop the capabilities"):
        prctl.set_caps(*_NO_CAPABILITY)


def forbid_new_privileges() -> None:
    """Set no_new_privs, which no exec and no thread can undo. See prctl(2)."""
    with step("set no_new_privs"):
        prctl.set_no_new_privs(1)


def die_with(number: signal.Signals) -> None:
    """Ask the kernel for *number* when the process that forked this one ends. See prctl(2), PR_SET_PDEATHSIG."""
    with step("set the signal on the launcher's end"):
        prctl.set_pdeathsig(number)


def set_limits(limits: Limits) -> None:
    """Set soft and hard rlimits from *limits*; no core dumps ever. Never raises a limit. See setrlimit(2).

    One byte of core file and not none: a dump that the kernel pipes to a program is made for a limit of 0 too, and only
    1 stops it (core(5); fs/coredump.c). A file of one byte is too small to be begun.
    """
    wanted = {
        resource.RLIMIT_AS: limits.memory,
        resource.RLIMIT_CPU: limits.cpu,
        resource.RLIMIT_NOFILE: _open_files(limits),
        resource.RLIMIT_NPROC: limits.processes,
        resource.RLIMIT_FSIZE: limits.file_size,
        resource.RLIMIT_CORE: 1,
    }
    for which, value in wanted.items():
        if value is not None:
            with step(f"set rlimit {which}"):
                resource.setrlimit(which, (_lower(which, value),) * 2)


def _open_files(limits: Limits) -> int:
    """Return how many fds a child may have: at most half of what its launcher may, and 1024 if no limit is given.

    Fds that were sent and not received yet are counted for a *user*, and nobody of that user may send another while
    there are more than *its own* RLIMIT_NOFILE (unix(7), ETOOMANYREFS). So a child with the limit of its zygote and
    its host could keep both from sending any, and 1024 of it in nested epolls stay far from the user's share of those.
    """
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    wanted = OPEN_FILES if limits.open_files is None else limits.open_files
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft // 2)


def _lower(which: int, value: int) -> int:
    hard = resource.getrlimit(which)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def leave_keyrings(policy: Policy) -> None:
    """Leave the session keyring, which is the host's, where *policy* lets the child use keys at all."""
    if "keys" in policy.covert_channels:
        with step("join a session keyring of its own"):
            syscalls.join_session_keyring()


def reset_signals() -> None:
    """Give every signal its default action and unblock all: a child inherits nothing of its launcher's habits."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # as in every Python process: an error of the call, not an end
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def close_fds_except(keep: Collection[int]) -> None:
    """Close every fd but 0, 1, 2 and those in *keep*. See close_range(2)."""
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = max(low, fd + 1)
    os.closerange(low, max(65_536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
