"""`Allowance`: so much at once, and more as time goes by; and what that is for the records of a child's ``logging``.

Child and host both hold themselves to it: an honest child does not send what its host would drop, and a hostile one
gets no more into the log by sending it all the same.
"""

from __future__ import annotations

import time

from .frames import Log

LOG_BURST = 1 << 20
"""Characters of records that may come at once."""

LOG_RATE = 16 << 10
"""Characters more a second: 128 short records."""

LEAST = 128
"""What a record counts at least: it costs more than its characters."""


class Allowance:
    """A sum of which is taken, and which grows back by *per_second* up to *most*. The caller sees to threads."""

    __slots__ = ("_left", "_most", "_per_second", "_since")

    def __init__(self, most: float, per_second: float) -> None:
        self._left = self._most = most
        self._per_second = per_second
        self._since = time.monotonic()

    def take(self, amount: float) -> bool:
        """Take *amount*, if so much is left."""
        if self._left < amount:
            now = time.monotonic()
            self._left = min(self._most, self._left + (now - self._since) * self._per_second)
            self._since = now
            if self._left < amount:
                return False
        self._left -= amount
        return True


def log_size(frame: Log) -> int:
    """Return what *frame* counts."""
    return max(LEAST, len(frame.logger) + len(frame.text) + len(frame.traceback))
