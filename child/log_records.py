"""The child's ``logging``: a record becomes text here, and travels to the host as a frame of text and numbers.

A handler at the root, from early init on. To log never waits, neither for the host nor for another thread's record, and
never fails. What finds no room, or comes before the child is ready, is kept until the child waits for its host anyway.
What is too much (`belljar.ipc.allowance`), cannot be made into text, or was logged while a record of the same thread is
on its way is dropped, and the host is told how many were. (To import ``logging`` costs nothing here: all children have
it already, from ``concurrent.futures``, which is warmed for them.)
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque

import msgspec

from ..ipc.allowance import LOG_BURST, LOG_RATE, Allowance, log_size
from ..ipc.frames import Log, LogLevels
from ..ipc.messages import shorten
from ..ipc.peer.base import Peer
from .errors_as_text import describe
from .refused import RefusedImports

MAX_KEPT = 4096
"""Records that are kept for later."""


class LogRecords(logging.Handler):
    """Sends records to the host, from any thread."""

    def __init__(self, refused: RefusedImports) -> None:
        super().__init__()
        self._refused = refused
        self._peer: Peer | None = None
        self._kept: deque[Log] = deque()
        self._dropped = 0
        self._allowance = Allowance(LOG_BURST, LOG_RATE)
        self._passing = threading.Lock()
        self._busy: set[int] = set()

    def install(self, level: int) -> None:
        """Take what is logged from now on; *level* is the root logger's."""
        root = logging.getLogger()
        root.addHandler(self)
        root.setLevel(level)
        # What the plugin forks is not the child, and a word from it would end both. It has stderr.
        os.register_at_fork(after_in_child=lambda: root.removeHandler(self))

    def handle(self, record: logging.LogRecord) -> bool:
        """Send *record*, or keep it until there is a host to send it to. No lock is held while its text is made."""
        thread = threading.get_ident()
        if thread in self._busy:  # logged by what makes the text, or by a finalizer that runs meanwhile
            self._dropped += 1
            return True
        self._busy.add(thread)
        try:
            self._pass_on(_frame(record, without_files=self._refused.is_watching))
        except Exception:  # noqa: BLE001 - the edge of foreign code: arguments, errors, whoever made the record
            self._dropped += 1
        finally:
            self._busy.discard(thread)
        return True

    def _pass_on(self, frame: Log) -> None:
        with self._passing:
            if self._dropped:
                frame = msgspec.structs.replace(frame, dropped=self._dropped)
            if not self._allowance.take(log_size(frame)) or not self._sent(frame):
                self._dropped += 1
            else:
                self._dropped -= frame.dropped

    def _sent(self, frame: Log) -> bool:
        """Send *frame* or keep it; False if neither can be."""
        if self._peer is not None and self._send_kept(self._peer) and self._peer.tell(frame):
            return True
        if len(self._kept) >= MAX_KEPT:
            return False
        self._kept.append(frame)
        return True

    def _send_kept(self, peer: Peer) -> bool:
        """Send what was kept, as far as there is room; return whether that was all."""
        while self._kept and peer.tell(self._kept[0]):
            self._kept.popleft()
        return not self._kept

    def flow(self, peer: Peer) -> None:
        """The host listens from now on, over *peer*."""
        self._peer = peer

    def drain(self, *, wait: bool) -> None:
        """Send what was kept, and with *wait* all of it; that is for a thread that has nothing else to do."""
        peer = self._peer
        if peer is None or not (self._kept or self._dropped):
            return
        while True:
            with self._passing:
                if self._send_kept(peer) or not wait:
                    break
                frame = self._kept.popleft()
            if not peer.tell(frame, wait=True):  # the host is gone
                return
        with self._passing:
            dropped, self._dropped = self._dropped, 0
        if dropped and not peer.tell(Log("", 0, "", 0.0, dropped=dropped), wait=wait):
            with self._passing:
                self._dropped += dropped

    def print_kept(self) -> None:
        """The child will not be ready: write what was kept to stderr, so that it is not lost."""
        for frame in self._kept:
            level = logging.getLevelName(frame.level)
            print(f"{level}:{frame.logger}:{frame.text}", *frame.traceback.splitlines(), sep="\n", file=sys.stderr)


def set_levels(frame: LogLevels) -> None:
    """Set the levels of loggers, as the host says."""
    for name, level in frame.levels.items():
        logging.getLogger(name).setLevel(level)


def _frame(record: logging.LogRecord, *, without_files: bool) -> Log:
    """Return *record* as text and numbers of the types that the host expects, whatever was in it."""
    return Log(
        logger=shorten(str(record.name), 256),
        level=min(max(int(record.levelno), 1), 100),
        text=shorten(str(record.getMessage()), 4096),
        time=float(record.created),
        module=shorten(str(record.module), 256),
        line=max(int(record.lineno or 0), 0),
        traceback=shorten(_traceback(record, without_files=without_files), 8192),  # four bytes each still fit
    )


def _traceback(record: logging.LogRecord, *, without_files: bool) -> str:
    parts: list[str] = []
    if record.exc_info and record.exc_info[1] is not None:
        parts.append(describe(record.exc_info[1], without_files=without_files)[1])
    if record.stack_info:
        parts.append(str(record.stack_info))
    return "\n".join(parts)
