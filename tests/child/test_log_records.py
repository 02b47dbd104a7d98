"""To log in a child never waits and never fails, whatever is logged and whoever does not listen."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from belljar.child.dispatch import make_peer
from belljar.child.log_records import MAX_KEPT, LogRecords
from belljar.child.refused import RefusedImports
from belljar.child.services import Services
from belljar.ipc.channel.base import Channel
from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.datagram import control_pair
from belljar.ipc.frames import Frame, Log, decode_from_child
from belljar.ipc.peer.blocking import BlockingPeer


@pytest.fixture
def ends() -> Iterator[tuple[SocketChannel, SocketChannel]]:
    """The channel's end at the host, and at the child."""
    ours, theirs = (SocketChannel(end) for end in control_pair())
    yield ours, theirs
    ours.close()
    theirs.close()


def child(channel: Channel) -> tuple[logging.Logger, LogRecords, BlockingPeer]:
    """Return a logger of a child, its handler, and the peer that it will have."""
    refused = RefusedImports()
    records, logger = LogRecords(refused), logging.Logger("child")
    logger.addHandler(records)
    return logger, records, make_peer(channel, {}, refused, Services(()), 1 << 16)


def received(channel: Channel) -> list[Frame]:
    """Return all frames that have come."""
    found: list[Frame] = []
    while (datagram := channel.receive()) is not None:
        found += decode_from_child(datagram.data)
    return found


def test_a_host_that_does_not_read_blocks_nobody(ends: tuple[SocketChannel, SocketChannel]) -> None:
    """What finds no room is kept so far and comes later, in order; what is more than that is counted."""
    logger, records, peer = child(ends[1])
    logger.warning("0")
    records.flow(peer)
    for number in range(1, MAX_KEPT + 1000):
        logger.warning("%d", number)
    came = received(ends[0])
    thread = threading.Thread(target=partial(records.drain, wait=True))
    thread.start()
    while thread.is_alive():
        came += received(ends[0])
    *frames, last = [frame for frame in came + received(ends[0]) if isinstance(frame, Log)]
    assert MAX_KEPT <= len(frames) < MAX_KEPT + 1000
    assert [frame.text for frame in frames] == [str(number) for number in range(len(frames))]
    assert (last.level, last.dropped) == (0, MAX_KEPT + 1000 - len(frames))


class Talkative:
    """Logs while its text is made."""

    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger

    def __str__(self) -> str:
        self.logger.warning("inner %s", self)
        return "outer"


class Broken:
    """Has no text."""

    def __str__(self) -> str:
        raise ValueError


def test_foreign_objects_cannot_break_it(ends: tuple[SocketChannel, SocketChannel]) -> None:
    """An object that logs itself, one without text, wrong arguments, surrogates, numbers out of range."""
    logger, records, peer = child(ends[1])
    records.flow(peer)
    logger.warning(Talkative(logger))
    logger.warning("%s", Broken())
    logger.warning("%d", "x")
    logger.log(10**9, "\ud800")
    records.handle(logging.makeLogRecord({"levelno": "high", "created": None}))
    frames = [frame for frame in received(ends[0]) if isinstance(frame, Log)]
    assert [(frame.text, frame.level) for frame in frames] == [("outer", 30), ("\\ud800", 100)]
    assert [frame.dropped for frame in frames] == [1, 2]


def test_a_closed_channel_is_no_error(ends: tuple[SocketChannel, SocketChannel]) -> None:
    """A thread that logs after the end, and one whose host is gone, go on."""
    logger, records, peer = child(ends[1])
    records.flow(peer)
    ends[0].close()
    logger.warning("nobody")
    ends[1].close()
    logger.warning("nothing")
