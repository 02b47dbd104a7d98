"""Both ends of a channel of each kind, in one process, for the tests of this folder."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple

from belljar.ipc import datagram
from belljar.ipc.channel.base import Channel
from belljar.ipc.channel.in_memory import memory_pair
from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.channel.zmq_ends import Meeting, connect
from belljar.ipc.credentials import Credentials, request_credentials

from ...helpers import open_fds

SOON = 5.0
"""Seconds within which what must come comes, on a busy machine too."""


class Pair(NamedTuple):
    """The host's end and the child's."""

    host: Channel
    child: Channel


def myself() -> Credentials:
    """Return who this process is to the kernel."""
    return Credentials(os.getpid(), os.geteuid(), os.getegid())


@contextmanager
def socket_pair() -> Iterator[Pair]:
    ours, theirs = datagram.control_pair()
    request_credentials(ours)
    with closing(SocketChannel(ours, myself())) as host, closing(SocketChannel(theirs)) as child:
        yield Pair(host, child)


@contextmanager
def zmq_pair() -> Iterator[Pair]:
    ours, theirs = datagram.control_pair()
    request_credentials(ours)
    with closing(Meeting()) as meeting:
        meeting.open(myself())
        with closing(connect(meeting.endpoint, theirs, SOON)) as child, closing(meeting.end(ours)) as host:
            yield Pair(host, child)


@contextmanager
def pair_in_memory() -> Iterator[Pair]:
    ours, theirs = memory_pair()
    with closing(ours) as host, closing(theirs) as child:
        yield Pair(host, child)


PAIRS = {"socket": socket_pair, "zmq": zmq_pair, "memory": pair_in_memory}


def await_readable(channel: Channel, seconds: float = SOON) -> bool:
    """Wait, as an event loop does, until *channel* may have news; False if it has none."""
    return _await(channel.fileno(), select.POLLIN, seconds)


def await_room(channel: Channel, seconds: float = SOON) -> bool:
    """Wait, as an event loop does, until *channel* may have room; False if it has none."""
    if channel.writable_fd is None:
        return await_readable(channel, seconds)
    return _await(channel.writable_fd, select.POLLOUT, seconds)


def _await(fd: int, events: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, events)
    return bool(poll.poll(seconds * 1000))


def take(channel: Channel) -> bytes:
    """Wait for the next datagram, which comes without fds, and return its data."""
    received = channel.wait_receive(SOON)
    assert received is not None
    received.expect_no_fd()
    return bytes(received.data)


def fill(channel: Channel, data: bytes = b"filling") -> int:
    """Send *data* until there is no room, for what lies between the ends too; return how often."""
    count = 0
    while _is_sent(channel, data):
        count += 1
    return count


def _is_sent(channel: Channel, data: bytes) -> bool:
    """Send *data*; False if there is no room, and none comes for a tenth of a second: libzmq's thread may move some."""
    return channel.wait_send(data, (), 0.1)


@contextmanager
def no_fd_stays() -> Iterator[None]:
    """Fail if the block leaves an fd open. libzmq's threads close theirs, and those of earlier tests, in their time."""
    before = open_fds().items()
    yield
    deadline = time.monotonic() + SOON
    while (more := open_fds().items() - before) and time.monotonic() < deadline:
        os.sched_yield()
    assert not more


def until(found: Callable[[], object]) -> None:
    """Call *found* until it is true. For what no fd tells of; a test that hangs here fails by its timeout."""
    while not found():
        os.sched_yield()
