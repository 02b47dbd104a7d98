"""A child without event loop as its host sees it, frame by frame."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any, Protocol

import pytest

from belljar.child.dispatch import make_peer
from belljar.child.refused import RefusedImports
from belljar.child.services import Services
from belljar.ipc.channel.base import EndOfChannel
from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.datagram import Datagram, control_pair
from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.frames import Call, Cancel, Credit, Failed, Frame, Items, Reply, decode_from_child, encode
from belljar.ipc.interface import declared
from belljar.ipc.peer.records import Outgoing, answers_of

NO_ARGUMENTS, ONE = b"\x90", b"\x01"


class Numbers(Protocol):
    """What the host offers."""

    def numbers(self) -> Iterator[int]: ...


class Plugin(Protocol):
    """What the child offers."""

    def first(self) -> int: ...

    def add(self, first: int, second: int) -> int: ...

    def keep(self, items: Iterator[int]) -> None: ...

    def read_on(self) -> int: ...


class Reading:
    """A `Plugin`."""

    numbers: Any
    kept: Iterator[int] = iter(())

    def first(self) -> int:
        return int(next(self.numbers.numbers()))

    def add(self, first: int, second: int) -> int:
        return first + second

    def keep(self, items: Iterator[int]) -> None:
        self.kept = items

    def read_on(self) -> int:
        return next(self.kept)


@pytest.fixture
def child() -> Iterator[SocketChannel]:
    """The host's end of the channel to a child that answers in a thread."""
    ours, theirs = (SocketChannel(end) for end in control_pair())
    offered, plugin = Services(("Numbers",)), Reading()
    peer = make_peer(theirs, answers_of(Plugin, plugin), RefusedImports(), offered, 1 << 16)
    offered.peer, plugin.numbers = peer, offered.proxy(Numbers, 1)

    def serve() -> None:
        with suppress(EndOfChannel):
            peer.serve()

    thread = threading.Thread(target=serve)
    with closing(theirs):
        thread.start()
        with closing(ours):
            yield ours
        thread.join()


def hear(child: SocketChannel) -> Sequence[Frame]:
    """Return the next frames."""
    received = child.wait_receive(5)
    assert received is not None
    return decode_from_child(received.data)


@pytest.mark.parametrize("calls", [1, 2])
def test_a_stream_that_a_method_drops_is_over_before_its_answer(child: SocketChannel, calls: int) -> None:
    """Also where the child has the next call already, and so does not come to rest between the two."""
    child.send(encode([Call(number, 0, "first", NO_ARGUMENTS) for number in range(1, calls + 1)]))
    heard: list[Frame] = []
    while len(heard) < 3 * calls:
        frames = hear(child)
        heard += frames
        for frame in frames:
            if isinstance(frame, Call):
                child.send(encode([Items(frame.call_id, 0, (ONE,))]))
    for number in range(1, calls + 1):
        call, *rest = heard[3 * (number - 1) : 3 * number]
        assert isinstance(call, Call)
        assert rest == [Cancel(call.call_id), Reply(number, ONE)]


@pytest.mark.parametrize("calls", [1, 2])
def test_a_stream_where_none_is_taken(child: SocketChannel, calls: int) -> None:
    """A call that comes alone goes the short way, and is looked at as closely."""
    child.send(encode([Call(number, 0, "add", b"\x92\x01\x02", uploads=(1,)) for number in range(1, calls + 1)]))
    heard: list[Frame] = []
    while len(heard) < calls:
        heard += hear(child)
    text = "it takes no stream where the caller has one"
    assert heard == [Failed(number, "argument", "", text) for number in range(1, calls + 1)]


def test_an_upload_ends_with_its_call(child: SocketChannel) -> None:
    """Who has kept one reads no more of it later, instead of waiting for ever."""
    child.send(encode([Call(1, 0, "keep", b"\x91\xc0", uploads=(1,)), Call(2, 0, "read_on", NO_ARGUMENTS)]))
    heard: list[Frame] = []
    while len(heard) < 3:
        heard += hear(child)
    credit, reply, failed = heard
    assert isinstance(credit, Credit)
    assert reply == Reply(1, b"\xc0")
    assert isinstance(failed, Failed)
    assert (failed.error, failed.text) == ("StreamBroken", "the call is over")


class Told(dict[int, Outgoing]):
    """The calls that were given up. While one is put there, another thread takes the answer, if it can."""

    def __init__(self, other: Callable[[], None]) -> None:
        super().__init__()
        self.thread = threading.Thread(target=other)

    def __setitem__(self, number: int, call: Outgoing) -> None:
        self.thread.start()
        self.thread.join(0.2)
        super().__setitem__(number, call)


def test_an_answer_comes_while_its_call_is_given_up() -> None:
    """Whichever thread is first: the call is under way, or given up, and never neither."""
    ours, theirs = (SocketChannel(end) for end in control_pair())
    with closing(ours), closing(theirs):
        peer = make_peer(theirs, {}, RefusedImports(), Services(()), 1 << 16)
        peer._calls[1] = Outgoing(1, declared(Numbers)["numbers"], None, None)
        raised: list[BaseException] = []

        def take() -> None:
            try:
                peer.take(Datagram(encode([Reply(1, b"\xc0")]), [], (), None))
            except PeerProtocolError as error:
                raised.append(error)

        peer._given_up = told = Told(take)
        peer._give_up(peer._calls[1])
        told.thread.join()
        assert not raised
        assert not peer._given_up


def test_another_thread_gives_up_what_was_abandoned() -> None:
    """Two threads may find the same streams that nobody holds any more; each is given up once."""

    class Taken(deque[Outgoing]):
        def __bool__(self) -> bool:
            return True

    ours, theirs = (SocketChannel(end) for end in control_pair())
    with closing(ours), closing(theirs):
        peer = make_peer(theirs, {}, RefusedImports(), Services(()), 1 << 16)
        peer._abandoned = Taken()
        peer._give_up_abandoned()
