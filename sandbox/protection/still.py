"""A sealed child that holds still, so that nothing from before the seal is on its way and no thread is overlooked.

A filter judges a call when it is made. A thread of early init that sits in one over the seal, in the open of a FIFO
or in accept(2), gets its result afterwards, although the filter refuses such calls; and a list of threads that come
and go is never complete. Stopping the child settles both. SIGSTOP reaches every thread, and a thread takes it where it
leaves the kernel, so one that is seen stopped has no call from before left. A call that slept was broken off: when the
child goes on, the kernel makes it once more, and the filter judges it like any other (tried: open and accept answer
EACCES then), or it says EINTR (signal(7), "Interruption of system calls and library functions by stop signals", names
those). Code can take that, for Ctrl-Z and every debugger do the same. A call that had ended has left its result where
stage 8 looks next. Calls that the filter allows go on too; what they bring, a sealed child may ask for anyway.

/proc/PID/task/TID/syscall would show the calls without a stop, but not enough: a thread that runs is only "running",
one that waits for the answer of the filter's listener looks as if it slept in the call, and to read it takes the right
to trace, which Yama refuses to most hosts with ptrace_scope 2.

What cannot be stopped is a thread in uninterruptible sleep, state D: TSYNC has put the filter on it too (tried), but
nobody judged the call that it sleeps in, and a file system that answers late may make an fd of it at any time. A
page-in is soon over, so the host waits a moment (`PAUSES`). A thread that still sleeps then is named by `where`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ..errors import SandboxError
from ..seccomp.compile import number_names
from ..steps import step

PAUSES: Final = (0.001,) * 20 + (0.01,) * 98
"""Seconds between looks whether a child has stopped, one in all; a thread that waits for a page or a processor needs
milliseconds. They are a number of looks, because where the whole machine stood still, time says nothing of a child."""

STOPPED: Final = frozenset("TtZX")
"""States of threads that hold still: stopped, stopped by a debugger, ended. See proc_pid_stat(5)."""


@contextmanager
def stopped(pidfd: int) -> Generator[None]:
    """Stop the child that *pidfd* holds for the block; `is_still` says when it has stopped.

    Raises:
        StepFailed: the kernel refused, or the child has ended.
    """
    with step("stop the child"):
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)


def is_still(outer_pid: int) -> bool:
    """Whether all threads are stopped, or have ended.

    The kernel's list may leave a thread out while others end, but stopped threads do not end: if all that are listed
    are stopped and as many as the kernel counts (field 20 of stat), it is complete.
    """
    try:
        tids = os.listdir(f"/proc/{outer_pid}/task")
    except FileNotFoundError:
        return True
    try:
        return all(_is_stopped_one_of(f"/proc/{outer_pid}/task/{tid}/stat", len(tids)) for tid in tids)
    except (FileNotFoundError, ProcessLookupError):  # a thread that has ended since it was listed
        return False


def _is_stopped_one_of(path: str, count: int) -> bool:
    fields = Path(path).read_text("utf-8", "replace").rpartition(")")[2].split()
    return fields[0] in STOPPED and int(fields[17]) == count


def where(outer_pid: int, tid: int) -> str:
    """Return in what call and where in the kernel a thread sleeps, as far as this process may know; else nothing."""
    base = f"/proc/{outer_pid}/task/{tid}"
    call = _read(f"{base}/syscall").partition(" ")[0]  # a number, "running", or -1 for none
    place = _read(f"{base}/wchan")  # 0 where the kernel does not say
    words = [f"in {_name(int(call))}" if call.isdecimal() else "", f"at {place}" if place.strip("0") else ""]
    return " ".join(filter(None, words))


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii").strip()
    except OSError:  # the thread has ended, this kernel has no such file, or this process may not trace the child
        return ""


def _name(number: int) -> str:
    try:
        return number_names().get(number, f"call {number}")
    except SandboxError:
        return f"call {number}"
