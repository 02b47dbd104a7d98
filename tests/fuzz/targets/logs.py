"""A child's log records, on their way into the application's ``logging``."""

from __future__ import annotations

import logging

from belljar.host.log_records import ChildLog
from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.frames import Log, decode_from_child

from ..examples import encoded, messages_of
from ..target import Target

SHAPE = "%(levelname)s %(name)s %(module)s %(processName)s: %(message)s"


class Lines(logging.Handler):
    """Each record is one line that a terminal does not obey, but for a traceback, whose lines are marked."""

    def emit(self, record: logging.LogRecord) -> None:
        lines = self.format(record).split("\n")
        assert all(line.replace("\t", "").isprintable() for line in lines), lines
        assert all(line.startswith("  | ") for line in lines[1:]), lines
        assert record.name.startswith("belljar.child.fuzzed")
        assert 1 <= record.levelno <= logging.CRITICAL


_handler = Lines()
_handler.setFormatter(logging.Formatter(SHAPE))
_logger = logging.getLogger("belljar.child.fuzzed")
_logger.addHandler(_handler)
_logger.propagate = False
_logger.setLevel(1)


def take(data: bytes) -> None:
    """Log what is a record. No logger is made of what it says."""
    known = len(logging.Logger.manager.loggerDict)
    log = ChildLog("fuzzed")
    for frame in decode_from_child(data):
        if isinstance(frame, Log):
            log.take(frame)
    log.close()
    assert len(logging.Logger.manager.loggerDict) == known


def examples() -> list[bytes]:
    said = [["log", "a.b", 30, "it\n\x1b[2J says", 1.7e9, "module", 7, "Traceback\n  File\nE: x\x07", 3]]
    return encoded([[each] for each in [*messages_of(Log), *said]] + [said * 40])


TARGET = Target(examples, take, (PeerProtocolError,))
