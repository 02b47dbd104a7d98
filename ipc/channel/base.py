"""What a channel is: it moves datagrams of bytes and fds between two ends, in order, and does nothing else.

What the bytes mean is for `belljar.ipc.frames`, who waits for what is for the peer above. Every transport passes the
same tests (tests/ipc/channel/test_contract.py).

A datagram has 1 to `MAX_DATAGRAM` bytes and up to `MAX_FDS` fds. None is lost, doubled or cut while both ends live;
what was sent before an end closed can still be read at the other one. A channel that is full refuses, so that the
sender waits: there is no queue here that grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..datagram import MAX_DATAGRAM, MAX_FDS, Datagram
from ..errors import LocalProtocolError

LONGEST_WAIT = 2e6
"""Seconds of one wait, 23 days; poll(2) and epoll_wait(2) take milliseconds in an int."""


class EndOfChannel(Exception):
    """The other end of the channel is closed."""


class Channel(Protocol):
    """One end. It may be used by one sending and one receiving thread at a time.

    To wait in an event loop: wait until `fileno` is readable after `receive` gave None, and until `writable_fd` is
    writable (`fileno` readable, where there is none) after `send` gave False. Then try again; it may be in vain.

    Attributes:
        kind: ``socket``, ``zmq`` or ``memory``.
        writable_fd: An fd that is writable when there may be room again; None if `fileno` becomes readable then too.
    """

    @property
    def kind(self) -> str: ...

    @property
    def writable_fd(self) -> int | None: ...

    def fileno(self) -> int:
        """Return an fd that is readable when `receive` may have something new, the end included."""
        ...

    def send(self, data: bytes, fds: Sequence[int] = ()) -> bool:
        """Send one datagram, without blocking; False if there is no room now. The caller keeps *fds*.

        Raises:
            EndOfChannel: the other end is closed.
            LocalProtocolError: *data* is empty or too large, or there are too many *fds*.
            OSError: the kernel refuses to pass *fds* (EBADF, ETOOMANYREFS); the channel is as before.
        """
        ...

    def receive(self) -> Datagram | None:
        """Return the next datagram, without blocking; None if there is none now.

        Its data may be a view that is valid until the next call; the caller takes or closes its fds.

        Raises:
            EndOfChannel: the other end is closed and all that it sent was read.
            PeerProtocolError: it was malformed, or came from a stranger; whatever came with it is closed.
        """
        ...

    def wait_send(self, data: bytes, fds: Sequence[int], seconds: float | None) -> bool:
        """`send`, but block this thread until there is room; False if there is none within *seconds* (None: ever).

        Or within `LONGEST_WAIT`; the same holds for `wait_receive`.
        """
        ...

    def wait_receive(self, seconds: float | None) -> Datagram | None:
        """`receive`, but block this thread until there is something; None if there is not within *seconds*."""
        ...

    def close(self) -> None:
        """Close this end and all it owns. Idempotent. No other thread may be waiting in it."""
        ...


def check_sendable(data: bytes, fds: Sequence[int]) -> None:
    """Raise `LocalProtocolError` unless *data* and *fds* can be a datagram."""
    if not 0 < len(data) <= MAX_DATAGRAM:
        raise LocalProtocolError(f"could not send {len(data)} bytes: a datagram has 1 to {MAX_DATAGRAM}")
    if len(fds) > MAX_FDS:
        raise LocalProtocolError(f"could not send {len(fds)} fds: a datagram has at most {MAX_FDS}")
