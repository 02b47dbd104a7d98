"""A child without event loop as its host sees it, frame by frame."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any, Protocol

import pytest

from belljar.child.dispatch import make_peer
from belljar.child.refused import RefusedImports
from belljar.child.services import Services
from belljar.ipc.channel.base import EndOfChannel
from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.datagram import control_pair
from belljar.ipc.frames import Call, Cancel, Frame, Items, Reply, decode_from_child, encode
from belljar.ipc.peer.records import answers_of

NO_ARGUMENTS, ONE = b"\x90", b"\x01"


class Numbers(Protocol):
    """What the host offers."""

    def numbers(self) -> Iterator[int]: ...


class Plugin(Protocol):
    """What the child offers."""

    def first(self) -> int: ...


class Reading:
    """A `Plugin`."""

    numbers: Any

    def first(self) -> int:
        return int(next(self.numbers.numbers()))


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


@pytest.mark.parametrize("calls", [1, 2])
def test_a_stream_that_a_method_drops_is_over_before_its_answer(child: SocketChannel, calls: int) -> None:
    """Also where the child has the next call already, and so does not come to rest between the two."""
    child.send(encode([Call(number, 0, "first", NO_ARGUMENTS) for number in range(1, calls + 1)]))
    heard: list[Frame] = []
    while len(heard) < 3 * calls:
        received = child.wait_receive(5)
        assert received is not None
        frames = decode_from_child(received.data)
        heard += frames
        for frame in frames:
            if isinstance(frame, Call):
                child.send(encode([Items(frame.call_id, 0, (ONE,))]))
    for number in range(1, calls + 1):
        call, *rest = heard[3 * (number - 1) : 3 * number]
        assert isinstance(call, Call)
        assert rest == [Cancel(call.call_id), Reply(number, ONE)]
