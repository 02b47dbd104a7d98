"""The child's end of the control channel: blocking, and no more than the child needs."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from ..ipc import datagram
from ..ipc.datagram import Datagram
from ..ipc.messages import FromChild, FromHost, decode_from_host, encode


class HostGone(Exception):
    """End of file on the control channel: nobody is left to serve."""


class Link:
    """The control channel as the child sees it. Owns *control_fd*."""

    def __init__(self, control_fd: int) -> None:
        self.sock = socket.socket(fileno=control_fd)
        self.sock.set_inheritable(False)  # it came over an exec; a program that the plugin runs has no part in it

    def send(self, message: FromChild, fds: Sequence[int] = ()) -> None:
        """Send *message*; the caller keeps *fds*. Raises `HostGone` if nobody listens."""
        try:
            datagram.send(self.sock, encode(message), fds)
        except (BrokenPipeError, ConnectionResetError):
            raise HostGone from None

    def receive(self) -> tuple[FromHost, Datagram]:
        """Wait for the next message; the caller takes the fds of its datagram. Raises `HostGone` at end of file."""
        try:
            received = datagram.receive(self.sock)
        except ConnectionResetError:
            raise HostGone from None
        if received is None:
            raise HostGone
        return decode_from_host(received.data), received
