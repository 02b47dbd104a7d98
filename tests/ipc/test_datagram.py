"""Datagrams over real socket pairs: what comes with them, and what must not stay open."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from belljar.ipc import datagram, pidfds
from belljar.ipc.credentials import Credentials, request_credentials, request_pidfds
from belljar.ipc.datagram import MAX_DATAGRAM, MAX_FDS, Datagram, receive, send
from belljar.ipc.errors import PeerProtocolError

from ..helpers import open_fds

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The host's end, with credentials and pidfds asked for, and the other one."""
    ours, theirs = datagram.control_pair()
    request_credentials(ours)
    request_pidfds(ours, True)
    with ours, theirs:
        yield ours, theirs


def get(sock: socket.socket) -> Datagram:
    received = receive(sock)
    assert received is not None
    return received


@given(data=st.binary(min_size=0, max_size=2000) | st.just(b"x" * MAX_DATAGRAM))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_datagram_arrives_whole(pair: Pair, data: bytes) -> None:
    """One send is one receive, byte for byte, up to the limit and also when empty."""
    send(pair[1], data)
    received = get(pair[0])
    assert bytes(received.data) == data
    received.close()


def test_the_kernel_names_the_sender(pair: Pair) -> None:
    """A datagram carries one credential and one pidfd, both of the process that sent it."""
    send(pair[1], b"data")
    received = get(pair[0])
    assert received.credentials == [Credentials(os.getpid(), os.getuid(), os.getgid())]
    assert received.pidfd is not None
    assert pidfds.pids_of(received.pidfd).outer_pid == os.getpid()
    received.close()


def test_a_fork_that_sends_is_named_itself(pair: Pair) -> None:
    """The sender is the process that sent, not the one that made the socket."""
    pid = os.fork()
    if pid == 0:
        send(pair[1], b"data")
        os._exit(0)
    received = get(pair[0])
    os.waitpid(pid, 0)
    assert [credentials.sender_pid for credentials in received.credentials] == [pid]
    received.close()


def test_pidfds_stop_when_no_longer_wanted(pair: Pair) -> None:
    """With SO_PASSPIDFD off again, credentials still come and no pidfd does."""
    assert request_pidfds(pair[0], False)
    send(pair[1], b"data")
    received = get(pair[0])
    assert received.pidfd is None
    assert len(received.credentials) == 1


def test_a_kernel_without_pidfds_is_told(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SO_PASSPIDFD is missing, the request says so instead of failing."""
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", "landlock,passpidfd")
    assert not request_pidfds(pair[0], True)


def test_end_of_file_is_none(pair: Pair) -> None:
    """When the other end is closed, what was sent before arrives first, then None, for ever."""
    send(pair[1], b"data")
    pair[1].close()
    get(pair[0]).close()
    assert receive(pair[0]) is None
    assert receive(pair[0]) is None


def test_an_empty_datagram_is_not_the_end(pair: Pair) -> None:
    """An empty message of a hostile child is a message, not end of file."""
    send(pair[1], b"")
    received = get(pair[0])
    assert bytes(received.data) == b""
    received.close()


def test_an_oversized_datagram_is_an_error_without_leak(pair: Pair) -> None:
    """Data that was cut raises PeerProtocolError, and the fds that came with it are closed."""
    before = open_fds()
    send(pair[1], b"x" * (MAX_DATAGRAM + 1), [0, 1])
    with pytest.raises(PeerProtocolError, match="more bytes than the channel allows"):
        receive(pair[0])
    assert open_fds() == before


@pytest.mark.parametrize("count", [MAX_FDS + 1, 10, 11, 64, 250, 253])
@pytest.mark.parametrize("with_pidfds", [True, False])
def test_a_stuffed_datagram_leaves_no_fd(pair: Pair, count: int, with_pidfds: bool) -> None:
    """However many fds a message brings, either all of them are handed on or none stays open."""
    request_pidfds(pair[0], with_pidfds)
    before = open_fds()
    send(pair[1], b"data", [0] * count)
    try:
        received = get(pair[0])
    except PeerProtocolError:
        assert count > MAX_FDS
    else:
        assert len(received.fds) == count
        received.close()
    assert open_fds() == before


@pytest.mark.parametrize("count", range(MAX_FDS + 1))
def test_allowed_fds_arrive_beside_credentials(pair: Pair, count: int) -> None:
    """Up to MAX_FDS fds arrive together with credentials and pidfd, close-on-exec."""
    send(pair[1], b"data", [0] * count)
    received = get(pair[0])
    assert len(received.fds) == count
    assert received.pidfd is not None
    assert not any(os.get_inheritable(fd) for fd in received.fds)
    received.close()


def test_take_fd_hands_over_exactly_one(pair: Pair) -> None:
    """take_fd gives the only fd to the caller; closing the datagram afterwards leaves it open."""
    send(pair[1], b"data", [0])
    received = get(pair[0])
    fd = received.take_fd()
    received.close()
    os.close(fd)


@pytest.mark.parametrize("count", [0, 2])
def test_take_fd_of_another_number_is_an_error_without_leak(pair: Pair, count: int) -> None:
    """take_fd raises PeerProtocolError unless there is exactly one fd, and closes all."""
    before = open_fds()
    send(pair[1], b"data", [0] * count)
    with pytest.raises(PeerProtocolError, match=f"came with {count}"):
        get(pair[0]).take_fd()
    assert open_fds() == before


def test_surplus_fds_are_an_error_without_leak(pair: Pair) -> None:
    """A message that should carry no fd raises PeerProtocolError if it does, and closes them."""
    before = open_fds()
    send(pair[1], b"data", [0, 1, 2])
    with pytest.raises(PeerProtocolError, match="3 surplus fds"):
        get(pair[0]).expect_no_fd()
    assert open_fds() == before


def test_the_buffer_is_the_callers(pair: Pair) -> None:
    """With a buffer of the caller's, the data is a view of it."""
    buffer = bytearray(MAX_DATAGRAM)
    send(pair[1], b"data")
    received = receive(pair[0], buffer)
    assert received is not None
    assert received.data == b"data"
    assert bytes(buffer[:4]) == b"data"
    received.close()
