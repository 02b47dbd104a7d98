"""What every channel keeps, whichever way its datagrams travel."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from belljar.ipc import interrupts
from belljar.ipc.channel.base import Channel, EndOfChannel
from belljar.ipc.datagram import MAX_DATAGRAM, MAX_FDS
from belljar.ipc.errors import LocalProtocolError

from .pairs import PAIRS, SOON, Pair, await_readable, await_room, fill, no_fd_stays, take

BOTH_WAYS = pytest.mark.parametrize("way", [(0, 1), (1, 0)], ids=["to the child", "to the host"])
Way = tuple[int, int]


@pytest.fixture(params=list(PAIRS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pair(kind: str) -> Iterator[Pair]:
    with PAIRS[kind]() as pair:
        assert (pair.host.kind, pair.child.kind) == (kind, kind)
        first(pair)
        yield pair


def first(pair: Pair) -> None:
    """Have the host hear of the child, without which the host's end of zmq has no room."""
    pair.child.send(b"first")
    assert take(pair.host) == b"first"


@contextmanager
def running(*functions: Callable[[], object]) -> Iterator[None]:
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(SOON * 4)
        assert not thread.is_alive()


@BOTH_WAYS
def test_datagrams_of_all_sizes_keep_their_order(pair: Pair, way: Way) -> None:
    """What is sent arrives whole, in the order in which it was sent."""
    sender, receiver = pair[way[0]], pair[way[1]]
    sent = [bytes([size % 251]) * size for size in (1, 2, 255, 256, 8192, 65_535, MAX_DATAGRAM)]
    for data in sent:
        assert sender.send(data)
    assert [take(receiver) for _ in sent] == sent


def test_what_cannot_be_a_datagram_is_refused(pair: Pair) -> None:
    """Nothing, too many bytes, and too many fds are errors of the sender, and the channel is as before."""
    for channel in pair:
        for data, fds in ((b"", ()), (bytes(MAX_DATAGRAM + 1), ()), (b"x", [0] * (MAX_FDS + 1))):
            with pytest.raises(LocalProtocolError):
                channel.send(data, fds)
    assert pair.child.send(b"x")
    assert take(pair.host) == b"x"


def test_fds_that_are_none_are_an_error_of_the_sender(pair: Pair) -> None:
    """A bad fd is an OSError, and the channel goes on with what comes next."""
    with no_fd_stays():
        with pytest.raises(OSError, match="Bad file descriptor"):
            pair.child.send(b"x", [0, 99_999])
        assert pair.child.send(b"y", [0])
        received = pair.host.wait_receive(SOON)
        assert received is not None
        assert (bytes(received.data), len(received.fds)) == (b"y", 1)
        received.close()


@BOTH_WAYS
def test_fds_arrive_with_their_datagram(pair: Pair, way: Way) -> None:
    """In order between others, as new fds of the same file, close-on-exec; the sender keeps its own."""
    sender, receiver = pair[way[0]], pair[way[1]]
    reader, writer = os.pipe()
    try:
        assert sender.send(b"before")
        assert sender.send(b"with", [writer])
        assert sender.send(b"after")
        assert take(receiver) == b"before"
        received = receiver.wait_receive(SOON)
        assert received is not None
        assert bytes(received.data) == b"with"
        copy = received.take_fd()
        assert not os.get_inheritable(copy)
        os.write(copy, b"through")
        os.close(copy)
        assert os.read(reader, 100) == b"through"
        os.write(writer, b"mine")
        assert take(receiver) == b"after"
    finally:
        os.close(reader)
        os.close(writer)


def test_closing_closes_all(kind: str) -> None:
    """Fds that are still on their way, both ways, are closed with the channel, and all else is too."""
    with PAIRS[kind]() as pair:  # what a process makes but once
        first(pair)
    with no_fd_stays(), PAIRS[kind]() as pair:
        first(pair)
        for _ in range(3):
            assert pair.host.send(b"x", [0] * MAX_FDS)
            assert pair.child.send(b"x", [0] * MAX_FDS)


@BOTH_WAYS
def test_a_full_channel_refuses_until_there_is_room(pair: Pair, way: Way) -> None:
    """A full channel holds a bounded number of datagrams, refuses more, and tells when there is room again."""
    sender, receiver = pair[way[0]], pair[way[1]]
    count = fill(sender, bytes(1000))
    assert 10 < count < 10_000
    assert not sender.send(b"more")
    for _ in range(count):
        assert len(take(receiver)) == 1000
    assert await_room(sender)
    while not sender.send(b"more"):
        assert await_room(sender)
    assert take(receiver) == b"more"


@BOTH_WAYS
def test_room_is_not_overlooked_for_news(pair: Pair, way: Way) -> None:
    """To receive in between does not swallow the sign that there is room again."""
    sender, receiver = pair[way[0]], pair[way[1]]
    for _ in range(fill(sender) // 2 * 2):
        take(receiver)
        sender.receive()
    while not sender.send(b"more"):
        assert await_room(sender)


@BOTH_WAYS
def test_news_is_not_overlooked_for_sending(pair: Pair, way: Way) -> None:
    """To send in between does not swallow the sign that there is something new."""
    one, other = pair[way[0]], pair[way[1]]
    for number in range(300):
        assert one.receive() is None
        assert other.send(b"news %d" % number)
        assert one.send(b"in between")
        assert await_readable(one)
        while (received := one.receive()) is None:
            assert await_readable(one)
        assert bytes(received.data) == b"news %d" % number
        assert take(other) == b"in between"


def test_an_idle_channel_wakes_nobody(pair: Pair) -> None:
    """Once all is read, there is no readiness until something comes."""
    for channel in pair:
        while await_readable(channel, 0.05):
            assert channel.receive() is None
        assert not await_readable(channel, 0.05)


@BOTH_WAYS
def test_waits_honour_their_time(pair: Pair, way: Way) -> None:
    """A wait ends without a result after its seconds, and not before; at once with one."""
    sender, receiver = pair[way[0]], pair[way[1]]
    began = time.monotonic()
    assert receiver.wait_receive(0.1) is None
    assert 0.1 <= time.monotonic() - began < SOON
    fill(sender)
    began = time.monotonic()
    assert not sender.wait_send(b"more", (), 0.1)
    assert 0.1 <= time.monotonic() - began < SOON
    assert not sender.wait_send(b"more", (), 0)
    assert take(receiver) == b"filling"


@BOTH_WAYS
def test_waits_end_with_what_they_wait_for(pair: Pair, way: Way) -> None:
    """Threads that wait for news, or for room, go on when the other end sends or receives."""
    sender, receiver = pair[way[0]], pair[way[1]]
    count = fill(sender)
    with running(lambda: sender.wait_send(b"last", (), None)):
        for _ in range(count):
            take(receiver)
    assert take(receiver) == b"last"
    with running(lambda: take(receiver)):
        assert sender.wait_send(b"x", (), SOON)


@BOTH_WAYS
def test_waits_may_be_longer_than_the_kernel_counts(pair: Pair, way: Way) -> None:
    """poll(2) has an int of milliseconds, so 24 days; a caller may say more."""
    sender, receiver = pair[way[0]], pair[way[1]]
    count = fill(sender)
    with running(lambda: sender.wait_send(b"last", (), 1e9)):
        for _ in range(count):
            assert receiver.wait_receive(1e9) is not None
    assert take(receiver) == b"last"


@pytest.mark.parametrize("kind", ["socket", "zmq"], indirect=True)
def test_a_wait_ends_by_a_ctrl_c_that_came_just_before(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held back in the middle of a message, it is raised by the wait that follows, and what comes later is not lost."""
    monkeypatch.setattr(interrupts, "came", True)
    with pytest.raises(KeyboardInterrupt):
        pair.host.wait_receive(SOON)
    pair.child.send(b"later")
    assert take(pair.host) == b"later"


def test_the_childs_last_words_arrive_before_the_end(pair: Pair) -> None:
    """What the child sent before it closed its end is read first, with its fds; then comes the end, for ever."""
    for number in range(50):
        assert pair.child.send(b"%d" % number, [0] if number % 10 == 0 else ())
    pair.child.close()
    for number in range(50):
        received = pair.host.wait_receive(SOON)
        assert received is not None
        assert (bytes(received.data), len(received.fds)) == (b"%d" % number, number % 10 == 0)
        received.close()
    for _ in range(2):
        assert await_readable(pair.host)
        with pytest.raises(EndOfChannel):
            pair.host.wait_receive(SOON)
        with pytest.raises(EndOfChannel):
            pair.host.receive()


@BOTH_WAYS
def test_the_end_is_seen(pair: Pair, way: Way) -> None:
    """An end that closed is the end for who waits for news of it, and for who sends."""
    closing_end, other = pair[way[0]], pair[way[1]]
    ended: list[Channel] = []

    def wait() -> None:
        with pytest.raises(EndOfChannel):
            other.wait_receive(None)
        ended.append(other)

    with running(wait):
        closing_end.close()
    assert ended == [other]
    for seconds in (0.0, None):
        with pytest.raises(EndOfChannel):
            other.wait_send(b"x", (), seconds)
    with pytest.raises(EndOfChannel):
        other.send(b"x")


@BOTH_WAYS
def test_who_waits_for_room_sees_the_end(pair: Pair, way: Way) -> None:
    """A thread that waits for room does not wait for who is gone."""
    sender, receiver = pair[way[0]], pair[way[1]]
    fill(sender)

    def wait() -> None:
        with pytest.raises(EndOfChannel):
            sender.wait_send(b"x", (), None)

    with running(wait):
        receiver.close()


def echo(channel: Channel, count: int) -> None:
    """Send back *count* datagrams, in the manner of an event loop: neither way waits for the other."""
    waiting: list[bytes] = []
    while count or waiting:
        received = channel.receive() if count else None
        if received is not None:
            waiting.append(bytes(received.data))
            count -= 1
        if waiting and channel.send(waiting[0]):
            del waiting[0]
        elif received is None and not (waiting and await_room(channel, 0.02)):
            await_readable(channel, 0.02)


def test_nothing_is_lost_while_both_ends_are_busy(pair: Pair) -> None:
    """Every datagram comes once and in order while both ends send and receive at the same time."""
    count = 50_000
    with running(lambda: echo(pair.child, count)):
        sent = 0
        for number in range(count):
            while sent < count and pair.host.send(b"%d" % sent * (1 + sent % 40)):
                sent += 1
            assert take(pair.host) == b"%d" % number * (1 + number % 40)


def test_two_threads_share_an_end(pair: Pair) -> None:
    """One sends and one receives, each waiting for its part, while the other end does the same."""
    count = 5_000

    def send() -> None:
        for number in range(count):
            assert pair.host.wait_send(b"%d" % number, (), SOON)

    def receive() -> None:
        for number in range(count):
            assert take(pair.host) == b"%d" % number

    with running(send, receive):
        for _ in range(count):
            assert pair.child.wait_send(take(pair.child), (), SOON)


def test_closed_ends_may_be_closed_again(kind: str) -> None:
    """Closing is idempotent."""
    with PAIRS[kind]() as pair:
        for channel in pair:
            with closing(channel):
                channel.close()
