"""Which pieces of the other side's arena this side still looks at.

A hostile child may say twice where a result is, or let two of them overlap: the second would change what the reader of
the first looks at. And a piece must not be released while a slice or a numpy array of it is alive, or that would show
the content of a later one. Both are known here; where nothing is held it costs a look into an empty list.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

from ..errors import LocalProtocolError, PeerProtocolError
from ..frames import Piece
from .arena import Arena


class Outstanding:
    """The pieces of *arena*, which this side reads, that are not released yet.

    `drop` may be called from any thread and from a finalizer; the rest by one thread at a time.
    """

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._starts: list[int] = []  # all that are not released, in order
        self._stops: list[int] = []
        self._held: dict[int, memoryview] = {}
        self._dropped: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def lingering(self) -> int:
        """How many pieces were dropped although something still looks at them."""
        return max(0, self._arena.views - len(self._held))

    def hold(self, piece: Piece) -> memoryview:
        """Return a view of *piece*, which stays as it is until `drop`.

        Raises:
            PeerProtocolError: it is not within the arena, or overlaps one that was not released.
        """
        index = self.check(piece)
        start, stop = piece.offset, piece.offset + piece.length
        self._held[start] = view = self._arena.look(piece)
        self._starts.insert(index, start)
        self._stops.insert(index, stop)
        return view[:]  # ours is released by drop, whatever its user does

    def check(self, piece: Piece) -> int:
        """Return the place of *piece* among those that are not released. Raises as `hold`."""
        start, stop = self._arena.check(piece)
        index = bisect_left(self._starts, start)
        overlaps_next = index < len(self._starts) and self._starts[index] < stop
        if overlaps_next or (index and self._stops[index - 1] > start):
            raise PeerProtocolError(f"a piece at {start} overlaps one that is in use")
        return index

    def drop(self, piece: Piece) -> None:
        """*piece* is needed no more, once nothing looks at it. `LocalProtocolError` if it is not held."""
        if self._held.pop(piece.offset, None) is None:
            raise LocalProtocolError(f"nothing is held at {piece.offset}")
        self._dropped.append(piece.offset)

    def close(self) -> None:
        """Nothing will be released any more: only who looks at a piece still holds the memory."""
        self._held.clear()

    def collect(self) -> list[int]:
        """Return the offsets of what was dropped and is not looked at any more, each once: the other side's to reuse.

        It cannot be told which of them is still looked at, so while one is, none is returned.
        """
        count = len(self._dropped)  # before the look, for another thread may drop more
        if not count or self.lingering:
            return []
        gone = [self._dropped.popleft() for _ in range(count)]
        for offset in gone:
            index = bisect_left(self._starts, offset)
            del self._starts[index], self._stops[index]
        return gone
