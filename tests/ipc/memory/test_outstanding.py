"""Outstanding pieces: no two overlap, and none is given back while anything looks at it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from belljar.ipc.errors import LocalProtocolError, PeerProtocolError
from belljar.ipc.frames import Piece
from belljar.ipc.memory.allocate import PAGE
from belljar.ipc.memory.arena import Arena
from belljar.ipc.memory.outstanding import Outstanding

SIZE = 16 * PAGE


@pytest.fixture
def arena() -> Iterator[Arena]:
    arena = Arena.create(SIZE, written_by="child", generation=7)
    yield arena
    arena.close()


def piece(offset: int, length: int = 64) -> Piece:
    return Piece(7, offset, length)


@pytest.mark.parametrize(
    "other", [piece(128), piece(64, 65), piece(192), piece(128, 32), piece(64, 256), piece(0, SIZE)]
)
def test_a_piece_that_overlaps_a_held_one_is_refused(arena: Arena, other: Piece) -> None:
    """The child cannot name memory again that the host still looks at; what only touches it is fine."""
    outstanding = Outstanding(arena)
    outstanding.hold(piece(128, 128))
    outstanding.hold(piece(64))
    outstanding.hold(piece(256))
    with pytest.raises(PeerProtocolError, match="overlaps"):
        outstanding.hold(other)
    assert len(outstanding) == 3


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 600), st.booleans()), max_size=40))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_held_agrees_with_a_model(arena: Arena, steps: list[tuple[int, int, bool]]) -> None:
    """Whatever is held and dropped, a hold is refused if, and only if, a byte of it is held already."""
    outstanding = Outstanding(arena)
    held: dict[Piece, set[int]] = {}
    for block, length, keep in steps:
        wanted = piece(block * 64, length)
        taken = set(range(wanted.offset, wanted.offset + length))
        if any(taken & other for other in held.values()):
            with pytest.raises(PeerProtocolError):
                outstanding.hold(wanted)
        else:
            outstanding.hold(wanted)
            held[wanted] = taken
        if held and not keep:
            gone = min(held, key=lambda piece: piece.length)
            outstanding.drop(gone)
            assert outstanding.collect() == [gone.offset]
            del held[gone]
    assert len(outstanding) == len(held)


def test_a_piece_outside_of_the_arena_is_not_held(arena: Arena) -> None:
    """What cannot be a piece is refused before anything is noted."""
    outstanding = Outstanding(arena)
    with pytest.raises(PeerProtocolError):
        outstanding.hold(piece(SIZE))
    assert len(outstanding) == 0


def test_a_dropped_piece_is_collected_once(arena: Arena) -> None:
    """A piece goes back to its owner one time; to drop it twice is our own mistake."""
    outstanding = Outstanding(arena)
    outstanding.hold(piece(0))
    outstanding.hold(piece(64))
    assert outstanding.collect() == []
    outstanding.drop(piece(64))
    with pytest.raises(LocalProtocolError, match="nothing is held at 64"):
        outstanding.drop(piece(64))
    assert outstanding.collect() == [64]
    assert outstanding.collect() == []


def test_what_is_looked_at_is_not_collected(arena: Arena) -> None:
    """A slice that its user has kept holds back what was dropped, and what it shows, until it is gone too."""
    outstanding = Outstanding(arena)
    view = outstanding.hold(piece(0))
    outstanding.hold(piece(64))
    kept = view[8:16]
    view.release()
    outstanding.drop(piece(0))
    outstanding.drop(piece(64))
    assert (outstanding.lingering, outstanding.collect()) == (1, [])
    with pytest.raises(PeerProtocolError, match="overlaps"):
        outstanding.hold(piece(0))
    del kept
    assert (outstanding.lingering, outstanding.collect()) == (0, [0, 64])


def test_a_numpy_array_counts_as_a_look(arena: Arena) -> None:
    """An array over a piece holds it back, and so does an array made of that array."""
    numpy = pytest.importorskip("numpy")
    outstanding = Outstanding(arena)
    array = numpy.frombuffer(outstanding.hold(piece(0)), dtype="u4")[2:].reshape(2, -1)
    outstanding.drop(piece(0))
    assert outstanding.collect() == []
    assert array.sum() == 0
    del array
    gc.collect()
    assert outstanding.collect() == [0]
