"""The host's end of the control channel, for asyncio and trio alike.

anyio's own UNIX streams carry neither SEQPACKET nor credentials, so this waits for the socket with
`anyio.wait_readable` and reads it itself. There is no reader task: the caller that waits for an answer polls, which
costs a fifth of handing each message from one task to another.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import anyio

from ..ipc import datagram
from ..ipc.channel.base import EndOfChannel
from ..ipc.credentials import request_credentials, request_pidfds
from ..ipc.datagram import Datagram
from ..ipc.errors import PeerProtocolError
from ..ipc.messages import FromChild, FromHost, decode_from_child, encode


class Connection:
    """The control channel. Owns *sock*, on which credentials must be asked for before any child exists."""

    def __init__(self, sock: socket.socket) -> None:
        request_credentials(sock)
        self.has_pidfds = request_pidfds(sock, True)
        sock.setblocking(False)
        self.sock = sock
        self.sender_pid = 0
        self._buffer = bytearray(datagram.MAX_DATAGRAM)

    def trust_only(self, sender_pid: int) -> None:
        """From now on, every message must come from the process that the kernel calls *sender_pid*."""
        self.sender_pid = sender_pid
        if self.has_pidfds:
            request_pidfds(self.sock, False)

    async def send(self, message: FromHost, fds: Sequence[int] = ()) -> None:
        """Send *message*; the caller keeps *fds*. `EndOfChannel` if the child is gone."""
        data = encode(message)
        while not self._send_now(data, fds):
            await anyio.wait_writable(self.sock)

    def _send_now(self, data: bytes, fds: Sequence[int]) -> bool:
        try:
            datagram.send(self.sock, data, fds)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            raise EndOfChannel from None
        return True

    async def receive_first(self) -> tuple[FromChild, Datagram]:
        """Wait for a message of a sender that is not known yet; the caller judges it and closes the datagram."""
        while (received := self._receive_now()) is None:
            await anyio.wait_readable(self.sock)
        return self._decoded(received)

    async def receive(self) -> tuple[FromChild, Datagram]:
        """Wait for the next message of the known child; the caller takes its fds.

        Raises:
            EndOfChannel: the child closed the channel, most likely by ending.
            PeerProtocolError: the message is malformed, or another process sent it.
        """
        while (received := self._receive_now()) is None:
            await anyio.wait_readable(self.sock)
        credentials = received.credentials
        if len(credentials) != 1 or credentials[0].sender_pid != self.sender_pid:
            received.close()
            senders = [sender.sender_pid for sender in credentials]
            raise PeerProtocolError(f"a message came from process {senders} instead of {self.sender_pid}")
        return self._decoded(received)

    def _decoded(self, received: Datagram) -> tuple[FromChild, Datagram]:
        try:
            return decode_from_child(received.data), received
        except PeerProtocolError:
            received.close()
            raise

    def _receive_now(self) -> Datagram | None:
        try:
            received = datagram.receive(self.sock, self._buffer)
        except BlockingIOError:
            return None
        except ConnectionResetError:  # said once: it ended with a message of ours unread. Its own last words come next
            return self._receive_now()
        if received is None:
            raise EndOfChannel
        return received

    def hang_up(self) -> None:
        """Wake whoever waits for a message: what has arrived can still be read, then comes the end."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # ENOTCONN: the other end is closed already, which wakes as well
            return

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()
