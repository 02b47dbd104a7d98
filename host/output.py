"""What a child writes to stdout and stderr: lines for `logging`, the last ones for `Ended`, never without a cap.

A hostile child writes without end, without newlines, and bytes that are no text. The pipes are always drained, so
that it does not block on them, but only so many lines are logged and only the last ones are kept. One that has
written more than is logged is read slowly: it then waits for its own output, and the host's other tasks do not.
"""

from __future__ import annotations

import logging
import os
from collections import deque

import anyio

from ..ipc.errors import printable
from .log_records import ChildLog

MAX_LINE = 2048
"""Characters of a line that are kept."""

MAX_LOGGED = 1 << 20
"""Bytes of a stream that reach `logging`, each line counted as `LEAST` at least."""

LEAST = 128
"""What a short line counts: a record costs the host more than its bytes, and there is a line in every newline."""

AT_ONCE = 8192
"""Bytes of one read; what they cost is what the host's other tasks wait."""

KEPT_LINES = 50

PAUSE = 0.005
"""Seconds between two reads of a stream that has written more than is logged: 64 KiB each, so 13 MB/s at most."""


class Output:
    """One *stream* of a child, whose lines go into its *log*. Owns *fd*, the read end of its pipe."""

    def __init__(self, fd: int, log: ChildLog, stream: str, level: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.drained = anyio.Event()
        self.last: deque[str] = deque(maxlen=KEPT_LINES)
        self._log = log
        self._stream = stream
        self._level = level
        self._left = MAX_LOGGED
        self._rest = b""

    async def drain(self) -> None:
        """Read until every copy of the write end is closed."""
        try:
            while (data := await self._read()) != b"":
                self.feed(data)
                # Never straight on to the next read: a child that always has more would keep the event loop.
                await anyio.sleep(0 if self._left > 0 else PAUSE)
        finally:
            self.feed(b"\n" if self._rest else b"")
            self.drained.set()

    async def _read(self) -> bytes:
        while True:
            try:
                return os.read(self.fd, AT_ONCE if self._left > 0 else 65_536)
            except BlockingIOError:
                await anyio.wait_readable(self.fd)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines if self._left > 0 else lines[-KEPT_LINES:]:
            self._take(line)

    def _take(self, line: bytes) -> None:
        text = line[:MAX_LINE].decode("utf-8", "backslashreplace")
        text = printable(text, keep="\t")
        self.last.append(text)
        if self._left <= 0:
            return
        self._left -= max(len(line) + 1, LEAST)
        self._log.write(self._stream, self._level, text)
        if self._left <= 0:
            text = f"more output is not logged: the child wrote over {MAX_LOGGED} bytes"
            self._log.write(self._stream, logging.WARNING, text)

    def close(self) -> None:
        """Close the read end."""
        os.close(self.fd)
