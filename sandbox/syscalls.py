"""Kernel calls that neither the standard library nor python-prctl wraps.

One function a call, its man page named, and no logic: each returns what the kernel returned or raises
`OSError` with the kernel's errno. Python 3.12 has `os.unshare` and `os.setns`; 3.11 does not, so both are here.
"""

from __future__ import annotations

import ctypes
import os
import platform

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 1 << 0
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_FILTER_FLAG_TSYNC_ESRCH = 1 << 4

LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1

_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_RESOLVE_NO_SYMLINKS, _OPEN_TREE_CLONE = 4, 1
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40
_KEYCTL_JOIN_SESSION_KEYRING = 1

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# x86_64 has numbers of its own; aarch64 and riscv64 share the generic table.
_NUMBERS = {"pivot_root": 155, "seccomp": 317} if platform.machine() == "x86_64" else {"pivot_root": 41, "seccomp": 277}
_NR_OPEN_TREE, _NR_MOVE_MOUNT, _NR_OPENAT2, _NR_MOUNT_SETATTR = 428, 429, 437, 442
_NR_KEYCTL = 250 if platform.machine() == "x86_64" else 219
_NR_LANDLOCK_CREATE_RULESET, _NR_LANDLOCK_ADD_RULE, _NR_LANDLOCK_RESTRICT_SELF = 444, 445, 446

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


class _SockFprog(ctypes.Structure):
    """``struct sock_fprog`` of linux/filter.h."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class _MountAttr(ctypes.Structure):
    """``struct mount_attr`` of linux/mount.h."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd"))


class _OpenHow(ctypes.Structure):
    """``struct open_how`` of linux/openat2.h."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("flags", "mode", "resolve"))


class _RulesetAttr(ctypes.Structure):
    """``struct landlock_ruleset_attr``; older kernels take a longer one if what they do not know is 0."""

    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneathAttr(ctypes.Structure):
    """``struct landlock_path_beneath_attr``."""

    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def _checked(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)
    return result


def prctl(option: int, argument: int) -> None:
    """Set one attribute of this process. See prctl(2). For the guard, which loads the standard library only."""
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(argument), zero, zero, zero), "prctl")


def unshare(flags: int) -> None:
    """Leave the namespaces named by CLONE_NEW* *flags* for new ones. See unshare(2)."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, flags: int) -> None:
    """Join the namespace behind *fd* (a ``/proc/PID/ns`` file or a pidfd). See setns(2)."""
    _checked(_libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)), "setns")


def sethostname(name: bytes) -> None:
    """Set the host name of this uts namespace. See sethostname(2)."""
    _checked(_libc.sethostname(name, ctypes.c_size_t(len(name))), "sethostname")


def mount(source: str, target: str, fstype: str | None, flags: int, data: str | None = None) -> None:
    """Mount, bind or remount at *target*. See mount(2)."""
    kind = None if fstype is None else fstype.encode()
    options = None if data is None else data.encode()
    _checked(_libc.mount(os.fsencode(source), os.fsencode(target), kind, flags, options), f"mount {target}")


def mount_setattr(tree: int, flags: int) -> None:
    """Add the MS_* *flags* RDONLY, NOSUID, NODEV, NOEXEC to all mounts of *tree*. See mount_setattr(2)."""
    attribute = _MountAttr(attr_set=flags)  # MOUNT_ATTR_* are the same bits
    how = (ctypes.c_uint(_AT_EMPTY_PATH | _AT_RECURSIVE), ctypes.byref(attribute))
    size = ctypes.c_size_t(ctypes.sizeof(attribute))
    _checked(_libc.syscall(ctypes.c_long(_NR_MOUNT_SETATTR), ctypes.c_int(tree), b"", *how, size), "mount_setattr")


def open_without_links(path: str) -> int:
    """Return an O_PATH fd of *path*; ELOOP if a symbolic link is anywhere in it. See openat2(2)."""
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS)
    arguments = (ctypes.c_int(_AT_FDCWD), os.fsencode(path), ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)))
    return _checked(_libc.syscall(ctypes.c_long(_NR_OPENAT2), *arguments), f"openat2 {path}")


def copy_tree(fd: int) -> int:
    """Return the fd of a detached copy of what is mounted at and below *fd*. See open_tree(2)."""
    flags = ctypes.c_uint(_OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | _AT_RECURSIVE)
    return _checked(_libc.syscall(ctypes.c_long(_NR_OPEN_TREE), ctypes.c_int(fd), b"", flags), "open_tree")


def attach_tree(tree: int, target: int) -> None:
    """Attach the detached mounts of *tree* at the file or folder behind *target*. See move_mount(2)."""
    flags = ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH)
    arguments = (ctypes.c_int(tree), b"", ctypes.c_int(target), b"", flags)
    _checked(_libc.syscall(ctypes.c_long(_NR_MOVE_MOUNT), *arguments), "move_mount")


def join_session_keyring() -> None:
    """Leave the session keyring for a new one without a name. See keyctl_join_session_keyring(3)."""
    arguments = (ctypes.c_int(_KEYCTL_JOIN_SESSION_KEYRING), None)
    _checked(_libc.syscall(ctypes.c_long(_NR_KEYCTL), *arguments), "keyctl")


def umount2(target: str, flags: int) -> None:
    """Unmount *target*. See umount(2)."""
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), f"umount2 {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """Make *new_root* the root of every process that has the old one. See pivot_root(2)."""
    number = ctypes.c_long(_NUMBERS["pivot_root"])
    _checked(_libc.syscall(number, os.fsencode(new_root), os.fsencode(put_old)), "pivot_root")


def seccomp_set_filter(program: bytes, flags: int) -> int:
    """Install the classic BPF *program* and return 0, or the listener's fd. See seccomp(2)."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = _SockFprog(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    arguments = (ctypes.c_uint(SECCOMP_SET_MODE_FILTER), ctypes.c_uint(flags), ctypes.byref(fprog))
    return _checked(_libc.syscall(ctypes.c_long(_NUMBERS["seccomp"]), *arguments), "seccomp")


def landlock_abi() -> int:
    """Return the highest landlock ABI of this kernel. See landlock_create_ruleset(2)."""
    arguments = (None, ctypes.c_size_t(0), ctypes.c_uint(LANDLOCK_CREATE_RULESET_VERSION))
    return _checked(_libc.syscall(ctypes.c_long(_NR_LANDLOCK_CREATE_RULESET), *arguments), "landlock_create_ruleset")


def landlock_create_ruleset(fs: int, net: int, scoped: int) -> int:
    """Return the fd of a ruleset that denies these accesses until rules allow some. See landlock_create_ruleset(2)."""
    attribute = _RulesetAttr(fs, net, scoped)
    arguments = (ctypes.byref(attribute), ctypes.c_size_t(ctypes.sizeof(attribute)), ctypes.c_uint(0))
    return _checked(_libc.syscall(ctypes.c_long(_NR_LANDLOCK_CREATE_RULESET), *arguments), "landlock_create_ruleset")


def landlock_add_path(ruleset: int, allowed: int, path_fd: int) -> None:
    """Allow accesses on and below the file behind *path_fd*. See landlock_add_rule(2)."""
    attribute = _PathBeneathAttr(allowed, path_fd)
    arguments = (ctypes.c_int(ruleset), ctypes.c_int(LANDLOCK_RULE_PATH_BENEATH), ctypes.byref(attribute))
    result = _libc.syscall(ctypes.c_long(_NR_LANDLOCK_ADD_RULE), *arguments, ctypes.c_uint(0))
    _checked(result, "landlock_add_rule")


def landlock_restrict_self(ruleset: int, flags: int) -> None:
    """Enforce *ruleset* on this thread, or as *flags* say. See landlock_restrict_self(2)."""
    arguments = (ctypes.c_int(ruleset), ctypes.c_uint(flags))
    result = _libc.syscall(ctypes.c_long(_NR_LANDLOCK_RESTRICT_SELF), *arguments)
    _checked(result, "landlock_restrict_self")
