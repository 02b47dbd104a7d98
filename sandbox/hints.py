"""Say in words for people why the kernel refused a step, and what to do.

errnos lie. The calls that make a sandbox fail for reasons that lie far from the call, and the kernel has one number
for all of them: EPERM from unshare(CLONE_NEWUSER) may be a sysctl of Debian, one of Ubuntu, the seccomp filter of an
outer container, or a chroot. So the sentence is made of what /proc says *now*, in the order in which the kernel
itself would refuse. What /proc does not show is said as a guess. See user_namespaces(7), mount_namespaces(7).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from errno import (
    EACCES,
    EAGAIN,
    EBUSY,
    EINVAL,
    EMFILE,
    ENFILE,
    ENOENT,
    ENOMEM,
    ENOPROTOOPT,
    ENOSPC,
    ENOSYS,
    EOPNOTSUPP,
    EPERM,
    EROFS,
    ESRCH,
    EUSERS,
)
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Hint:
    """Why a step failed and what to do about it: two clauses without a full stop."""

    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.cause}; {self.remedy}"


def hint(step: str, errno: int) -> str:
    """Return cause and remedy of *step* failing with *errno* as one clause, or nothing where nothing is known."""
    found = diagnose(step, errno)
    return "" if found is None else str(found)


def diagnose(step: str, errno: int, *, proc: Path = PROC) -> Hint | None:
    """Return why *step* (as named by `steps.step`) failed with *errno*, as far as *proc* shows it; None if unknown."""
    for words, errnos, answer in _RULES:
        if errno in errnos and any(word in step for word in words):
            return answer(proc)
    return None


def _sysctl(proc: Path, name: str) -> str:
    """The value of a sysctl, or nothing on kernels that do not have it."""
    try:
        return (proc / "sys" / name).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _is_filtered(proc: Path) -> bool:
    """Whether a seccomp filter of somebody else, such as a container's, is on this process."""
    try:
        lines = (proc / "self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.split() == ["Seccomp:", "2"] for line in lines)


def _apparmor_profile(proc: Path) -> str:
    """The AppArmor profile that confines this process, or nothing."""
    for name in ("apparmor/current", "current"):
        try:
            profile = (proc / "self/attr" / name).read_text(encoding="utf-8").strip(" \n\0")
        except OSError:
            continue
        return "" if profile in {"unconfined", ""} or "(" not in profile else profile.partition(" ")[0]
    return ""


_OUTER_FILTER = Hint(
    "the seccomp filter of an outer container or sandbox refuses the call",
    "start the container with a seccomp profile that allows it (docker and podman: --security-opt seccomp=FILE)",
)
_OUTER_NAMESPACE_FILTER = Hint(
    _OUTER_FILTER.cause, f"{_OUTER_FILTER.remedy}: unshare, setns, mount, umount2 and pivot_root"
)
_APPARMOR = Hint(
    "AppArmor takes the capabilities of unprivileged user namespaces away: "
    "kernel.apparmor_restrict_unprivileged_userns=1",
    "run 'sysctl -w kernel.apparmor_restrict_unprivileged_userns=0' as root, "
    "or give this python an AppArmor profile with the rule 'userns,'",
)
_CLONE_OFF = Hint(
    "unprivileged user namespaces are off: kernel.unprivileged_userns_clone=0",
    "run 'sysctl -w kernel.unprivileged_userns_clone=1' as root",
)
_NO_NAMESPACE = Hint(
    "this kernel is built without this kind of namespace, or has no real namespaces at all (WSL 1, gVisor)",
    "use a kernel with CONFIG_NAMESPACES and all of its kinds on",
)


def _restricted(proc: Path) -> Hint | None:
    """The switch that takes user namespaces from an unprivileged user, if one is seen."""
    if os.geteuid() == 0:  # none of them binds root
        return None
    if _sysctl(proc, "kernel/unprivileged_userns_clone") == "0":
        return _CLONE_OFF
    if _sysctl(proc, "kernel/apparmor_restrict_unprivileged_userns") == "1":
        return _APPARMOR
    return None


def _user_namespace_refused(proc: Path) -> Hint:
    if found := _restricted(proc):
        return found
    if _sysctl(proc, "user/max_user_namespaces") == "0":
        return _too_many_user_namespaces(proc)
    if _is_filtered(proc):
        return _OUTER_NAMESPACE_FILTER
    return Hint(
        "a security module refuses user namespaces, or this process runs in a chroot, where the kernel allows none",
        "leave the chroot, or look in the kernel's log (dmesg) for the module that refused",
    )


def _too_many_user_namespaces(proc: Path) -> Hint:
    limit = _sysctl(proc, "user/max_user_namespaces")
    if limit == "0":
        return Hint(
            "user namespaces are off: user.max_user_namespaces=0",
            "run 'sysctl -w user.max_user_namespaces=15000' as root, or leave the sandbox that set it to 0",
        )
    return Hint(
        f"no more user namespaces are allowed here: user.max_user_namespaces={limit or 'unknown'}, "
        "an outer one's limit, or 32 nested ones",
        "raise user.max_user_namespaces in the outermost user namespace, or end what uses them up",
    )


def _too_many_namespaces(proc: Path) -> Hint:
    return Hint(
        "no more namespaces of this kind are allowed here: one of the limits user.max_*_namespaces",
        "see 'sysctl -a | grep user.max_' and raise the one for this kind as root",
    )


def _capability_refused(proc: Path) -> Hint:
    """EPERM *after* a user namespace was made: it came without its capabilities, or a filter looks at the call."""
    if found := _restricted(proc):
        return found
    if _is_filtered(proc):
        return _OUTER_NAMESPACE_FILTER
    if profile := _apparmor_profile(proc):
        return _profile_refused(profile)
    return Hint(
        "a security module gives user namespaces no capabilities (AppArmor does so on Ubuntu)",
        "look in the kernel's log (dmesg) for 'denied' and allow this python there",
    )


def _profile_refused(profile: str) -> Hint:
    return Hint(
        f"the AppArmor profile {profile!r} around this process refuses it",
        "start the container with --security-opt apparmor=unconfined, or allow it in that profile",
    )


def _map_refused(proc: Path) -> Hint:
    """A map line is written by a process that lacks capabilities in its own new user namespace, or is not dumpable."""
    if found := _restricted(proc):
        return found
    if profile := _apparmor_profile(proc):
        return _profile_refused(profile)
    return Hint(
        "the ids of a new user namespace may not be mapped: this process is not dumpable, its effective uid is not "
        "its real one, or a security module refuses",
        "start this python without setuid and file capabilities, or look in the kernel's log (dmesg) for 'denied'",
    )


def _mount_refused(proc: Path) -> Hint:
    if profile := _apparmor_profile(proc):
        return _profile_refused(profile)
    return _capability_refused(proc)


def _said(cause: str, remedy: str) -> Callable[[Path], Hint]:
    found = Hint(cause, remedy)
    return lambda proc: found


_read_only_proc = _said(
    "/proc or /proc/sys is mounted read-only here, as container engines do",
    "start the container with --security-opt systempaths=unconfined (podman: unmask=ALL), or outside of a container",
)
_masked_proc = _said(
    "the kernel refuses a new /proc while parts of the old one are masked ('mount too revealing'), "
    "as container engines do",
    "start the container with --security-opt systempaths=unconfined (podman: unmask=ALL)",
)
_hidden_proc = _said(
    "/proc hides other processes (hidepid, subset=pid, or a security module) or is not mounted",
    "mount /proc for this pid namespace and without hidepid for this user",
)
_no_more_processes = _said(
    "no more processes are allowed: ulimit -u, the pids limit of the cgroup, or memory",
    "raise the limit or end other processes",
)
_no_more_fds = _said("no more open files are allowed", "raise 'ulimit -n' or close files")
_no_filters = _said(
    "this kernel lacks seccomp filters or the flag that was asked for "
    "(TSYNC Linux 3.17, listener 5.0, both together 5.7), or an emulator such as gVisor does",
    "use a newer kernel with CONFIG_SECCOMP_FILTER=y",
)

_Rule = tuple[tuple[str, ...], tuple[int, ...], Callable[[Path], Hint]]

# The first rule that fits wins: what is special to a step stands above what an errno means in general.
_RULES: tuple[_Rule, ...] = (
    (("fork", "start a process", "start a thread"), (EAGAIN, ENOMEM), _no_more_processes),
    (("uid_map", "gid_map", "setgroups"), (EPERM, EACCES), _map_refused),
    (("nested user namespace", "uid_map", "gid_map", "setgroups"), (EROFS,), _read_only_proc),
    (
        ("forbid nested user namespaces",),
        (ENOENT, EPERM, EACCES),
        _said(
            "/proc/sys/user is masked or not writable here, so that nested user namespaces cannot be switched off",
            "unmask /proc/sys (docker: --security-opt systempaths=unconfined), or use Linux 4.9 or newer",
        ),
    ),
    (("use a capability",), (EPERM, EACCES), _capability_refused),
    (("make a user namespace",), (EPERM, EACCES), _user_namespace_refused),
    (("make a user namespace",), (ENOSPC, EUSERS), _too_many_user_namespaces),
    (("namespace",), (ENOSPC, EUSERS), _too_many_namespaces),
    (("namespace",), (EAGAIN,), _no_more_processes),  # from clone(2), which makes a process too
    (("namespace",), (EINVAL, ENOSYS), lambda proc: _OUTER_NAMESPACE_FILTER if _is_filtered(proc) else _NO_NAMESPACE),
    (("mount /proc", "mount a new /proc"), (EPERM,), _masked_proc),
    (
        (" visible", "in landlock", "show a path"),
        (ENOENT, EACCES),
        _said(
            "a path of the policy does not exist, or the child's user may not see it",
            "correct it in the policy, or let that user in",
        ),
    ),
    (("mount", "root", "visible"), (EACCES, EPERM), _mount_refused),
    (("namespace", "host name", "capabilit", "securebits"), (EPERM, EACCES), _capability_refused),
    (("seccomp",), (EINVAL, ENOSYS), _no_filters),
    (
        ("seccomp",),
        (EBUSY,),
        _said(
            "an outer supervisor already listens to the seccomp filters of this process, and there can be only one",
            "start belljar outside of that supervisor, or do without a listener",
        ),
    ),
    (
        ("seccomp",),
        (ESRCH,),
        _said("one thread carries a filter that the others lack", "start its library after the seal, or without it"),
    ),
    (
        ("landlock",),
        (ENOSYS,),
        lambda proc: (
            _OUTER_FILTER
            if _is_filtered(proc)
            else Hint(
                "this kernel is built without landlock", "use Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK=y"
            )
        ),
    ),
    (
        ("landlock",),
        (EOPNOTSUPP,),
        _said("landlock was not switched on at boot", "add landlock to the lsm= list of the kernel's command line"),
    ),
    (("pidfds of senders",), (ENOPROTOOPT,), _said("this kernel is older than Linux 6.5", "use Linux 6.5 or newer")),
    (
        ("pidfd",),
        (ENOSYS, EINVAL),
        _said(
            "this kernel is older than Linux 5.4, or the filter of an outer container does not know pidfds",
            "use Linux 5.8 or newer, and a container engine as new",
        ),
    ),
    (("pidfd",), (EPERM, EACCES), lambda proc: _OUTER_FILTER),
    (
        ("memfd",),
        (EACCES,),
        _said("vm.memfd_noexec=2 refuses memfds that could be executed", "run 'sysctl -w vm.memfd_noexec=1' as root"),
    ),
    (("memfd",), (ENOSYS,), _said("this kernel is older than Linux 3.17", "use a newer kernel with memfds")),
    (("/proc", "threads and fds"), (EACCES, EPERM, ENOENT, ESRCH), _hidden_proc),
    (
        ("rlimit",),
        (EPERM,),
        _said("the limit was to be raised above the hard limit of this process", "raise that hard limit (ulimit -H)"),
    ),
    (("place the file descriptors",), (EINVAL,), _no_more_fds),  # F_DUPFD above RLIMIT_NOFILE, fcntl(2)
    (("",), (EMFILE, ENFILE), _no_more_fds),
)
