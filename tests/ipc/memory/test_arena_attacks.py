"""What a hostile child does to an arena: it changes nothing that it may not, and takes nothing from under the host."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from belljar.ipc.frames import Piece
from belljar.ipc.memory.allocate import PAGE
from belljar.ipc.memory.arena import SEALS, Arena, Side
from belljar.ipc.memory.buffer import SharedBuffer
from belljar.ipc.memory.outstanding import Outstanding
from belljar.ipc.memory.recycle import Recycler
from belljar.ipc.payload import new_memfd

from ...children.memory_abuser.kernel import EVIL, WRITABLE, libc, map_writable, protect, reopen, require
from ...helpers import open_fds
from .forked import REFUSED, child_that, end_of

SIZE = 256 * PAGE
ALL = Piece(7, 0, SIZE)
GOOD = b"good"
F_SEAL_EXEC = 0x20  # Linux 6.3
PUNCH_HOLE = 0x1 | 0x2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE


def send_file(fd: int) -> None:
    with tempfile.TemporaryFile() as source:
        source.write(EVIL)
        source.flush()
        os.sendfile(fd, source.fileno(), 0, 4)


WRITES: dict[str, Callable[[int], object]] = {
    "map it writable": lambda fd: map_writable(fd, SIZE),
    "open it anew and map that writable": lambda fd: map_writable(reopen(fd), SIZE),
    "make its read-only mapping writable": lambda fd: protect(fd, SIZE),
    "make the read-only mapping of a file opened anew writable": lambda fd: protect(reopen(fd), SIZE),
    "write to the fd": lambda fd: os.pwrite(fd, EVIL, 0),
    "open it anew and write to that": lambda fd: os.pwrite(reopen(fd), EVIL, 0),
    "send a file into it": send_file,
    "punch a hole into it": lambda fd: require(libc.fallocate(fd, PUNCH_HOLE, 0, SIZE)),
    "remove its memory through a mapping": lambda fd: mmap.mmap(fd, SIZE, mmap.MAP_SHARED, mmap.PROT_READ).madvise(
        mmap.MADV_REMOVE
    ),
}

CUTS: dict[str, Callable[[int], object]] = {
    "empty it": lambda fd: os.ftruncate(fd, 0),
    "cut it to a page": lambda fd: os.ftruncate(fd, PAGE),
    "open it anew and empty that": lambda fd: os.ftruncate(reopen(fd), 0),
    "empty it by opening it": lambda fd: os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_TRUNC),
    "make it grow": lambda fd: os.ftruncate(fd, 2 * SIZE),
}


def make(written_by: Side) -> Arena:
    """Return the host's end of an arena that begins with `GOOD`."""
    arena = Arena.create(SIZE, written_by=written_by, generation=7)
    if written_by == "host":
        arena.put(GOOD)
    else:
        os.pwrite(arena.fd, GOOD, 0)
    return arena


@pytest.fixture(params=["host", "child"])
def arena(request: pytest.FixtureRequest) -> Iterator[Arena]:
    arena = make(request.param)
    yield arena
    arena.close()


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_child_cannot_write_what_the_host_writes(write: Callable[[int], object]) -> None:
    """No way leads from the fd of a host-written arena to a byte of it, however it is opened or mapped."""
    arena = make("host")
    assert end_of(partial(write, arena.fd)) == REFUSED
    assert arena.view(ALL)[:4] == GOOD
    arena.close()


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_without_the_seal_a_child_can(write: Callable[[int], object]) -> None:
    """The same attack changes an arena that has all seals but FUTURE_WRITE, so it is this seal that keeps it off."""
    arena = make("child")
    assert fcntl.fcntl(arena.fd, fcntl.F_GET_SEALS) & ~F_SEAL_EXEC == SEALS
    assert end_of(partial(write, arena.fd)) == 0
    assert arena.view(ALL)[:4] != GOOD
    arena.close()


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_a_child_cannot_cut_an_arena(arena: Arena, cut: Callable[[int], object]) -> None:
    """The size of neither arena can be changed, so the host can read each byte of it at any time."""
    assert end_of(partial(cut, arena.fd)) == REFUSED
    assert len(bytes(arena.view(ALL))) == SIZE


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_without_the_seals_a_child_can_cut_it(cut: Callable[[int], object]) -> None:
    """The same attack changes the size of a file that is not sealed."""
    fd = new_memfd("no-arena")
    os.ftruncate(fd, SIZE)
    assert end_of(partial(cut, fd)) == 0
    assert os.fstat(fd).st_size != SIZE
    os.close(fd)


CLAIMS: dict[str, Callable[[int], object]] = {
    "seal it against its writer": lambda fd: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW),
    "make a program of it": lambda fd: os.fchmod(fd, 0o700),
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_child_cannot_make_an_arena_something_else(arena: Arena, claim: Callable[[int], object]) -> None:
    """A child adds no seal to an arena, nor can it execute one where the kernel has a seal for that."""
    if claim is CLAIMS["make a program of it"] and not fcntl.fcntl(arena.fd, fcntl.F_GET_SEALS) & F_SEAL_EXEC:
        pytest.skip("this kernel has no F_SEAL_EXEC")
    assert end_of(partial(claim, arena.fd)) == REFUSED


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_of_another_memfd_it_can(claim: Callable[[int], object]) -> None:
    """The same works on a memfd that was made with nothing but MFD_ALLOW_SEALING."""
    fd = os.memfd_create("no-arena", os.MFD_ALLOW_SEALING)
    assert end_of(partial(claim, fd)) == 0
    os.close(fd)


def change_for_ever(fd: int) -> None:
    """Write two patterns in turn, as fast as it goes."""
    memory = mmap.mmap(fd, SIZE, mmap.MAP_SHARED, WRITABLE)
    while True:
        for pattern in (b"a" * SIZE, b"b" * SIZE):
            memory[:] = pattern


def punch_for_ever(fd: int) -> None:
    """Take the memory away and write some again, as fast as it goes."""
    memory = mmap.mmap(fd, SIZE, mmap.MAP_SHARED, WRITABLE)
    while True:
        memory[:] = b"a" * SIZE
        memory.madvise(mmap.MADV_REMOVE)


@pytest.mark.parametrize("change", [change_for_ever, punch_for_ever])
def test_a_copy_stays_whole_while_the_child_writes(change: Callable[[int], None]) -> None:
    """What the host has copied never changes again, while the arena it came from does so under its eyes."""
    arena = make("child")
    shared = arena.view(ALL)
    with child_that(partial(change, arena.fd)):
        for _ in range(20):
            copy = Recycler(0).take(SIZE)
            copy[:] = shared
            first, seen = bytes(copy), bytes(shared)
            while bytes(shared) == seen:  # ends only because a second look at shared memory gives something else
                os.sched_yield()
            assert bytes(copy) == first
            assert set(first) <= set(b"ab\0") | set(GOOD)
    arena.close()


def test_an_arena_outlives_its_child() -> None:
    """The host still reads what it holds when the child was killed, and then lets go of all of it."""
    fds = open_fds()
    arena = make("child")
    held = SharedBuffer(Outstanding(arena).hold(ALL), arena, ALL, lambda: None)
    with child_that(partial(change_for_ever, arena.fd)):
        while bytes(held)[:4] == GOOD:
            os.sched_yield()
    arena.close()
    assert set(bytes(held)) <= set(b"ab\0") | set(GOOD)
    held.release()
    assert open_fds() == fds
