"""What there is, how large, whose, and where it leads, without opening it."""

from __future__ import annotations

import ctypes
import os

from .book import Target, attack
from .calls import AT_EMPTY_PATH, AT_FDCWD, buffer, call, libc, open_fd

STAT = "stat a file"


def _size(path: str) -> str:
    """Return what newfstatat says of a path given with AT_EMPTY_PATH, which a filter takes for fstat."""
    found = buffer(bytes(144))
    call("newfstatat", AT_FDCWD, path.encode(), found, AT_EMPTY_PATH)
    return str(int.from_bytes(found.raw[48:56], "little"))


@attack("stat a file of the host", STAT)
def stat_file(target: Target) -> str:
    return str(os.stat(f"{target.folder}/secret").st_size)


@attack("stat a file by newfstatat with AT_EMPTY_PATH", STAT)
def stat_empty_path(target: Target) -> str:
    return _size(f"{target.folder}/secret")


@attack("stat the interpreter, which may be in view", STAT, granted=("writes", "programs"))
def stat_interpreter(target: Target) -> str:
    return _size(target.interpreter)


@attack("stat a file by statx", STAT)
def stat_statx(target: Target) -> str:
    found = buffer(bytes(256))
    call("statx", AT_FDCWD, f"{target.folder}/secret".encode(), 0, 0x7FF, found)
    return str(int.from_bytes(found.raw[40:48], "little"))


@attack("ask whether a file may be read, access", STAT)
def ask_access(target: Target) -> None:
    if libc.access(f"{target.folder}/secret".encode(), os.R_OK) < 0:
        raise OSError(ctypes.get_errno(), "access")


@attack("read where a link leads", STAT, granted=("reads", "writes", "programs"))
def read_link(target: Target) -> str:
    return os.readlink(f"{target.shared}/link")


@attack("read the link of the interpreter, /proc/self/exe", STAT)
def read_exe(target: Target) -> None:
    os.readlink("/proc/self/exe")


@attack("ask for the file system of a path, statfs", STAT)
def ask_statfs(target: Target) -> None:
    os.statvfs(target.folder)


@attack("read an extended attribute", STAT)
def read_attribute(target: Target) -> str:
    return os.getxattr(f"{target.folder}/secret", "user.belljar").decode()


@attack("make a folder of the host the working directory", STAT)
def change_directory(target: Target) -> None:
    before = os.getcwd()
    os.chdir(target.folder)
    os.chdir(before)


@attack("ask for the handle of a file, name_to_handle_at", STAT)
def ask_handle(target: Target) -> None:
    handle, mount = buffer((128).to_bytes(4, "little") + bytes(132)), buffer(bytes(4))
    call("name_to_handle_at", AT_FDCWD, f"{target.folder}/secret".encode(), handle, mount, 0)


attack("watch files, inotify", STAT)(open_fd("inotify_init1", os.O_CLOEXEC))
