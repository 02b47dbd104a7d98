"""Arenas: a child and its host each have one, for what is too large for a datagram.

The host makes both, as memfds, and both sides map both for as long as the child lives: a memfd a payload costs ten
times as much, nearly all of it page faults. Who writes an arena allocates its pieces and copies into them; a message
names the piece; the receiver says when it needs it no more.

What keeps a hostile child off, see memfd_create(2) and fcntl(2):

- Neither arena can be cut short, which would kill a host that reads it with SIGBUS: F_SEAL_SHRINK.
- What the host writes, the child can only read: F_SEAL_FUTURE_WRITE, set once the host has its own writable mapping.
  After that nobody gets another one, no mapping can be turned into one by mprotect(2), and no write(2) works, not even
  to a file that was opened anew through /proc. So the fd that the child is handed lets it read.
- What the child writes, it can change at any time, also while it is read. So the host copies a piece before it looks
  at what is in it (to memory of a `Recycler`), once; each offset and length is the child's word and is checked.
- No seal can be taken off or added (F_SEAL_SEAL), and neither file can be executed (MFD_NOEXEC_SEAL).

The price of FUTURE_WRITE: it also forbids to punch holes, to the host too (tried: fallocate(2) and MADV_REMOVE give
EPERM). So what a host-written arena has touched it keeps until it is replaced by one of another generation.
"""

from __future__ import annotations

import fcntl
import os
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, Literal, NamedTuple

from ..errors import LocalProtocolError, PeerProtocolError
from ..frames import Piece
from ..payload import new_memfd
from .allocate import ALIGNMENT, PAGE, Allocator, NotAllocated
from .mapping import Mapping

_F_SEAL_FUTURE_WRITE = 0x10  # Linux 5.1; Python names it since 3.13
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
HOST_SEALS = SEALS | _F_SEAL_FUTURE_WRITE

Side = Literal["host", "child"]


class Use(NamedTuple):
    """How an arena is used: bytes, and how often a piece found room (``puts``) or did not (``misses``)."""

    size: int
    used: int
    peak: int
    touched: int
    puts: int
    misses: int


class Arena:
    """Memory that one side writes, piece by piece, and the other side reads.

    Made by `create` in the host and by `attach` in the child. Only the writing side may call `put`, `begin`, `fill`,
    `reserve`, `lend`, `free`, `release` and `shrink`.
    """

    def __init__(self, mapping: Mapping, *, generation: int, writable: bool, fd: int | None = None) -> None:
        self.generation = generation
        self.size = mapping.size
        self._mapping = mapping
        self._bytes = mapping.view()
        self._fd = fd
        self._allocator = Allocator(mapping.size) if writable else None
        self._unwanted: deque[Piece] = deque()
        self._lent: set[int] = set()
        self._puts = self._misses = self._touched = 0

    @classmethod
    def create(cls, size: int, *, written_by: Side, generation: int) -> Arena:
        """Make an arena of *size* bytes, rounded up to pages, in the host. `OSError` as from memfd_create(2).

        The arena owns its fd, which is for the child, until `take_fd` or `close`.
        """
        size = -(-size // PAGE) * PAGE
        writable = written_by == "host"
        with ExitStack() as undo:
            fd = new_memfd("belljar-arena")
            undo.callback(os.close, fd)
            os.ftruncate(fd, size)
            mapping = Mapping(fd, size, writable=writable)
            undo.callback(mapping.close)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, HOST_SEALS if writable else SEALS)
            arena = cls(mapping, generation=generation, writable=writable, fd=fd)
            undo.pop_all()
        return arena

    @classmethod
    def attach(cls, fd: int, size: int, *, writable: bool, generation: int) -> Arena:
        """Map the arena *fd* of *size* bytes in the child; *fd* is taken over and closed also on errors.

        `PeerProtocolError` if the file is of another size, `OSError` as from mmap(2).
        """
        try:
            if os.fstat(fd).st_size != size:
                raise PeerProtocolError(f"an arena of {os.fstat(fd).st_size} bytes was said to have {size}")
            return cls(Mapping(fd, size, writable=writable), generation=generation, writable=writable)
        finally:
            os.close(fd)

    @property
    def fd(self) -> int:
        """The fd, for the child to `attach`; the arena keeps it. `LocalProtocolError` if it has none any more."""
        if self._fd is None:
            raise LocalProtocolError("the arena has no fd any more")
        return self._fd

    def take_fd(self) -> int:
        """Return `fd`, which the caller owns from now on."""
        fd, self._fd = self.fd, None
        return fd

    @property
    def use(self) -> Use:
        """How much of the arena is used; of the reading side only the size is known."""
        allocator = self._allocator
        used, peak = (allocator.used, allocator.peak) if allocator else (0, 0)
        return Use(self.size, used, peak, self._touched, self._puts, self._misses)

    # The writing side.

    def put(self, data: memoryview[Any] | bytes | bytearray) -> Piece | None:
        """Copy *data*, which must be contiguous and not empty, into a new piece; None if there is no room for it."""
        data = memoryview(data).cast("B")
        piece = self.begin(len(data))
        if piece is not None:
            self.fill(piece, data, 0, len(data))
        return piece

    def begin(self, length: int) -> Piece | None:
        """Return a new piece whose content is up to `fill`, or None if there is no room for it."""
        self.free_unwanted()
        offset = self._writer.allocate(length)
        if offset is None:
            self._misses += 1
            return None
        self._puts += 1
        self._touched = max(self._touched, -(-(offset + length) // PAGE) * PAGE)
        return Piece(self.generation, offset, length)

    def fill(self, piece: Piece, data: memoryview[Any], start: int, stop: int) -> None:
        """Copy the bytes from *start* to *stop* of *data* to their place in *piece*: an event loop copies by and by."""
        if not 0 <= start <= stop <= piece.length:
            raise ValueError(f"bytes {start} to {stop} are not within a piece of {piece.length}")
        self._bytes[piece.offset + start : piece.offset + stop] = data.cast("B")[start:stop]

    def reserve(self, length: int) -> tuple[Piece, memoryview] | None:
        """Return a new piece and a writable view of it, or None if there is no room: to be rendered into."""
        piece = self.begin(length)
        return None if piece is None else (piece, self._bytes[piece.offset : piece.offset + length])

    def lend(self, piece: Piece) -> None:
        """Let the other side say by `release` when it needs *piece* no more: what is to be sent as a result or an item.

        Not an argument, which this side frees with its call: a hostile child must not free what is being filled.
        """
        self._lent.add(piece.offset)

    def free(self, piece: Piece) -> None:
        """Take back a piece of this arena. `LocalProtocolError` if it is not in use: it was freed before."""
        self._lent.discard(piece.offset)
        try:
            self._writer.free(piece.offset)
        except NotAllocated as error:
            raise LocalProtocolError(f"could not free a piece: {error}") from None

    def free_later(self, piece: Piece) -> None:
        """`free` it when there is time: a finalizer may interrupt us anywhere, in any thread."""
        self._unwanted.append(piece)

    def free_unwanted(self) -> None:
        """Take back what `free_later` was told of."""
        while self._unwanted:
            self.free(self._unwanted.popleft())

    def release(self, generation: int, offsets: Iterable[int]) -> None:
        """The other side says that it needs these pieces no more; `PeerProtocolError` if one was not lent to it."""
        self._check_generation(generation)
        for offset in offsets:
            if offset not in self._lent:
                raise PeerProtocolError(f"a piece at {offset} was released, and none is lent there")
            self._lent.remove(offset)
            self._writer.free(offset)

    def shrink(self) -> int:
        """Give the memory of free pages back to the kernel; return how many bytes they had at most.

        A host-written arena cannot give any back (see above) and returns 0: replace it by another one.
        """
        removed = 0
        for start, end in self._writer.holes():
            start, end = -(-start // PAGE) * PAGE, min(end, self._touched) // PAGE * PAGE
            if start < end:
                try:
                    self._mapping.remove(start, end)
                except PermissionError:  # F_SEAL_FUTURE_WRITE
                    return 0
                removed += end - start
        self._touched = min(self._touched, -(-self._writer.end // PAGE) * PAGE)
        return removed

    # The reading side.

    def view(self, piece: Piece) -> memoryview:
        """Return the bytes of *piece*, for as long as it is not released. `PeerProtocolError` if it cannot be one.

        To copy from at once. What shall be looked at for longer goes through `Outstanding.hold`.
        """
        start, stop = self.check(piece)
        return self._bytes[start:stop]

    def check(self, piece: Piece) -> tuple[int, int]:
        """Return where *piece* starts and ends; `PeerProtocolError` if that is not within this arena."""
        self._check_generation(piece.generation)
        start, stop = piece.offset, piece.offset + piece.length
        if start % ALIGNMENT or start < 0 or stop <= start or stop > self.size:
            raise PeerProtocolError(f"bytes {start} to {stop} are no piece of an arena of {self.size}")
        return start, stop

    @property
    def views(self) -> int:
        """How many views of `look` are still looked at."""
        return max(0, self._mapping.views - 1)  # less our own

    def look(self, piece: Piece) -> memoryview:
        """Return the bytes of *piece* by a view that `views` counts. Raises as `view`."""
        start, stop = self.check(piece)
        return self._mapping.view()[start:stop]

    def close(self) -> None:
        """Close the fd, if it is still there, and unmap the arena, now or with the last view of it. Idempotent."""
        if self._fd is not None:
            os.close(self.take_fd())
        self._bytes.release()
        self._mapping.close()

    @property
    def _writer(self) -> Allocator:
        if self._allocator is None:
            raise LocalProtocolError("this side only reads the arena")
        return self._allocator

    def _check_generation(self, generation: int) -> None:
        if generation != self.generation:
            raise PeerProtocolError(f"a piece is of arena {generation}, where {self.generation} is in use")
