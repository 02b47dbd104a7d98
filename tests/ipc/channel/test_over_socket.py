"""The channel over a socket: who may speak on it, and what becomes of others."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from belljar.ipc import datagram
from belljar.ipc.channel.base import EndOfChannel
from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.credentials import request_credentials
from belljar.ipc.datagram import MAX_DATAGRAM
from belljar.ipc.errors import PeerProtocolError

from .pairs import SOON, myself, no_fd_stays, socket_pair


@pytest.fixture
def host_and_socket() -> Iterator[tuple[SocketChannel, int]]:
    """The host's end, which trusts this process, and the fd of the other one, on which anything can be sent."""
    ours, theirs = datagram.control_pair()
    request_credentials(ours)
    with theirs, closing(SocketChannel(ours, myself())) as host:
        yield host, theirs.fileno()


def in_a_fork(function: object) -> None:
    """Run *function* in another process, and wait for its end."""
    pid = os.fork()
    if pid == 0:
        function()  # type: ignore[operator]
        os._exit(0)
    os.waitpid(pid, 0)


def test_a_strangers_datagram_is_a_breach() -> None:
    """What another process sends on the child's socket is refused, and its fds are closed."""
    with socket_pair() as pair, no_fd_stays():
        in_a_fork(lambda: pair.child.send(b"x", [0, 1]))
        with pytest.raises(PeerProtocolError, match=f"instead of {os.getpid()}"):
            pair.host.receive()
        in_a_fork(lambda: pair.child.send(b"x", [0, 1]))
        with pytest.raises(PeerProtocolError, match=f"instead of {os.getpid()}"):
            pair.host.wait_receive(SOON)


def test_a_host_that_trusts_nobody_takes_it() -> None:
    """The same datagram arrives where no sender is asked for: the check is what refuses it."""
    with socket_pair() as pair:
        host = SocketChannel(pair.host.sock.dup())  # type: ignore[attr-defined]
        in_a_fork(lambda: pair.child.send(b"x"))
        received = host.receive()
        assert received is not None
        assert received.data == b"x"
        host.close()


@pytest.mark.parametrize(("size", "fds"), [(MAX_DATAGRAM + 1, 2), (1, 64)])
def test_what_does_not_fit_is_a_breach(host_and_socket: tuple[SocketChannel, int], size: int, fds: int) -> None:
    """A datagram with more bytes or fds than one may have is refused whole, without a leak."""
    host, fd = host_and_socket
    with no_fd_stays():
        with socket.socket(fileno=os.dup(fd)) as raw:
            datagram.send(raw, bytes(size), [0] * fds)
        with pytest.raises(PeerProtocolError, match="than the channel allows"):
            host.wait_receive(SOON)


def test_an_unread_message_does_not_hide_last_words() -> None:
    """A child that ends with something unread resets the connection; what it said before is read nevertheless."""
    with socket_pair() as pair:
        pair.host.send(b"unread")
        pair.child.send(b"last words")
        pair.child.close()
        received = pair.host.receive()
        assert received is not None
        assert received.data == b"last words"
        with pytest.raises(EndOfChannel):
            pair.host.receive()
