"""Compiled filters on disk: ``$XDG_CACHE_HOME/belljar`` or ``~/.cache/belljar``, for this user alone.

A filter that somebody else can write is no filter, so nothing here is believed without a look: the folder must be ours,
no link, and closed to all others; an entry must be a plain file of ours that nobody else can write, and must carry the
digest of its key and its content. Whatever does not fit is built anew. Each file is opened relative to the folder that
was checked, and looked at through its fd, so that nothing can be swapped in between. A child cannot write here: stage 1
refuses a policy that names this folder as writable.

An entry's name says all that it depends on: the rules themselves (so a new belljar never runs an old filter, and
policies that differ in paths or limits share one), the listener, libseccomp's version, the architecture and the format.
All of it may be deleted at any time.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import secrets
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

from .answers import Rules

log = logging.getLogger("belljar.sandbox")

_FORMAT: Final = 2  # raise it whenever `assemble` makes another program of the same rules
_MAX_PROGRAM: Final = 4096 * 8  # BPF_MAXINSNS instructions
_DIGEST: Final = hashlib.sha256().digest_size
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class _Unusable(Exception):
    """The folder or an entry cannot be trusted or used; the text says why."""


def key_of(rules: Rules, *, listener: bool) -> str | None:
    """Return the name of the entry for *rules*, or None where libseccomp does not say its version."""
    version = _libseccomp_version()
    if version is None:
        return None
    parts = (_FORMAT, version, os.uname().machine, listener, sorted(rules.items()))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def load(key: str | None) -> bytes | None:
    """Return the program kept under *key*, or None if there is none, or none to be trusted."""
    if key is None:
        return None
    try:
        with _folder() as folder:
            return _read_or_doubt(folder, key)
    except (OSError, _Unusable) as error:
        _tell(f"filters are kept in memory only: {error}")
        return None


def store(key: str | None, program: bytes) -> None:
    """Keep *program* under *key*. A cache that cannot be written costs time only, so it is logged, not raised."""
    if key is None:
        return
    try:
        with _folder() as folder:
            _write(folder, key, _digest(key, program) + program)
    except (OSError, _Unusable) as error:
        _tell(f"filters are kept in memory only: {error}")


@functools.cache
def _tell(text: str) -> None:
    """Log *text* once in the life of this process."""
    log.info("filter cache: %s", text)


@contextmanager
def _folder() -> Generator[int]:
    """Open the cache's folder, made if need be; yield its fd, which is closed afterwards."""
    path = _base()
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    base = _open_folder(path, None, _OTHERS_WRITE)
    try:
        with suppress(FileExistsError):
            os.mkdir("belljar", 0o700, dir_fd=base)
        folder = _open_folder("belljar", base, _OTHERS)
    finally:
        os.close(base)
    try:
        yield folder
    finally:
        os.close(folder)


def folder_path() -> str | None:
    """Return where the filters are kept, or None if they are kept in memory only. It need not exist."""
    try:
        return f"{_base()}/belljar"
    except (OSError, _Unusable):
        return None


def _base() -> str:
    """Return the folder of all caches. XDG: a relative XDG_CACHE_HOME is ignored. See the XDG base directory spec."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if chosen.startswith("/"):
        return chosen
    home = os.environ.get("HOME", "")
    if not home.startswith("/"):
        raise _Unusable("HOME is not set to a folder")
    os.close(_open_folder(home, None, _OTHERS_WRITE))
    return f"{home}/.cache"


def _open_folder(path: str, dir_fd: int | None, forbidden: int) -> int:
    """Open a folder that must be ours, no link, and without the *forbidden* mode bits."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        _check(os.fstat(fd), path, forbidden)
    except _Unusable:
        os.close(fd)
        raise
    return fd


def _check(found: os.stat_result, name: str, forbidden: int) -> None:
    if found.st_uid != os.geteuid():
        raise _Unusable(f"{name} belongs to uid {found.st_uid}")
    if found.st_mode & forbidden:
        raise _Unusable(f"{name} is open to others (mode {stat.S_IMODE(found.st_mode):04o})")


def _read_or_doubt(folder: int, key: str) -> bytes | None:
    try:
        return _read(folder, key)
    except FileNotFoundError:
        return None
    except (OSError, _Unusable) as error:
        _tell(f"entry {key[:12]} is built anew: {error}")
        return None


def _read(folder: int, key: str) -> bytes:
    # O_NONBLOCK: somebody's FIFO of that name must not hold us up.
    fd = os.open(key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise _Unusable("it is no plain file")
        _check(found, "it", _OTHERS_WRITE)
        if not _DIGEST < found.st_size <= _DIGEST + _MAX_PROGRAM:
            raise _Unusable(f"it has {found.st_size} bytes")
        content = file.read(_DIGEST + _MAX_PROGRAM)
    digest, program = content[:_DIGEST], content[_DIGEST:]
    if len(program) % 8 or not secrets.compare_digest(digest, _digest(key, program)):
        raise _Unusable("it is damaged")
    return program


def _write(folder: int, key: str, content: bytes) -> None:
    """Write under a name of our own and rename, so that a reader sees the old entry or the new one, never half."""
    name = f".{key[:12]}.{secrets.token_hex(8)}"
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        with open(fd, "wb") as file:
            file.write(content)
        os.rename(name, key, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        os.unlink(name, dir_fd=folder)
        raise


def _digest(key: str, program: bytes) -> bytes:
    """Digest *program* together with its *key*, so that an entry under another's name is damaged too."""
    return hashlib.sha256(key.encode() + program).digest()


class _Version(ctypes.Structure):
    """``struct scmp_version`` of seccomp.h."""

    _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))


@functools.cache
def _libseccomp_version() -> tuple[int, int, int] | None:
    """Ask the library itself, without pyseccomp, which is slow to import. See seccomp_version(3)."""
    try:
        ask = ctypes.CDLL("libseccomp.so.2").seccomp_version
    except (AttributeError, OSError):
        return None
    ask.restype = ctypes.POINTER(_Version)
    version = ask().contents
    return version.major, version.minor, version.micro
