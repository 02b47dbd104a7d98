"""The step ``opened-files``: files opened before the seal and handed out by name after it.

Facts (each has a test): an fd that is open at the seal goes on working under every backend, whatever the policy says of
files, for what is refused is to open by name. A dup(2) of it shares its offset, and /proc/self/fd, by which one could
open it anew, is gone; so an entry of ``dup`` is read by pread(2), from a position of the reader's own. An fd that is
open for reading only cannot be written, and a directory is refused, for it would lead around an empty root.

As in Gecko's media plugins there are three kinds: an entry of ``one_shot`` is given away once, fd and all, so that
nothing of it stays; an entry of ``dup`` can be opened as often as one likes; an entry of ``error`` is a name that the
plugin is known to try, and fails as a file that does not exist, without a word in the log. All other names fail so too,
with a word in the log. To look at an entry (`OpenedFiles.stat`) does not use it up, which in Gecko it does.

``open()`` itself does not find these files: a plugin says ``handed("opened-files").open(name)``, and a reader of its
code sees where the bytes come from.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

from ..step import StepError, early_init

log = logging.getLogger("belljar.opened-files")


@early_init(needs=["files"], leaves={"fds": ["file"]})
def opened_files(
    one_shot: tuple[Path, ...] = (), dup: tuple[Path, ...] = (), error: tuple[str, ...] = ()
) -> OpenedFiles:
    """Open the files of *one_shot* and *dup*; *error* are names that shall fail quietly.

    Links are followed now, and a file keeps the name that it has here.
    """
    twice = {str(path) for path in one_shot} & {str(path) for path in dup}
    if twice:
        raise StepError(f"{min(twice)} stands in one_shot and in dup; take it out of one of them")
    return OpenedFiles([*_entries(one_shot, once=True), *_entries(dup, once=False)], error)


class OpenedFiles:
    """What the step hands on: the files by their absolute names, as the configuration has them."""

    def __init__(self, entries: Iterable[_Entry], error: Iterable[str]) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._quiet = frozenset(error)

    def open(self, name: str | os.PathLike[str], mode: str = "rb") -> BinaryIO:
        """Return a buffered file object for *name*, which is the caller's to close.

        Raises:
            OSError: ENOENT for a name that is no entry, or a one-shot entry that was given away; EROFS for a *mode*
                that writes.
            ValueError: another *mode* than ``rb``.
        """
        path = os.fspath(name)
        if set(mode) & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        if mode != "rb":
            raise ValueError(f"the mode is 'rb', not {mode!r}; io.TextIOWrapper makes text of it")
        return self._entry(path).open()

    def stat(self, name: str | os.PathLike[str]) -> os.stat_result:
        """Return what stat(2) said of *name* when it was opened; uses nothing up. Raises as `open` does."""
        return self._entry(os.fspath(name)).about

    def _entry(self, path: str) -> _Entry:
        if path in self._entries:
            return self._entries[path]
        if path not in self._quiet:
            log.warning("%s was not opened before the seal", path)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


class _Entry:
    """One file; owns its fd until a one-shot entry is given away, else for the life of the process."""

    def __init__(self, path: Path, *, once: bool) -> None:
        self.name = str(path)
        self.once = once
        # Not to wait for the other end, should it be a fifo, and not to make a terminal ours.
        self.fd: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        self.about = os.fstat(self.fd)
        if not stat.S_ISREG(self.about.st_mode):
            os.close(self.fd)
            raise StepError(f"{path} is not a regular file; only those are handed out by name")

    def open(self) -> BinaryIO:
        if self.fd is None:
            log.warning("%s was taken already", self.name)
            text = "it was taken already: list it in dup to open it more than once"
            raise FileNotFoundError(errno.ENOENT, text, self.name)
        if not self.once:
            return cast(BinaryIO, io.BufferedReader(_Reader(self.fd)))
        fd, self.fd = self.fd, None
        return open(fd, "rb")


def _entries(paths: Iterable[Path], *, once: bool) -> list[_Entry]:
    return [_Entry(path, once=once) for path in dict.fromkeys(paths)]


class _Reader(io.RawIOBase):
    """Reads an fd that others read too, by pread(2) from a position of its own; it has no fileno, for they share it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # what io really passes
        size = os.preadv(self._fd, [buffer], self._position)
        self._position += size
        return size

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: os.fstat(self._fd).st_size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = start + offset
        return self._position
