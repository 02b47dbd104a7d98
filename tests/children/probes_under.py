"""Probe this machine from under one restriction, as a container or an administrator sets it: ``probes_under.py WHICH``.

Prints the results as JSON. Each restriction is the kernel's own; nothing is pretended.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import platform
import struct
import sys
from collections.abc import Callable

from belljar.sandbox import confine
from belljar.sandbox import syscalls as sc
from belljar.sandbox.launch.userns import enter_user_namespace, forbid_nested_user_namespaces
from belljar.sandbox.probe import probe

_X86 = platform.machine() == "x86_64"
_UNSHARE = 272 if _X86 else 97
_PIDFD_OPEN = 434
_LANDLOCK_CREATE_RULESET = 444


def _refuse(number: int, answer: int) -> None:
    """Put a filter on this process that refuses one call, as that of a container engine does. See seccomp(2)."""
    code = ((0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | answer), (0x06, 0, 0, 0x7FFF0000))
    confine.forbid_new_privileges()
    sc.seccomp_set_filter(b"".join(struct.pack("HBBI", *instruction) for instruction in code), 0)


def _no_nested_user_namespaces() -> None:
    enter_user_namespace()
    forbid_nested_user_namespaces()


def _read_only_proc_sys() -> None:
    enter_user_namespace()
    sc.unshare(sc.CLONE_NEWNS)
    sc.mount("none", "/", None, sc.MS_REC | sc.MS_PRIVATE)
    sc.mount("/proc/sys", "/proc/sys", None, sc.MS_BIND | sc.MS_REC)
    locked = sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC
    sc.mount("none", "/proc/sys", None, sc.MS_REMOUNT | sc.MS_BIND | sc.MS_RDONLY | locked)


RESTRICTIONS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "max_user_namespaces": _no_nested_user_namespaces,
    "proc-sys-read-only": _read_only_proc_sys,
    "seccomp-unshare": lambda: _refuse(_UNSHARE, errno.EPERM),
    "seccomp-pidfd": lambda: _refuse(_PIDFD_OPEN, errno.ENOSYS),
    "seccomp-landlock": lambda: _refuse(_LANDLOCK_CREATE_RULESET, errno.ENOSYS),
}

if __name__ == "__main__":
    RESTRICTIONS[sys.argv[1]]()
    json.dump({name: dataclasses.asdict(result) for name, result in probe().results.items()}, sys.stdout)
