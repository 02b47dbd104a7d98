"""Whom a child runs as: the host's own user, or, when the host is root, another one.

A child that keeps uid 0 is root to every file that it can still reach, so a root host's children become ``nobody``
unless the configuration says ``run_as = "root"`` in so many words. The change comes before anything else is touched:
between fork and exec, groups first, then gid, then uid, all three of each (setgroups(2), setresgid(2), setresuid(2)).
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import sys
from pathlib import Path

import msgspec

from .errors import SandboxError

DEFAULT_FOR_ROOT = "nobody"


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
    supplementary = tuple(sorted(group.gr_gid for group in grp.getgrall() if entry.pw_name in group.gr_mem))
    return User(entry.pw_uid, entry.pw_gid, supplementary)


def closed_to(user: User, *files: str) -> str:
    """Return why *user* cannot run belljar's own code or read *files*, empty if nothing is in the way.

    Reads modes, not ACLs. The files, whose paths are absolute, exist.
    """
    if user.uid == os.geteuid() or user.is_root:
        return ""
    named = {sys.executable, os.__file__, __file__, *files}
    needed = {sys.prefix, sys.base_prefix, *named, *map(os.path.realpath, named)}
    for path in sorted({str(parent) for name in needed for parent in (Path(name), *Path(name).parents)}):
        found = os.stat(path)
        if not _may(user, found, stat.S_IROTH if stat.S_ISREG(found.st_mode) else stat.S_IXOTH):
            mode = stat.S_IMODE(found.st_mode)
            return f"children run as uid {user.uid}, who may not use {path} (mode {mode:04o})"
    return ""


def _may(user: User, found: os.stat_result, other: int) -> bool:
    if found.st_uid == user.uid:
        return bool(found.st_mode & other << 6)
    if found.st_gid in (user.gid, *user.groups):
        return bool(found.st_mode & other << 3)
    return bool(found.st_mode & other)
