"""A plugin that reads files which were opened before its seal."""

from __future__ import annotations

import os

from belljar import handed


class Opened:
    """Reads by name, and says with which errno it fails."""

    def read(self, name: str, mode: str = "rb") -> bytes:
        with handed("opened-files").open(name, mode) as file:
            content: bytes = file.read()
        return content

    def by_itself(self, name: str) -> bytes:
        with open(name, "rb") as file:
            return file.read()

    def errno(self, name: str, mode: str = "rb") -> int:
        try:
            self.read(name, mode)
        except OSError as error:
            return error.errno or 0
        return -1

    def size(self, name: str) -> int:
        about: os.stat_result = handed("opened-files").stat(name)
        return about.st_size

    def two_at_once(self, name: str) -> list[bytes]:
        """Read a file twice, a few bytes in turn, then from its end."""
        files = handed("opened-files")
        with files.open(name) as first, files.open(name) as second:
            parts = [first.read(2), second.read(3), first.read(2), second.read()]
            first.seek(-2, os.SEEK_END)
            return [*parts, first.read(), second.read()]

    def cannot_write(self, name: str) -> bool:
        """Whether the fd itself, which a one-shot entry gives away, refuses to be written."""
        with handed("opened-files").open(name) as file:
            try:
                os.write(file.fileno(), b"x")
            except OSError:
                return True
        return False

    def fds(self) -> int:
        """How many of the first 64 fds are regular files."""
        found = 0
        for fd in range(64):
            try:
                found += os.fstat(fd).st_mode & 0o170000 == 0o100000
            except OSError:
                continue
        return found
