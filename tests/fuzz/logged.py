"""What a host logs of services that failed is looked at too: it is not raised, and could be an error of ours."""

from __future__ import annotations

import logging

from belljar.ipc.channel.base import EndOfChannel
from belljar.ipc.errors import BelljarError
from belljar.ipc.interface.errors import ArgumentsUnfit, ValueUnfit

from .everything import Broken

EXPECTED = (BelljarError, EndOfChannel, ArgumentsUnfit, ValueUnfit, Broken, BufferError)
"""What a service or a caller gets to see of a hostile other side."""

found: list[BaseException] = []


class _Log(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] and not isinstance(record.exc_info[1], EXPECTED):
            found.append(record.exc_info[1])


for _name in ("belljar.host", "belljar.child"):
    logging.getLogger(_name).addHandler(_Log())
    logging.getLogger(_name).propagate = False


def raise_what_was_found() -> None:
    """Raise the first of the errors that nobody may meet."""
    if found:
        first, found[:] = found[0], []
        raise first
