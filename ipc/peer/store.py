"""Where large attachments lie: in two arenas for each child, or, when those are full, each in a sealed memfd.

The host makes the arenas, with the first payload that needs one, and larger ones when they are full, up to a limit; the
older ones go once nothing lies in them any more. The child says when it can read a new one (`Attached`): it may have
no address space left, and is then sent memfds.

The host copies whatever it reads into private memory, for the child can still write it. The child looks at the host's
arena itself, which it cannot write and where nothing changes until it says that it is done.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from ..errors import PeerProtocolError
from ..frames import Piece, Release, Sealed
from ..memory.arena import Arena, Side, Use
from ..memory.buffer import Buffer, SharedBuffer
from ..memory.outstanding import Outstanding
from ..memory.recycle import Recycler
from ..payload import read_sealed

FIRST_SIZE = 16 << 20
"""Bytes of the first arena; only what is used of it takes memory."""

MAX_ARENAS = 8
"""Arenas of a child at the same time: it could take back each new one and keep the old ones, which take an fd."""

CHUNK = 1 << 20
"""Bytes that are copied at a time where others want to run in between."""


class TooLarge(ValueError):
    """Something has more bytes than one payload may have."""


class StoreUse(NamedTuple):
    """How the memory of one child is used.

    Attributes:
        written: The arena that this side writes; None while there is none.
        read: The one that it reads; only its size is known here.
        kept: Bytes of private memory that are kept for what is copied out.
        memfds: How many payloads found no room in an arena.
    """

    written: Use | None
    read: Use | None
    kept: int
    memfds: int


class Reading:
    """An arena of the other side's, and what of it is still looked at.

    ``loans`` are views that end with a call, and ``kept`` those that did not. ``named`` are the bytes of the pieces in
    messages that are here. ``is_used``: something has lain in it.
    """

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.outstanding = Outstanding(arena)
        self.done: deque[int] = deque()
        self.loans = self.kept = self.named = 0
        self.is_used = False

    def lingering(self) -> int:
        """Return how many views there are that should not be."""
        return max(0, self.outstanding.lingering - self.loans)


class Store:
    """The large attachments of one child, as one side sees them.

    Args:
        limit: The most bytes that one attachment may have.
        arena_limit: The most bytes of an arena that is made here; 0 where the other side makes them.
        copies: Whether what the other side wrote is copied before it is looked at.

    Attributes:
        share: Sends an arena to the other side, with who writes it; the peer sets it.
        waiting: Fds that have come and were not looked at yet.
        sealed_bytes: Of the memfds that came with calls under way.
    """

    share: Callable[[Arena, Side], None]

    def __init__(self, limit: int, *, arena_limit: int = 0, copies: bool = True) -> None:
        self.limit = limit
        self.copies = copies
        self.memfds = self.waiting = self.sealed_bytes = 0
        self._arena_limit = arena_limit
        self._writing: Arena | None = None
        self._offered: Arena | None = None
        self._retired: dict[int, Arena] = {}
        self._reading: dict[int, Reading] = {}
        self._newest: Reading | None = None
        self._generation = 0
        self._is_closed = False
        self._recycler = Recycler(2 * max(limit, FIRST_SIZE)) if copies else None

    # What this side writes.

    def put(self, data: memoryview[Any]) -> Piece | None:
        """Copy *data* into an arena; return where, or None if none has room for it. `TooLarge`."""
        piece = self.begin(data.nbytes)
        if piece is not None:
            self.fill(piece, data, 0, data.nbytes)
        return piece

    def begin(self, length: int) -> Piece | None:
        """Return a piece that is to be filled; None if no arena has room for it. `TooLarge`."""
        if length > self.limit:
            raise TooLarge(f"its {length} bytes are over max_payload = {self.limit}")
        piece = self._writing.begin(length) if self._writing is not None else None
        if piece is None and self._arena_limit:
            self._offer(length)
        return piece

    def fill(self, piece: Piece, data: memoryview[Any], start: int, stop: int) -> None:
        """Copy the bytes from *start* to *stop* of *data* into *piece*."""
        self._of(piece.generation).fill(piece, data, start, stop)

    def reserve(self, length: int) -> SharedBuffer | None:
        """Return *length* bytes to be filled by the caller and then sent, or None if there is no room for them."""
        if length > self.limit:
            raise TooLarge(f"{length} bytes are over max_payload = {self.limit}")
        if self._writing is None:
            if self._arena_limit:
                self._offer(length)
            return None
        return SharedBuffer.reserve(self._writing, length)

    def hand_over(self, buffer: SharedBuffer) -> Piece | None:
        """Return the piece of a buffer that was reserved here, which is no longer the buffer's; None if it was not."""
        return buffer.hand_over(self._writing) if self._writing is not None else None

    def _offer(self, length: int) -> None:
        """Make a larger arena for what this side writes, and use it once the other side can read it.

        If it never says so, it has no room for one, and is not asked again.
        """
        if self._offered is not None:
            return
        size = self._next_size(self._writing, length)
        if size:
            self._offered = self._make(size, "host")

    def _next_size(self, old: Arena | None, length: int) -> int:
        """Return the size of the next arena; 0 if there can be none for *length* bytes."""
        size = max(FIRST_SIZE, 1 << (2 * length - 1).bit_length())
        if old is not None:
            size = max(size, 2 * old.size)
        size = min(size, self._arena_limit)
        too_small = size < length or (old is not None and size <= old.size)
        return 0 if too_small else size

    def _make(self, size: int, written_by: Side) -> Arena | None:
        """Make an arena and send it to the other side; None if there is no memory, or no fd: memfds may do."""
        if self._is_closed:
            return None
        self._generation += 1
        with suppress(OSError), ExitStack() as undo:
            arena = Arena.create(size, written_by=written_by, generation=self._generation)
            undo.callback(arena.close)
            self.share(arena, written_by)
            undo.pop_all()
            return arena
        return None

    def attached(self, generation: int) -> list[int]:
        """The other side can read the arena that was offered; return which ones it will hear nothing of any more."""
        if self._offered is None or self._offered.generation != generation:
            raise PeerProtocolError(f"arena {generation} was attached, which was not offered")
        if self._writing is not None:
            self._retired[self._writing.generation] = self._writing
        self._writing, self._offered = self._offered, None
        return self.drop_retired()

    def drop_retired(self) -> list[int]:
        """Close the arenas that were replaced and that nothing lies in any more; return which those are."""
        for arena in self._retired.values():
            arena.free_unwanted()
        gone = [generation for generation, arena in self._retired.items() if not arena.use.used]
        for generation in gone:
            self._retired.pop(generation).close()
        return gone

    def _of(self, generation: int) -> Arena:
        if self._writing is not None and self._writing.generation == generation:
            return self._writing
        arena = self._retired.get(generation)
        if arena is None:
            raise PeerProtocolError(f"arena {generation} is not in use")
        return arena

    def free(self, pieces: list[Piece]) -> None:
        """Take back pieces that the other side is done with."""
        for piece in pieces if not self._is_closed else ():
            self._of(piece.generation).free(piece)

    def lend(self, pieces: list[Piece]) -> None:
        """Let the other side release *pieces*, which go out as a result or an item."""
        for piece in pieces:
            self._of(piece.generation).lend(piece)

    def released(self, generation: int, offsets: tuple[int, ...]) -> list[int]:
        """The other side no longer looks at pieces; return which arenas are gone with them. `PeerProtocolError`."""
        self._of(generation).release(generation, offsets)
        return self.drop_retired() if self._retired else []

    # What the other side writes.

    def attach(self, fd: int, size: int, generation: int, *, writable: bool) -> list[int]:
        """The host shares an arena; *fd* is taken over. Return which older ones are gone. `OSError`: no room for it."""
        arena = Arena.attach(fd, size, writable=writable, generation=generation)
        if not writable:
            self._add_reading(arena)
            return []
        if self._writing is not None:
            self._retired[self._writing.generation] = self._writing
        self._writing = arena
        return self.drop_retired()

    def _add_reading(self, arena: Arena) -> None:
        self._newest = self._reading[arena.generation] = Reading(arena)

    def unshared(self, generation: int) -> None:
        """The other side has nothing in one of its arenas any more."""
        reading = self._reading.get(generation)
        if reading is None or reading.named or len(reading.outstanding):
            raise PeerProtocolError(f"arena {generation} was taken back while it was in use")
        del self._reading[generation]
        if reading is self._newest:
            self._newest = None
        reading.arena.close()

    @property
    def in_use(self) -> Reading | None:
        """The newest arena that the other side writes, if it has done so."""
        return self._newest if self._newest is not None and self._newest.is_used else None

    def missed(self, length: int, known: Reading | None) -> None:
        """The other side had no room for *length* bytes, when *known* was `in_use`: share a larger arena with it.

        Not if it has got one since that is large enough: it did not know of that, or cannot map it.
        """
        newest = self._newest
        if not self._arena_limit or len(self._reading) >= MAX_ARENAS:
            return
        if newest is not None and newest is not known and newest.arena.size >= length:
            return
        size = self._next_size(newest.arena if newest is not None else None, length)
        if size and (arena := self._make(size, "child")) is not None:
            self._add_reading(arena)

    def _reading_of(self, piece: Piece) -> Reading:
        reading = self._reading.get(piece.generation)
        if reading is None:
            raise PeerProtocolError(f"a piece is of arena {piece.generation}, which there is not")
        if piece.length > self.limit:
            raise PeerProtocolError(f"a piece of {piece.length} bytes is over the limit of {self.limit}")
        return reading

    def expect(self, piece: Piece) -> None:
        """A message that came names *piece*; `forget` it with the message. `PeerProtocolError` if it cannot be one.

        No two pieces overlap, so all of them together are no larger than the arena, and neither are copies of them.
        """
        reading = self._reading_of(piece)
        reading.arena.check(piece)
        if reading.named + piece.length > reading.arena.size:
            raise PeerProtocolError(f"pieces of more bytes than arena {piece.generation} has were named at once")
        reading.named += piece.length
        reading.is_used = True

    def forget(self, piece: Piece) -> None:
        """The message that named *piece* is gone."""
        if (reading := self._reading.get(piece.generation)) is not None:  # else all of this is closed
            reading.named -= piece.length

    def look(self, piece: Piece) -> memoryview:
        """Return the bytes of *piece* to be copied. `PeerProtocolError` if it overlaps one that is held."""
        reading = self._reading_of(piece)
        if len(reading.outstanding):
            reading.outstanding.check(piece)
        return reading.arena.view(piece)

    def take(self, length: int) -> memoryview:
        """Return private memory to copy into."""
        return self._recycler.take(length) if self._recycler is not None else memoryview(bytearray(length))

    def read(self, part: Piece | Sealed, fd: int | None, *, lent: bool) -> memoryview | bytes:
        """Return what the other side has placed, for decoding; *fd* is taken over. *lent*: it is not to be released."""
        if isinstance(part, Sealed):
            return self._read_memfd(fd, part.length)
        if not self.copies:
            return self._look_at(part, lent=lent)
        source = self.look(part)  # first: until then the length is anything that the other side says
        memory = self.take(part.length)
        memory[:] = source
        if not lent:
            self.drop(part)
        return memory

    def _read_memfd(self, fd: int | None, length: int) -> bytes:
        assert fd is not None  # Inbound gives one with each Sealed
        return read_sealed(fd, self.limit, length)

    def buffer(self, part: Piece | Sealed, fd: int | None, *, lent: bool) -> Buffer:
        """Return what the other side has placed as a buffer; *fd* is taken over."""
        if isinstance(part, Sealed) or self.copies:
            return Buffer(memoryview(self.read(part, fd, lent=lent)))
        return Buffer(self._look_at(part, lent=lent), None if lent else lambda: self.unhold(part))

    def _look_at(self, piece: Piece, *, lent: bool) -> memoryview:
        """Return the bytes of *piece* where they lie, until `give_back` if they are *lent*, else until `unhold`."""
        if not lent:
            return self.hold(piece)
        reading = self._reading_of(piece)
        if not reading.loans:
            reading.kept = reading.lingering()
        reading.loans += 1
        return reading.arena.look(piece)

    def shared(self, piece: Piece, *, lent: bool) -> SharedBuffer:
        """Return *piece* itself; see `SharedBuffer` for its dangers."""
        reading = self._reading_of(piece)
        view = self._look_at(piece, lent=lent)
        released = None if lent else lambda: self.unhold(piece)
        return SharedBuffer(view.toreadonly(), reading.arena, piece, released)

    def hold(self, piece: Piece) -> memoryview:
        """Return the bytes of *piece*, which stays as it is until `unhold`."""
        return self._reading_of(piece).outstanding.hold(piece)

    def unhold(self, piece: Piece) -> None:
        """Nobody holds *piece* any more; it is released once no view of it is left. From any thread, at any time."""
        reading = self._reading.get(piece.generation)
        if reading is not None:
            reading.outstanding.drop(piece)

    def give_back(self, pieces: list[Piece]) -> None:
        """End the loan of *pieces*. `BufferError` if somebody keeps a view of one: it will show something else."""
        if self._is_closed:
            return
        for piece in pieces:
            self._reading_of(piece).loans -= 1
        for generation in {piece.generation for piece in pieces}:
            reading = self._reading[generation]
            if reading.lingering() > reading.kept:
                gc.collect()  # perhaps only a cycle holds it
            before, reading.kept = reading.kept, reading.lingering()
            if reading.kept > before:
                raise BufferError("a view of an argument was kept after the call; copy what is needed for longer")

    def drop(self, piece: Piece) -> None:
        """Release *piece*, at which nobody looks."""
        if (reading := self._reading.get(piece.generation)) is not None:  # else all of this is closed
            reading.done.append(piece.offset)

    @property
    def may_release(self) -> bool:
        """Whether there may be something to release, so that `releases` is to be asked."""
        if not self._reading:
            return False
        return any(reading.done or len(reading.outstanding) for reading in self._reading.values())

    def releases(self) -> list[Release]:
        """Return what to tell the other side about pieces of its arenas."""
        if not self._reading:
            return []
        found = []
        for generation, reading in self._reading.items():
            offsets = [reading.done.popleft() for _ in range(len(reading.done))]
            if len(reading.outstanding):
                offsets += reading.outstanding.collect()
            found += [Release(generation, tuple(offsets[i : i + 1024])) for i in range(0, len(offsets), 1024)]
        return found

    @property
    def use(self) -> StoreUse:
        """How the memory is used now."""
        written = self._writing.use if self._writing is not None else None
        read = self._newest.arena.use if self._newest is not None else None
        return StoreUse(written, read, self._recycler.kept if self._recycler is not None else 0, self.memfds)

    def trim(self) -> list[int]:
        """Give back memory that is kept for later; return which arenas are gone with it.

        What the host wrote cannot be given back piece by piece (`belljar.ipc.memory.arena`), but all at once: the next
        payload that wants an arena gets another one.
        """
        if self._recycler is not None:
            self._recycler.trim()
        if self._writing is None:
            return []
        self._writing.free_unwanted()
        self._writing.shrink()
        if self._arena_limit and not self._writing.use.used:
            self._retired[self._writing.generation] = self._writing
            self._writing = None
        return self.drop_retired()

    def close(self) -> None:
        """Unmap all arenas; what is still looked at, with its last view. Idempotent."""
        self._is_closed = True
        for arena in [self._writing, self._offered, *self._retired.values()]:
            if arena is not None:
                arena.close()
        for reading in self._reading.values():
            reading.outstanding.close()
            reading.arena.close()
        self._writing = self._offered = self._newest = None
        self._retired.clear()
        self._reading.clear()
