"""The channel ``memory``: both ends in one process, for tests of code that uses a host; nothing of it is confined.

It holds as much as a socket of the default size before it refuses, so that what waits for room is really tried. Each
end has an eventfd(2) that is readable while there is something to receive, and one that is writable while there is
room: one whose counter is at its maximum is not.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack

from ..datagram import Datagram, close_all
from .base import EndOfChannel, check_sendable

ROOM = 212_992
"""Bytes on their way in one direction: the kernel's default for a socket (net.core.wmem_default)."""

OVERHEAD = 768
"""Bytes that a datagram counts beside its own: what the kernel counts for a small one."""

_FLAGS = os.EFD_CLOEXEC | os.EFD_NONBLOCK
_FULL = 2**64 - 2


def memory_pair() -> tuple[MemoryChannel, MemoryChannel]:
    """Return two ends that are connected with each other."""
    one, other = _Way(), _Way()
    return MemoryChannel(one, other), MemoryChannel(other, one)


class MemoryChannel:
    """One end of a `memory_pair`; thread-safe. Its datagrams carry no credentials."""

    kind = "memory"

    def __init__(self, inward: _Way, outward: _Way) -> None:
        self._inward = inward
        self._outward = outward
        self.writable_fd = outward.room

    def fileno(self) -> int:
        """Return an fd that is readable while there is something to receive."""
        return self._inward.news

    def send(self, data: bytes, fds: Sequence[int] = ()) -> bool:
        """Send one datagram if there is room. See `Channel.send`."""
        check_sendable(data, fds)
        return self._outward.put(data, fds, 0)

    def receive(self) -> Datagram | None:
        """Return what is there. See `Channel.receive`."""
        return self._inward.take(0)

    def wait_send(self, data: bytes, fds: Sequence[int], seconds: float | None) -> bool:
        """Send one datagram as soon as there is room. See `Channel.wait_send`."""
        check_sendable(data, fds)
        return self._outward.put(data, fds, seconds)

    def wait_receive(self, seconds: float | None) -> Datagram | None:
        """Wait for the next datagram. See `Channel.wait_receive`."""
        return self._inward.take(seconds)

    def close(self) -> None:
        """Close this end; the other one can still read what was sent."""
        self._inward.leave_reading()
        self._outward.leave_writing()


class _Way:
    """One direction. Owns the fds that are on their way, `news` until its reader leaves, `room` until its writer does.

    Both eventfds are levels: `_settle` has them say what is true whenever that changes.
    """

    def __init__(self) -> None:
        with ExitStack() as opened:
            self.news = os.eventfd(0, _FLAGS)
            opened.callback(os.close, self.news)
            self.room = os.eventfd(0, _FLAGS)
            opened.pop_all()
        self._changed = threading.Condition()
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._used = 0
        self._is_read = self._is_written = True
        self._has_news = self._is_full = False

    def put(self, data: bytes, fds: Sequence[int], seconds: float | None) -> bool:
        with self._changed:
            if not self._changed.wait_for(lambda: self._used < ROOM or not self._is_read, seconds):
                return False
            if not self._is_read:
                raise EndOfChannel
            self._waiting.append((bytes(data), _duplicates(fds)))
            self._used += len(data) + OVERHEAD
            self._settle()
            return True

    def take(self, seconds: float | None) -> Datagram | None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or not self._is_written, seconds):
                return None
            if not self._waiting:
                raise EndOfChannel
            data, fds = self._waiting.popleft()
            self._used -= len(data) + OVERHEAD
            self._settle()
            return Datagram(data, fds, (), None)

    def leave_reading(self) -> None:
        with self._changed:
            if self._is_read:
                self._is_read = False
                for _, fds in self._waiting:
                    close_all(fds)
                self._waiting.clear()
                self._settle()
                os.close(self.news)

    def leave_writing(self) -> None:
        with self._changed:
            if self._is_written:
                self._is_written = False
                self._settle()
                os.close(self.room)

    def _settle(self) -> None:
        """Wake those who wait, and set the eventfds."""
        self._changed.notify_all()
        has_news = bool(self._waiting) or not self._is_written
        if self._is_read and has_news != self._has_news:
            self._has_news = has_news
            _set(self.news, 1 if has_news else 0)
        is_full = self._used >= ROOM and self._is_read
        if self._is_written and is_full != self._is_full:
            self._is_full = is_full
            _set(self.room, _FULL if is_full else 0)


def _set(eventfd: int, value: int) -> None:
    """Set the counter, which is 0 if *value* is not, and the other way round."""
    if value:
        os.eventfd_write(eventfd, value)
    else:
        os.eventfd_read(eventfd)


def _duplicates(fds: Sequence[int]) -> list[int]:
    with ExitStack() as opened:
        copies: list[int] = []
        for fd in fds:
            copies.append(os.dup(fd))  # close-on-exec, as all that Python makes
            opened.callback(os.close, copies[-1])
        opened.pop_all()
    return copies
