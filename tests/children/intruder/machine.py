"""Calls on the machine itself that name no operation of the report: the filter must refuse each of them."""

from __future__ import annotations

import errno
import os
import resource

from .book import Kept, Target, attack, in_fork
from .calls import call, reaches

_BAD_FD = 1 << 20
_HELD = ("seccomp", "capabilities")

for _name, _act in {
    "reboot": reaches("reboot", 0, 0, 0, 0, own=(errno.EINVAL,)),
    "load a module, init_module": reaches("init_module", 0, 0, 0, own=(errno.EFAULT, errno.ENOEXEC)),
    "load a module, finit_module": reaches("finit_module", _BAD_FD, b"", 0, own=(errno.EBADF,)),
    "remove a module": reaches("delete_module", b"belljar_none", 0, own=(errno.ENOENT,)),
    "load another kernel, kexec_load": reaches("kexec_load", 0, _BAD_FD, 0, 0, own=(errno.EINVAL,)),
    "use I/O ports, iopl": reaches("iopl", 0),
    "use I/O ports, ioperm": reaches("ioperm", 0x80, 1, 1),
    "read the kernel's log": reaches("syslog", 10, 0, 0),
    "swap": reaches("swapon", b"/belljar-none", 0, own=(errno.ENOENT,)),
    "watch the whole file system, fanotify": reaches("fanotify_init", 0, 0),
}.items():
    attack(_name, layers=_HELD, needs_root=True)(_act)

for _name, _act in {
    "read the local descriptor table": reaches("modify_ldt", 0, 0, 0),
    "make other rules of landlock": reaches("landlock_create_ruleset", 0, 0, 1),
    "ask for another personality": reaches("personality", 0xFFFFFFFF),
    "gift pages to a pipe, vmsplice": reaches("vmsplice", _BAD_FD, 0, 0, 0, own=(errno.EBADF,)),
    "raise the I/O priority": reaches("ioprio_set", 1, 0, 0x4004),
}.items():
    attack(_name)(_act)


@attack("raise a limit")
def raise_limit(target: Target) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@attack("raise a hard limit", layers=_HELD, needs_root=True)
def raise_hard_limit(target: Target) -> None:
    in_fork(lambda: resource.setrlimit(resource.RLIMIT_RTPRIO, (1, 1)))


@attack("become root", layers=_HELD, needs_root=True)
def become_root(target: Target) -> None:
    in_fork(lambda: os.setresuid(0, 0, 0))


@attack("become another user", layers=_HELD, needs_root=True)
def become_another(target: Target) -> None:
    in_fork(lambda: os.setresuid(12345, 12345, 12345))


@attack("take another group", layers=_HELD, needs_root=True)
def another_group(target: Target) -> None:
    in_fork(lambda: os.setgroups([0]))


@attack("keep a group of the host", layers=("no-new-privs",), needs_root=True, proof="careless")
def keep_group(target: Target) -> None:
    if os.getuid() == 0 or (0 not in os.getgroups() and os.getgid() != 0):
        raise Kept("not a member")


@attack("gain privileges by a set-user-id program", layers=("no-new-privs",), policy="forks")
def set_user_id(target: Target) -> None:
    """no_new_privs must be set; exec of a set-id program then changes nothing."""
    if call("prctl", 39, 0, 0, 0, 0) == 1:
        raise Kept("no_new_privs")
