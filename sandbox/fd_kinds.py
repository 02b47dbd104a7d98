"""What kind of thing an fd is (`FdKind`), by its mode and by what /proc calls it. See stat(2), proc_pid_fd(5)."""

from __future__ import annotations

import stat

from .declaration import FdKind

_ANONYMOUS: dict[str, FdKind] = {"[eventfd]": "eventfd", "[eventpoll]": "eventpoll", "[timerfd]": "timerfd"}
_BY_MODE: dict[int, FdKind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "pipe",
}


def fd_kind(mode: int, what: str) -> FdKind:
    """Return the kind of an fd with this *mode* that /proc calls *what*: a memfd is a file too, but has no name."""
    if what.startswith("/memfd:"):
        return "memfd"
    if what.startswith("anon_inode:"):
        return _ANONYMOUS.get(what.removeprefix("anon_inode:"), "other")
    return _BY_MODE.get(stat.S_IFMT(mode), "other")
