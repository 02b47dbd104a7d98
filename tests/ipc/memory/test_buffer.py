"""Buffers: read-only, released once, and harmless to what was made of them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from belljar.ipc.memory.allocate import PAGE
from belljar.ipc.memory.arena import Arena
from belljar.ipc.memory.buffer import Buffer, SharedBuffer
from belljar.ipc.memory.outstanding import Outstanding


@pytest.fixture
def pair() -> Iterator[tuple[Arena, Arena]]:
    """The writing and the reading end of an arena."""
    host = Arena.create(16 * PAGE, written_by="host", generation=7)
    child = Arena.attach(host.take_fd(), host.size, writable=False, generation=7)
    yield host, child
    host.close()
    child.close()


def test_a_buffer_reads_as_its_bytes() -> None:
    """Its length, its view and bytes() are those of what was received; nobody can write through it."""
    buffer = Buffer(memoryview(bytearray(b"received")))
    assert (len(buffer), bytes(buffer), bytes(buffer.view)) == (8, b"received", b"received")
    with pytest.raises(TypeError):
        buffer.view[0] = 0
    assert repr(buffer) == "<Buffer: 8 bytes>"
    assert bytes(Buffer(b"made")) == bytes(Buffer(bytearray(b"made"))) == b"made"


def test_a_released_buffer_says_so() -> None:
    """After release, or the end of its block, each use raises one clear sentence; a second release does nothing."""
    told: list[int] = []
    with Buffer(memoryview(b"data"), lambda: told.append(1)) as buffer:
        pass
    buffer.release()
    assert told == [1]
    for use in (lambda: buffer.view, lambda: len(buffer), lambda: bytes(buffer)):
        with pytest.raises(ValueError, match=r"the Buffer was released; copy what is needed for longer"):
            use()
    assert repr(buffer) == "<Buffer: released>"


def test_a_buffer_is_released_with_its_last_reference() -> None:
    """Whoever forgets a buffer has released it, in a cycle too."""
    told: list[int] = []
    buffer = Buffer(memoryview(b"data"), lambda: told.append(1))
    del buffer
    assert told == [1]
    cycle: list[object] = [Buffer(memoryview(b"data"), lambda: told.append(2))]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert told == [1, 2]


def test_a_view_outlives_its_buffer() -> None:
    """What was made of a buffer stays as it was when the buffer is released."""
    buffer = Buffer(memoryview(b"data"))
    view = buffer.view
    buffer.release()
    assert bytes(view[1:]) == b"ata"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="PEP 688 is of Python 3.12")
def test_a_buffer_is_bytes_like() -> None:
    """Where Python can ask an object for its bytes, a buffer is as good as its view."""
    assert b"".join([memoryview(Buffer(memoryview(b"data"))), b"!"]) == b"data!"


def test_a_shared_buffer_shows_the_arena_itself(pair: tuple[Arena, Arena]) -> None:
    """It is read without a copy, so it changes with the arena; its release gives the piece back."""
    host, child = pair
    outstanding = Outstanding(child)
    found = host.reserve(5)
    assert found is not None
    piece, memory = found
    shared = SharedBuffer(outstanding.hold(piece), child, piece, partial(outstanding.drop, piece))
    memory[:] = b"first"
    assert bytes(shared) == b"first"
    memory[:] = b"other"
    assert bytes(shared) == b"other"
    assert shared.view.readonly
    assert shared.hand_over(host) is None
    shared.release()
    host.lend(piece)
    host.release(7, outstanding.collect())
    assert host.use.used == 0


def test_a_reserved_buffer_is_rendered_into_and_handed_over(pair: tuple[Arena, Arena]) -> None:
    """What is written to it is what the other side views; once handed over it is the caller's no more."""
    host, child = pair
    buffer = SharedBuffer.reserve(host, 4)
    assert buffer is not None
    buffer.view[:] = b"data"
    assert buffer.hand_over(child) is None
    piece = buffer.hand_over(host)
    assert piece is not None
    assert bytes(child.view(piece)) == b"data"
    with pytest.raises(ValueError, match="the SharedBuffer was released"):
        buffer.hand_over(host)
    del buffer
    host.free(piece)


def test_a_reserved_buffer_that_is_not_sent_is_freed(pair: tuple[Arena, Arena]) -> None:
    """A buffer that was reserved and forgotten takes no room from the next one."""
    host, _ = pair
    assert SharedBuffer.reserve(host, host.size) is not None
    buffer = SharedBuffer.reserve(host, host.size)
    assert buffer is not None
    assert SharedBuffer.reserve(host, 1) is None
