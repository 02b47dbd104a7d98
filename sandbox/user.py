"""Whom a child runs as: the host's own user, or, when the host is root, another one.

A child that keeps uid 0 is root to every file that it can still reach, so a root host's children become ``nobody``
unless the configuration says ``run_as = "root"`` in so many words. The change comes before anything else is touched:
between fork and exec, groups first, then gid, then uid, all three of each (setgroups(2), setresgid(2), setresuid(2)).
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec
import prctl

from .errors import SandboxError

DEFAULT_FOR_ROOT = "nobody"
_let_in: set[User] = set()  # those for whom `closed_to` has found all open, and need not look again

_TAKEN_BY_ANOTHER = ("setuid", "setgid", "kill", "sys_ptrace")
"""The capabilities that root needs where its children are another user's; engines take the last one away."""


class User(msgspec.Struct, frozen=True):
    """Ids of a process, as the host's user namespace counts them."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @classmethod
    def current(cls) -> User:
        """Return the ids of this process."""
        return cls(os.geteuid(), os.getegid(), tuple(sorted(os.getgroups())))

    @property
    def is_root(self) -> bool:
        """Whether the uid is 0."""
        return self.uid == 0


def resolve_user(run_as: str) -> User:
    """Return the user that *run_as* names: a user's name, ``UID:GID``, or nothing for the default.

    Raises:
        SandboxError: there is no such user, or this process may not become another one.
    """
    own = User.current()
    if not run_as:
        return _named(DEFAULT_FOR_ROOT) if own.is_root else own
    wanted = _named(run_as)
    if own.is_root or wanted.uid == own.uid:
        return wanted if wanted.uid != own.uid else own
    raise SandboxError(f"run_as = {run_as!r}: only root can become another user, and this host has uid {own.uid}")


def _named(text: str) -> User:
    uid, _, gid = text.partition(":")
    if uid.isdecimal() and gid.isdecimal() and max(int(uid), int(gid)) < 2**32 - 1:
        return User(int(uid), int(gid))
    try:
        entry = pwd.getpwnam(text)
    except (KeyError, ValueError):
        hint = "expected a user's name, or UID:GID as two numbers"
        raise SandboxError(f"run_as = {text!r}: there is no such user ({hint})") from None
    return User(
        entry.pw_uid, entry.pw_gid, tuple(sorted({*os.getgrouplist(entry.pw_name, entry.pw_gid)} - {entry.pw_gid}))
    )


def closed_to(user: User, *files: str) -> str:
    """Return why children cannot be *user*, or not run belljar's own code or read *files*, and what to do.

    Empty if they can. Reads modes, not ACLs. The files, whose paths are absolute, exist.
    """
    if user.uid == os.geteuid() or user.is_root:
        return ""
    remedy = "or set run_as = 'root'"
    if user not in _let_in:
        if hindrance := _hindrance(user):
            return f"children run as uid {user.uid}, {hindrance}"
        needed = (sys.executable, sys.prefix, sys.base_prefix, os.__file__, __file__)
        if closed := _first_closed(user, needed):
            remedy = f"let that user in, use a Python that it can run, {remedy}"
            return f"children run as uid {user.uid}, who may not use {closed}, where this Python lives; {remedy}"
        _let_in.add(user)
    if closed := _first_closed(user, files):
        return f"children run as uid {user.uid}, who may not use {closed}, which they need; let that user in, {remedy}"
    return ""


def _first_closed(user: User, names: Iterable[str]) -> str:
    """Return the outermost path on the way to one of *names* that *user* may not use, with its mode; empty if none."""
    ways = [Path(way) for name in names for way in (name, os.path.realpath(name))]
    for path in sorted({str(step) for way in ways for step in (way, *way.parents)}):
        found = os.stat(path)
        if not _may(user, found, stat.S_IROTH if stat.S_ISREG(found.st_mode) else stat.S_IXOTH):
            return f"{path} (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""


def _hindrance(user: User) -> str:
    """Why this root cannot become *user*: inside of a user namespace or of a container it may be less than root."""
    if not (_is_mapped("uid_map", user.uid) and all(_is_mapped("gid_map", gid) for gid in (user.gid, *user.groups))):
        return "whom the user namespace around this process does not map; map that user there, or set run_as = 'root'"
    lacking = [name for name in _TAKEN_BY_ANOTHER if not getattr(prctl.cap_effective, name)]
    if not lacking:
        return ""
    options = " ".join(f"--cap-add {name.upper()}" for name in lacking)
    return (
        f"and this root lacks CAP_{', CAP_'.join(map(str.upper, lacking))}, which it takes to launch, verify and end "
        f"children of another user; add it (docker: {options}), start this host as that user, or set run_as = 'root'"
    )


def _is_mapped(kind: str, number: int) -> bool:
    """Whether *number* means somebody here. See user_namespaces(7)."""
    try:
        lines = Path(f"/proc/self/{kind}").read_text(encoding="ascii").splitlines()
    except OSError:  # no /proc, which others will say better
        return True
    ranges = [(int(first), int(count)) for first, _, count in map(str.split, lines)]
    return any(first <= number < first + count for first, count in ranges)


def _may(user: User, found: os.stat_result, other: int) -> bool:
    if found.st_uid == user.uid:
        return bool(found.st_mode & other << 6)
    if found.st_gid in (user.gid, *user.groups):
        return bool(found.st_mode & other << 3)
    return bool(found.st_mode & other)
