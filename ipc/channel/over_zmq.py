"""The channel ``zmq``: a DEALER in the child, connected before the seal to a ROUTER in the host (see `zmq_ends`).

Facts of libzmq 4.3.5 that this tames; each has a test.

* ``ZMQ_FD`` becomes readable once for news of any kind, also of room, and whatever is called next consumes that. So
  after each call that leaves somebody waiting this asks ``ZMQ_EVENTS`` itself, and rings a bell of its own if what is
  waited for is there. `fileno` is an epoll fd over both, over the monitor and over the end of the control socket.
* No fd can go with a message. A datagram with fds goes over the control socket, whole, and an empty message keeps its
  place in the order; no other message is empty.
* A message that was sent is not yet in the kernel: the I/O thread of libzmq writes it. So a child's `close` waits for
  that, at most `LINGER`. A host's drops what the child has not taken: no child shall hold a host's memory.
* The monitor tells that the connection is lost, by a child that ended or by one that broke ZMTP or sent more than
  ``MAXMSGSIZE``, for libzmq tells of neither otherwise. What came before can still be read.

libzmq queues up to `QUEUED` messages at each end, beside what the kernel holds, and takes a limit for nothing else: a
peer that sends parts of one message without end makes it take memory without end (SECURITY.md).
"""

from __future__ import annotations

import os
import select
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

import zmq

from .. import interrupts
from ..datagram import MAX_DATAGRAM, Datagram
from ..errors import PeerProtocolError
from .base import LONGEST_WAIT, EndOfChannel, check_sendable
from .over_socket import SocketChannel

if TYPE_CHECKING:
    Socket: TypeAlias = zmq.Socket[bytes]

QUEUED = 128
"""Messages in a queue of libzmq before it is full: at most 8 MiB."""

LINGER = 1000
"""Milliseconds in which a child that closes its end waits for its last messages to leave."""

_LAST_WORDS = 100
"""Milliseconds that the connection may outlive the control socket, as it does while the kernel ends a process."""

NOBLOCK, MORE = int(zmq.NOBLOCK), int(zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)
_IN, _OUT = int(zmq.POLLIN), int(zmq.POLLOUT)
_END = select.EPOLLRDHUP  # and EPOLLHUP, which need not be asked for


def configure(socket: Socket) -> None:
    """Set what holds for both ends."""
    socket.setsockopt(zmq.SNDHWM, QUEUED)
    socket.setsockopt(zmq.RCVHWM, QUEUED)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_DATAGRAM)  # more ends the connection before it takes memory
    socket.setsockopt(zmq.HANDSHAKE_IVL, 5000)  # a connection that says nothing keeps no fd longer, in milliseconds


def read_event(monitor: Socket) -> tuple[int, int]:
    """Return the next event of a socket's *monitor* and its value. `zmq.Again` if there is none.

    Not by pyzmq's function for it, whose module loads asyncio: 60 ms, and a child has no use for it.
    """
    event, _endpoint = monitor.recv_multipart(NOBLOCK)
    number, value = struct.unpack("=Hi", event)
    return number, value


class ZmqChannel:
    """What both ends have in common; they differ in `_put` and `_take`. Thread-safe.

    Owns *socket*, its *monitor* and *control*, over which the fds travel.
    """

    kind = "zmq"
    writable_fd = None

    def __init__(self, socket: Socket, monitor: Socket, control: SocketChannel) -> None:
        self._socket = socket
        self._monitor = monitor
        self._control = control
        self._events = cast("Callable[[int], int]", socket.getsockopt)
        self._events_of_monitor = cast("Callable[[int], int]", monitor.getsockopt)
        self._lock = threading.RLock()
        self._is_inside: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]  # pyright: ignore
        self._poll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._monitor_fd = _fd(monitor)
        for fd in (_fd(socket), self._monitor_fd, self._bell):
            self._poll.register(fd, select.EPOLLIN)
        self._control_fd = control.fileno()
        self._poll.register(self._control_fd, _END)
        self._connection_fd = -1  # how the monitor calls the peer's
        self._rings = False
        self._awaits_news = False  # `receive` said None
        self._awaits_room = False  # `send` said False, for want of room in libzmq
        self._awaits_control = False  # or in the control socket
        self._owes_place = False  # fds were sent, and the message that keeps their place was not
        self._has_ended = False

    def fileno(self) -> int:
        """Return an fd that is readable when there may be news or, after `send` gave False, room."""
        return self._poll.fileno()

    def send(self, data: bytes, fds: Sequence[int] = ()) -> bool:
        """Send one datagram if there is room. See `Channel.send`."""
        check_sendable(data, fds)
        if self._is_inside():
            return False  # a finalizer sends, which has interrupted a call of this very channel
        with self._lock:
            if self._has_ended:
                raise EndOfChannel
            sent = (not self._owes_place or self._pay()) and (self._put(data) if not fds else self._send_fds(data, fds))
            self._awaits_room = not sent and not self._awaits_control
            self._settle()
            return sent

    def _send_fds(self, data: bytes, fds: Sequence[int]) -> bool:
        if (sent := self._control.send(data, fds)) == self._awaits_control:
            self._awaits_control = not sent
            self._poll.modify(self._control_fd, _END if sent else _END | select.EPOLLOUT)
        self._owes_place = sent
        self._pay()
        return sent

    def _pay(self) -> bool:
        """Send the message that keeps the place of fds, if that is still to be done; False if there is no room."""
        self._owes_place = self._owes_place and not self._put(b"")
        return not self._owes_place

    def receive(self) -> Datagram | None:
        """Return what is there. See `Channel.receive`."""
        received = self._receive()
        if received is None and self._is_over(self._poll.poll(0)):
            return self._last_words()
        return received

    def _receive(self) -> Datagram | None:
        with self._lock:
            if self._owes_place:
                self._pay()
            events = self._events(_EVENTS)
            data = self._take() if events & _IN else None
            self._awaits_news = data is None
            self._settle(events if data is None else None)
            if data is None:
                return None
            return Datagram(data, [], (), None) if data else self._with_fds()

    def _with_fds(self) -> Datagram:
        try:
            received = self._control.receive()
        except EndOfChannel:  # what was sent before the end would still be there
            received = None
        if received is None:
            raise PeerProtocolError("a message stands for fds that did not come")
        return received

    def _last_words(self) -> Datagram:
        """What came before the end, which may have come since."""
        received = self._receive()
        if received is None:
            raise EndOfChannel
        return received

    def wait_send(self, data: bytes, fds: Sequence[int], seconds: float | None) -> bool:
        """Send one datagram as soon as there is room. See `Channel.wait_send`."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self.send(data, fds):
            if not (ready := self._wait(end)):
                return False
            self._is_over(ready)
        return True

    def wait_receive(self, seconds: float | None) -> Datagram | None:
        """Wait for the next datagram. See `Channel.wait_receive`."""
        end = None if seconds is None else time.monotonic() + seconds
        while (received := self._receive()) is None:
            if not (ready := self._wait(end)):
                return None
            if self._is_over(ready):
                return self._last_words()
        return received

    def _wait(self, end: float | None) -> list[tuple[int, int]]:
        if interrupts.came:
            interrupts.raise_held()
        return self._poll.poll(None if end is None else min(max(0.0, end - time.monotonic()), LONGEST_WAIT))

    def _settle(self, events: int | None = None) -> None:
        """Ring the bell while somebody waits for what is there already, and no longer.

        *events* are what ``ZMQ_EVENTS`` said, if nothing was called since; at worst they ring once too often.
        """
        awaits_room = self._awaits_room or self._owes_place
        if events is None and (self._awaits_news or awaits_room):
            events = self._events(_EVENTS)
        self._ring(
            self._has_ended
            or bool(events and ((self._awaits_news and events & _IN) or (awaits_room and events & _OUT)))
        )

    def _ring(self, rings: bool) -> None:
        if rings != self._rings:
            self._rings = rings
            if rings:
                os.eventfd_write(self._bell, 1)
            else:
                os.eventfd_read(self._bell)

    def _is_over(self, ready: list[tuple[int, int]]) -> bool:
        """Return whether the connection is lost; *ready* is what the epoll fd says."""
        if not self._has_ended:
            for fd, events in ready:
                if fd == self._monitor_fd or (fd == self._control_fd and events & (_END | select.EPOLLHUP)):
                    self._take_leave(fd)
        return self._has_ended

    def _take_leave(self, fd: int) -> None:
        with self._lock:
            if fd == self._control_fd:
                self._monitor.poll(_LAST_WORDS)
                self._has_ended = True
            self._read_monitor()
            if self._has_ended:
                self._ring(True)

    def _read_monitor(self) -> None:
        while self._events_of_monitor(_EVENTS) & _IN:
            if read_event(self._monitor) == (zmq.EVENT_DISCONNECTED, self._connection_fd):
                self._has_ended = True

    def _put(self, data: bytes) -> bool:
        """Send one message, False if there is no room. `EndOfChannel` if there is nobody to send it to."""
        raise NotImplementedError

    def _take(self) -> memoryview | None:
        """Receive one message, which is there; None if it is not for us."""
        raise NotImplementedError

    def close(self) -> None:
        """Close all of it."""
        if not self._socket.closed:
            self._socket.disable_monitor()  # first: libzmq waits for ever to tell a monitor that nobody reads
            self._monitor.close(linger=0)
            self._socket.close()
            self._poll.close()
            os.close(self._bell)
        self._control.close()


def _fd(socket: Socket) -> int:
    return cast("int", socket.getsockopt(zmq.FD))
