"""What is to be sent and the channel has no room for: in order, with its fds, until there is room."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack

from ..channel.base import Channel, EndOfChannel
from ..datagram import MAX_DATAGRAM, close_all

MAX_QUEUED = 1 << 20
"""Bytes that may wait for the channel before calls, answers and items have to. An fd counts as much as a datagram."""

MAX_UNREAD = 4 << 20
"""Bytes that wait, all of them answers, when the other side is taken for one that never reads."""


class CannotSend(EndOfChannel):
    """The kernel refuses a message that must not be left out: nothing can be said any more, and this is the end."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"a message could not be sent: {error.strerror}")


class Outbox:
    """The datagrams that wait for room in *channel*. Owns their fds. For one thread at a time.

    Attributes:
        waiting: They, with their fds.
        size: Bytes that wait. An fd counts as much as a datagram.
        put: How many datagrams had to wait so far.
        sent: How many of them do no longer.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.waiting: deque[tuple[bytes, list[int]]] = deque()
        self.size = self.put = self.sent = 0

    def send(self, data: bytes, fds: Sequence[int]) -> bool:
        """Send *data*, after all that waits; return whether it is sent already. The caller keeps *fds*.

        Raises:
            EndOfChannel: nobody will read it.
            OSError: *fds* cannot be kept, or be sent.
        """
        if not self.waiting and self._channel.send(data, fds):
            return True
        self.waiting.append((data, _duplicated(fds)))
        self.size += _weight(data, fds)
        self.put += 1
        return False

    def drain(self) -> None:
        """Send what there is room for.

        Raises:
            EndOfChannel: nobody will read it.
            OSError: the kernel refuses the fds of the first (ETOOMANYREFS), which still waits.
        """
        while self.waiting:
            data, fds = self.waiting[0]
            if not self._channel.send(data, fds):
                return
            self._drop_first()

    def clear(self) -> None:
        """Drop all. Idempotent."""
        while self.waiting:
            self._drop_first()

    def _drop_first(self) -> None:
        data, fds = self.waiting.popleft()
        self.size -= _weight(data, fds)
        self.sent += 1
        close_all(fds)


def _weight(data: bytes, fds: Sequence[int]) -> int:
    return len(data) + MAX_DATAGRAM * len(fds)


def _duplicated(fds: Sequence[int]) -> list[int]:
    with ExitStack() as opened:
        copies: list[int] = []
        for fd in fds:
            copies.append(os.dup(fd))
            opened.callback(os.close, copies[-1])
        opened.pop_all()
    return copies
