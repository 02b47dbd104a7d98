"""The channel ``socket``: the control channel's own socket, which is private to host and child.

Measured, on one core with a peer that echoes 64 bytes: 6.2 us for a round trip by a blocking recvmsg(2), 0.5 us more
with a poll(2) before it, 0.1 us more with SO_RCVTIMEO. It is poll(2) for waits that have an end, nevertheless: each
signal that Python handles begins a wait by SO_RCVTIMEO anew, and its clock counts in jiffies.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence

from .. import datagram, interrupts
from ..credentials import UCRED, Credentials
from ..datagram import CLOEXEC, CONTROL_SPACE, MAX_DATAGRAM, TRUNCATED, Datagram
from ..errors import PeerProtocolError
from .base import LONGEST_WAIT, EndOfChannel, check_sendable

_DONTWAIT = int(socket.MSG_DONTWAIT)
_SEND = _DONTWAIT | int(socket.MSG_NOSIGNAL)
_CREDENTIALS = int(socket.SCM_CREDENTIALS)


class SocketChannel:
    """One end of a connected SEQPACKET socket (`datagram.control_pair`). Owns *sock*, and makes it blocking.

    With *trusted*, as in the host, each datagram must come from that process; credentials must have been asked for.
    """

    kind = "socket"

    def __init__(self, sock: socket.socket, trusted: Credentials | None = None) -> None:
        sock.setblocking(True)  # MSG_DONTWAIT says which calls must not block
        self.sock = sock
        self.writable_fd = sock.fileno()
        self._trusted = trusted
        self._buffer = bytearray(MAX_DATAGRAM)
        self._view = memoryview(self._buffer)
        self._plain = Datagram(b"", [], (), None)
        self._sender = None if trusted is None else UCRED.pack(*trusted)
        self._send, self._recvmsg_into = sock.send, sock.recvmsg_into
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(sock, select.POLLIN)
        self._writable.register(sock, select.POLLOUT)

    def fileno(self) -> int:
        """Return the socket's fd."""
        return self.sock.fileno()

    def send(self, data: bytes, fds: Sequence[int] = ()) -> bool:
        """Send one datagram if there is room. See `Channel.send`."""
        try:
            if not fds and 0 < len(data) <= MAX_DATAGRAM:
                self._send(data, _SEND)
            else:
                check_sendable(data, fds)
                datagram.send(self.sock, data, fds, _DONTWAIT)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            raise EndOfChannel from None
        return True

    def receive(self) -> Datagram | None:
        """Return what is there. See `Channel.receive`."""
        try:
            return self._receive(_DONTWAIT)
        except BlockingIOError:
            return None

    def wait_send(self, data: bytes, fds: Sequence[int], seconds: float | None) -> bool:
        """Send one datagram as soon as there is room. See `Channel.wait_send`."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self.send(data, fds):
            left = None if end is None else min(max(0.0, end - time.monotonic()), LONGEST_WAIT) * 1000
            if not self._writable.poll(left):
                return False
        return True

    def wait_receive(self, seconds: float | None) -> Datagram | None:
        """Wait for the next datagram. See `Channel.wait_receive`."""
        if interrupts.came:
            interrupts.raise_held()
        if seconds is not None and not self._readable.poll(min(seconds, LONGEST_WAIT) * 1000):
            return None
        return self._receive(0)

    def _receive(self, flags: int) -> Datagram:
        """Receive one datagram. One without fds from the right sender, as nearly all are, costs no objects."""
        try:
            size, ancillary, result, _ = self._recvmsg_into([self._buffer], CONTROL_SPACE, flags | CLOEXEC)
        except ConnectionResetError:  # said once: it ended with a message of ours unread. Its own last words come next
            return self._receive(flags)
        sender = self._sender
        # What comes with an ordinary message: no more than the credentials of the sender, or nothing at all.
        if (
            size
            and not result & TRUNCATED
            and (
                not ancillary
                if sender is None
                else len(ancillary) == 1 and ancillary[0][2] == sender and ancillary[0][1] == _CREDENTIALS
            )
        ):
            self._plain.data = self._view[:size]
            return self._plain
        received = datagram.sort(self._view[:size], ancillary, result)
        if received is None:
            raise EndOfChannel
        if self._trusted is not None:
            _check_sender(received, self._trusted.sender_pid)
        return received

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


def _check_sender(received: Datagram, sender_pid: int) -> None:
    credentials = received.credentials
    if len(credentials) != 1 or credentials[0].sender_pid != sender_pid:
        received.close()
        senders = [sender.sender_pid for sender in credentials]
        raise PeerProtocolError(f"a message came from process {senders} instead of {sender_pid}")
