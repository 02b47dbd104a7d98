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
        while True:
            try:
                return datagram.send(self.sock, data, fds)
            except BlockingIOError:
                await anyio.wait_writable(self.sock)
            except (BrokenPipeError, ConnectionResetError):
                raise EndOfChannel from None

    async def receive_first(self) -> tuple[FromChild, Datagram]:
        """Wait for a message of a sender that is not known yet; the caller judges it and closes the datagram."""
        received = await self._datagram()
        try:
            return decode_from_child(received.data), received
        except PeerProtocolError:
            received.close()
            raise

    async def receive(self) -> tuple[FromChild, Datagram]:
        """Wait for the next message of the known child; the caller takes its fds.

        Raises:
            EndOfChannel: the child closed the channel, most likely by ending.
            PeerProtocolError: the message is malformed, or another process sent it.
        """
        received = await self._datagram()
        try:
            self._check_sender(received)
            return decode_from_child(received.data), received
        except PeerProtocolError:
            received.close()
            raise

    async def _datagram(self) -> Datagram:
        while True:
            try:
                received = datagram.receive(self.sock, self._buffer)
            except BlockingIOError:
                await anyio.wait_readable(self.sock)
                continue
            except ConnectionResetError:
                raise EndOfChannel from None
            if received is None:
                raise EndOfChannel
            return received

    def _check_sender(self, received: Datagram) -> None:
        senders = [credentials.sender_pid for credentials in received.credentials]
        if senders != [self.sender_pid]:
            raise PeerProtocolError(f"a message came from process {senders} instead of {self.sender_pid}")

    def hang_up(self) -> None:
        """Wake whoever waits for a message: what has arrived can still be read, then comes the end."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # ENOTCONN: the other end is closed already, which wakes as well
            return

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


class EndOfChannel(Exception):
    """The other end of the control channel is closed."""
