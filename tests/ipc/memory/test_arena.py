"""Arenas: what one side puts is what the other side views, and whatever is no piece is refused."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.ipc.errors import LocalProtocolError, PeerProtocolError
from belljar.ipc.frames import Piece
from belljar.ipc.memory.allocate import PAGE
from belljar.ipc.memory.arena import Arena, Side

from ...helpers import open_fds

SIZE = 256 * PAGE
SIDES: list[Side] = ["host", "child"]
both_ways = pytest.mark.parametrize("written_by", SIDES)


@contextmanager
def arenas(written_by: Side, size: int = SIZE) -> Iterator[tuple[Arena, Arena]]:
    """Yield the writing and the reading end of a new arena, as host and child have them."""
    host = Arena.create(size, written_by=written_by, generation=7)
    child = Arena.attach(host.take_fd(), size, writable=written_by == "child", generation=7)
    try:
        yield (host, child) if written_by == "host" else (child, host)
    finally:
        host.close()
        child.close()


@both_ways
def test_what_was_put_is_what_the_reader_views(written_by: Side) -> None:
    """Each piece reads as the bytes that were put into it, read-only, until it is released."""
    with arenas(written_by) as (writer, reader):
        payloads = [os.urandom(length) for length in (1, 63, 4096, 100_000)]
        pieces = [writer.put(payload) for payload in payloads]
        for piece, payload in zip(pieces, payloads, strict=True):
            assert piece is not None
            assert reader.view(piece) == payload
            assert reader.view(piece).readonly
            writer.free(piece)
        assert writer.use.used == 0


@both_ways
def test_a_piece_can_be_filled_by_and_by(written_by: Side) -> None:
    """`begin` and `fill` put the same as `put`, a part at a time."""
    data = memoryview(os.urandom(100_000))
    with arenas(written_by) as (writer, reader):
        piece = writer.begin(len(data))
        assert piece is not None
        for start in range(0, len(data), 30_000):
            writer.fill(piece, data, start, min(start + 30_000, len(data)))
        assert reader.view(piece) == data
        with pytest.raises(ValueError, match="not within"):
            writer.fill(piece, data, 0, len(data) + 1)


@both_ways
def test_a_reserved_piece_is_written_in_place(written_by: Side) -> None:
    """What is written to a reserved view is there for the reader, without a copy."""
    with arenas(written_by) as (writer, reader):
        found = writer.reserve(5)
        assert found is not None
        found[1][:] = b"hello"
        assert bytes(reader.view(found[0])) == b"hello"


def test_items_of_any_format_are_put_as_bytes() -> None:
    """A contiguous buffer of any shape is put; one with gaps is refused, and no piece is lost."""
    with arenas("host") as (writer, reader):
        piece = writer.put(memoryview(b"12345678" * 4).cast("d", (2, 2)))
        assert piece is not None
        assert bytes(reader.view(piece)) == b"12345678" * 4
        used = writer.use.used
        with pytest.raises(TypeError):
            writer.put(memoryview(b"12345678")[::2])
        assert writer.use.used == used


def test_a_full_arena_says_none_and_counts_it() -> None:
    """Without room there is no piece; once one is freed there is; both can be seen in the numbers."""
    with arenas("host") as (writer, _):
        piece = writer.begin(SIZE)
        assert piece is not None
        assert writer.put(b"x") is None
        assert writer.reserve(1) is None
        assert writer.use == (SIZE, SIZE, SIZE, SIZE, 1, 2)
        writer.free(piece)
        assert writer.put(b"x") == Piece(7, 0, 1)
        assert writer.use.peak == SIZE


PIECES = {
    "of another generation": Piece(8, 0, 1),
    "behind the end": Piece(7, SIZE, 1),
    "over the end": Piece(7, SIZE - 64, 65),
    "far over the end": Piece(7, 0, 2**53),
    "of a far offset": Piece(7, 2**53, 1),
    "of a negative offset": Piece(7, -64, 65),
    "empty": Piece(7, 0, 0),
    "not aligned": Piece(7, 1, 1),
}


@both_ways
@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_what_cannot_be_a_piece_is_refused(written_by: Side, piece: Piece) -> None:
    """A piece that is not wholly within this very arena raises PeerProtocolError."""
    with arenas(written_by) as (_, reader), pytest.raises(PeerProtocolError, match="arena"):
        reader.view(piece)


@pytest.fixture(scope="module")
def long_lived() -> Iterator[Arena]:
    """The reading end of one arena for all examples of a property."""
    with arenas("child") as (_, reader):
        yield reader


@given(st.integers(-1, SIZE + 1), st.integers(-1, SIZE + 1))
@settings(deadline=None, max_examples=300)
def test_a_view_never_leaves_the_arena(long_lived: Arena, offset: int, length: int) -> None:
    """Whatever a peer says, the view has just the bytes that were named, or there is none."""
    with suppress(PeerProtocolError):
        assert len(long_lived.view(Piece(7, offset, length))) == length > 0
        assert 0 <= offset <= offset + length <= SIZE
        assert offset % 64 == 0


def test_what_is_not_lent_cannot_be_released() -> None:
    """A peer that releases what it was not lent, or twice, or of another arena, breaks the protocol."""
    with arenas("host") as (writer, _):
        kept, lent = writer.put(b"argument"), writer.put(b"result")
        assert kept is not None
        assert lent is not None
        writer.lend(lent)
        with pytest.raises(PeerProtocolError, match="of arena 8"):
            writer.release(8, [lent.offset])
        writer.release(7, [lent.offset])
        for offset in (lent.offset, kept.offset, 2**53, -1):
            with pytest.raises(PeerProtocolError, match="none is lent"):
                writer.release(7, [offset])
        writer.free(kept)
        assert writer.use.used == 0


def test_what_was_freed_is_lent_no_more() -> None:
    """A piece that this side took back cannot be released, nor can what lies there by then."""
    with arenas("host") as (writer, _):
        piece = writer.put(b"result")
        assert piece is not None
        writer.lend(piece)
        writer.free(piece)
        assert writer.put(b"another") == Piece(7, piece.offset, 7)
        with pytest.raises(PeerProtocolError, match="none is lent"):
            writer.release(7, [piece.offset])


def test_a_double_free_is_our_own() -> None:
    """This side's own second free of a piece is its own mistake and says so."""
    with arenas("host") as (writer, _):
        piece = writer.put(b"data")
        assert piece is not None
        writer.free(piece)
        with pytest.raises(LocalProtocolError, match="could not free"):
            writer.free(piece)


@both_ways
def test_the_reading_side_allocates_nothing(written_by: Side) -> None:
    """A side that only reads an arena can put nothing into it, nor free what is there."""
    with arenas(written_by) as (_, reader):
        for change in (lambda: reader.put(b"x"), lambda: reader.free(Piece(7, 0, 1)), reader.shrink):
            with pytest.raises(LocalProtocolError, match="only reads"):
                change()


def allocated(fd: int) -> int:
    """Return how many bytes of a file have memory."""
    return os.fstat(fd).st_blocks * 512


def test_a_child_written_arena_gives_memory_back() -> None:
    """After shrink only what is in use has memory; it reads as before, and the rest can be used again."""
    host = Arena.create(SIZE, written_by="child", generation=7)
    child = Arena.attach(os.dup(host.fd), SIZE, writable=True, generation=7)
    pieces = [child.put(bytes([number]) * 20 * PAGE) for number in range(6)]
    assert allocated(host.fd) == 120 * PAGE
    for piece in (pieces[0], pieces[2], pieces[3], pieces[5]):
        assert piece is not None
        child.free(piece)
    assert child.shrink() == 80 * PAGE
    assert allocated(host.fd) == 40 * PAGE
    assert child.use.touched == 100 * PAGE
    for number in (1, 4):
        piece = pieces[number]
        assert piece is not None
        assert host.view(piece) == bytes([number]) * 20 * PAGE
    assert child.put(b"again") is not None
    host.close()
    child.close()


@given(st.lists(st.tuples(st.integers(1, 3 * PAGE), st.booleans()), max_size=30))
@settings(deadline=None, max_examples=50)
def test_shrinking_touches_nothing_that_is_in_use(pieces: list[tuple[int, bool]]) -> None:
    """Pieces that share a page with what is free keep each byte, wherever they lie in it."""
    with arenas("child") as (writer, reader):
        placed = [(writer.put(b"x" * length), keep) for length, keep in pieces]
        for piece, keep in placed:
            if piece is not None and not keep:
                writer.free(piece)
        writer.shrink()
        for piece, keep in placed:
            if piece is not None and keep:
                assert reader.view(piece) == b"x" * piece.length


def test_a_host_written_arena_gives_none_back() -> None:
    """The seal that keeps the child from writing forbids holes too: shrink says 0, so the arena must be replaced."""
    host = Arena.create(SIZE, written_by="host", generation=7)
    piece = host.put(bytes(SIZE))
    assert piece is not None
    host.free(piece)
    assert host.shrink() == 0
    assert allocated(host.fd) == SIZE
    host.close()


def test_an_arena_of_another_size_is_refused_and_closed() -> None:
    """A child does not map a file that is not as large as was said; no fd stays open."""
    before = open_fds()
    host = Arena.create(SIZE, written_by="host", generation=7)
    with pytest.raises(PeerProtocolError, match="was said to have"):
        Arena.attach(host.take_fd(), SIZE + PAGE, writable=False, generation=7)
    host.close()
    assert open_fds() == before


def test_close_leaves_nothing() -> None:
    """After close no fd and no mapping is left, and a use of it is an error; a second close is none."""
    fds, maps = open_fds(), mapped()
    with arenas("host") as (writer, reader):
        assert mapped() == maps + 2
    assert (open_fds(), mapped()) == (fds, maps)
    writer.close()
    with pytest.raises(ValueError, match="released"):
        reader.view(Piece(7, 0, 1))
    with pytest.raises(LocalProtocolError, match="no fd"):
        _ = writer.fd


def test_a_view_outlives_its_arena() -> None:
    """Closing an arena that is still looked at invalidates no view: the memory goes with the last one."""
    maps = mapped()
    with arenas("child") as (writer, reader):
        piece = writer.put(b"data")
        assert piece is not None
        view = reader.view(piece)
    assert bytes(view) == b"data"
    assert mapped() == maps + 1
    del view
    assert mapped() == maps


def mapped() -> int:
    """Return how many arenas this process has mapped."""
    with open("/proc/self/maps") as maps:
        return maps.read().count("belljar-arena")


def test_sizes_are_rounded_up_to_pages() -> None:
    """An arena has whole pages, and says how many bytes that is."""
    arena = Arena.create(1, written_by="host", generation=0)
    assert arena.size == mmap.PAGESIZE
    arena.close()
