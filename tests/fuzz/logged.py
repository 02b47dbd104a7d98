"""What a host logs of services that failed is looked at too: it is not raised, and could be an error of ours."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from belljar.ipc.channel.base import EndOfChannel
from belljar.ipc.errors import BelljarError
from belljar.ipc.interface.errors import ArgumentsUnfit, ValueUnfit

from .everything import Broken

EXPECTED = (BelljarError, EndOfChannel, ArgumentsUnfit, ValueUnfit, Broken, BufferError)
"""What a service or a caller gets to see of a hostile other side."""


class Log(logging.Handler):
    """Keeps the errors that nobody may meet; those that are not logged are added."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.add(record.exc_info[1])

    def add(self, error: BaseException) -> None:
        """Keep *error*, unless it is expected."""
        if not isinstance(error, EXPECTED):
            self.found.append(error)


@contextmanager
def looked_at() -> Iterator[Log]:
    """Yield what is logged meanwhile, which nobody else hears; after that raise the first error that it has."""
    log = Log()
    loggers = [logging.getLogger(name) for name in ("belljar.host", "belljar.child")]
    for logger in loggers:
        logger.addHandler(log)
        logger.propagate = False
    try:
        yield log
    finally:
        for logger in loggers:
            logger.removeHandler(log)
            logger.propagate = True
    if log.found:
        raise log.found[0]
