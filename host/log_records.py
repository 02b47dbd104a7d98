"""What a child says, in the application's ``logging``: its own records, and the lines of its stdout and stderr.

All of it is the child's words, so it stays below the logger ``belljar.child.<process>``, where none of the
application's own loggers are, and is cleaned: no line break and nothing that a terminal obeys, but for the lines of a
traceback, each of which begins with ``  | ``. Each record is made here, and carries the name of the process type and
the child's pid as ``processName`` and ``process``.

No logger is made for a name that a child thinks up, for ``logging`` keeps each for ever: the nearest that exists takes
the record, and would say the same as a new one of that name, but for its filters, which see the record too.
"""

from __future__ import annotations

import logging
import textwrap
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from ..ipc.allowance import LOG_BURST, LOG_RATE, Allowance, log_size
from ..ipc.errors import printable
from ..ipc.frames import Log, LogLevels

ROOT = "belljar.child"

TELL_EVERY = 1.0
"""Seconds from one word on what was dropped to the next."""


@contextmanager
def _foreign() -> Iterator[None]:
    """Let no filter and no handler of the application end what reads the child; see `logging.raiseExceptions`."""
    try:
        yield
    except Exception:  # noqa: BLE001 - the edge of foreign code
        if logging.raiseExceptions:
            traceback.print_exc()


class ChildLog:
    """The log of one child, whose process type is called *process_name*.

    Attributes:
        pid: The child's, as the host's kernel calls it; 0 before it is known.
    """

    def __init__(self, process_name: str) -> None:
        self.pid = 0
        self._process_name = process_name
        self._own = logging.getLogger(logger_of(process_name))
        self._began = time.time()
        self._allowance = Allowance(2 * LOG_BURST, LOG_RATE)
        self._dropped = 0
        self._told_at = -TELL_EVERY

    def take(self, frame: Log) -> None:
        """Log a record of the child, unless it logs too much."""
        self._dropped += frame.dropped
        is_let_through = frame.level > 0 and self._allowance.take(log_size(frame))
        if frame.level > 0 and not is_let_through:
            self._dropped += 1
        if self._dropped and time.monotonic() - self._told_at >= TELL_EVERY:
            self._tell_dropped()
        if is_let_through:
            with _foreign():
                self._log(frame)

    def _log(self, frame: Log) -> None:
        record = self._record(printable(frame.logger), frame.level, printable(frame.text, keep="\t"))
        if record is None:
            return
        record.module, record.lineno = printable(frame.module), frame.line
        record.filename = record.pathname = f"{record.module}.py"
        self._date(record, frame.time)
        if frame.traceback:
            trace = printable(frame.traceback.rstrip(), keep="\n\t")
            record.exc_text = textwrap.indent(trace, "  | ", lambda line: True)  # no line can pass for another record
        self._nearest(record.name).handle(record)

    def write(self, logger: str, level: int, text: str) -> None:
        """Log *text*, which is cleaned already, at ``belljar.child.<process>.<logger>``."""
        with _foreign():
            record = self._record(logger, level, text)
            if record is not None:
                self._nearest(record.name).handle(record)

    def close(self) -> None:
        """Say what was dropped and nobody has been told of."""
        if self._dropped:
            self._tell_dropped()

    def _tell_dropped(self) -> None:
        dropped, self._dropped, self._told_at = self._dropped, 0, time.monotonic()
        self.write("", logging.WARNING, f"{dropped} records were dropped: the child logs more than is let through")

    def _record(self, logger: str, level: int, text: str) -> logging.LogRecord | None:
        """Return a new record, made as the application has its records made; None if it does not want it."""
        name = f"{self._own.name}.{logger}" if logger not in ("", "root") else self._own.name
        level = min(max(level, 1), logging.CRITICAL)
        nearest = self._nearest(name)
        if not nearest.isEnabledFor(level):
            return None
        record = nearest.makeRecord(name, level, "", 0, text, (), None)
        record.processName, record.process = self._process_name, self.pid
        return record

    def _nearest(self, name: str) -> logging.Logger:
        """Return the logger *name*, or the nearest above it that exists."""
        known = logging.Logger.manager.loggerDict
        while len(name) > len(self._own.name):
            found = known.get(name)
            if isinstance(found, logging.Logger):
                return found
            name = name.rpartition(".")[0]
        return self._own

    def _date(self, record: logging.LogRecord, when: float) -> None:
        """Give *record* the child's time, if that lies within the life of the child."""
        if self._began - 1 <= when <= record.created + 1:
            record.relativeCreated += (when - record.created) * 1000
            record.created, record.msecs = when, float(int(when % 1 * 1000))


def logger_of(process_name: str) -> str:
    """Return the name of the logger of all that children of a process type say.

    A dot in *process_name* is escaped, so that this is no logger below that of another process type, whose children
    could speak by it.
    """
    return f"{ROOT}.{process_name.replace('%', '%25').replace('.', '%2E')}"


def initial_level(process_name: str, level: str) -> int:
    """Return the number of *level*, which for ``host`` is what the application has set for the child's words."""
    if level == "host":
        return min(logging.getLogger(logger_of(process_name)).getEffectiveLevel(), 100)
    return level_number(level)


def levels(level: int | str, logger: str) -> LogLevels:
    """Return the frame that sets the *level* of a *logger*. `ValueError` if there is no such level."""
    if len(logger) > 256:
        raise ValueError("the name of a logger has at most 256 characters")
    return LogLevels({logger: level_number(level)})


def level_number(level: int | str) -> int:
    """Return *level*, which may be a name of ``logging``, as a number from 0 to 100. `ValueError` if there is none."""
    number = logging.getLevelNamesMapping().get(level.upper()) if isinstance(level, str) else level
    if number is None or not 0 <= number <= 100:
        raise ValueError(f"there is no level {level!r}; expected one such as 'info', or a number from 0 to 100")
    return number
