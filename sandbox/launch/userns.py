"""The user namespace of a zygote, made by its helper while it has one thread. See user_namespaces(7).

unshare(CLONE_NEWUSER) needs a single thread (EINVAL otherwise), so the process that does it is freshly exec'ed.
One line maps the caller's own uid and gid onto themselves: an unprivileged process may write no other map, and it
must refuse setgroups(2) first.
"""

from __future__ import annotations

import os
from pathlib import Path

from .. import syscalls
from ..steps import step


def enter_user_namespace() -> None:
    """Move this single-threaded process into a new user namespace whose only user is its own.

    Raises:
        StepFailed: naming the step.
    """
    uid, gid = os.geteuid(), os.getegid()
    with step("make a user namespace"):
        syscalls.unshare(syscalls.CLONE_NEWUSER)
    with step("write setgroups"):
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    with step("write uid_map"):
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
    with step("write gid_map"):
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")


def forbid_nested_user_namespaces() -> None:
    """Let no process below this user namespace make another: unshare then fails with ENOSPC. See namespaces(7)."""
    with step("forbid nested user namespaces"):
        Path("/proc/sys/user/max_user_namespaces").write_text("0", encoding="ascii")
