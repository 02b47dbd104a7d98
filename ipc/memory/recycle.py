"""Private memory for what a receiver copies out of an arena, used again and again.

A fresh bytearray of 33 MiB costs 16 to 22 ms of page faults, the copy into it 2.5 ms. So memory is kept when its last
user is gone. What is not there yet is made by `Mapping`, which takes about half as long.
"""

from __future__ import annotations

from threading import Lock

from .allocate import PAGE
from .mapping import Mapping

SMALL = 64 << 10
"""Below so many bytes a bytearray is as cheap."""


class Recycler:
    """Keeps at most *limit* bytes of memory, in use or idle. May be used from several threads.

    Memory is idle when nothing looks at it any more: no view, slice or numpy array, whoever made it. Nobody has to give
    it back. It is not wiped: what `take` returns holds what the last user left, and is to be overwritten wholly.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._slabs: list[Mapping] = []  # shortest first
        self._lock = Lock()

    @property
    def kept(self) -> int:
        """How many bytes are kept now."""
        return sum(slab.size for slab in self._slabs)

    def take(self, length: int) -> memoryview:
        """Return *length* writable bytes that nobody else uses, for as long as the view or what comes of it lives."""
        if length < SMALL:
            return memoryview(bytearray(length))
        with self._lock:
            slab = self._idle(length)
            if slab is None:
                slab = self._add(length)
            return slab.view()[:length]

    def trim(self) -> int:
        """Give back all memory that is idle; return how many bytes that were."""
        with self._lock:
            before = self.kept
            self._slabs = [slab for slab in self._slabs if slab.views]
            return before - self.kept

    def _idle(self, length: int) -> Mapping | None:
        for slab in self._slabs:
            if slab.size > 2 * size_class(length):  # a small result may be kept for long, and should not take much
                return None
            if slab.size >= length and not slab.views:
                return slab
        return None

    def _add(self, length: int) -> Mapping:
        slab = Mapping(-1, size_class(length), writable=True)
        if slab.size <= self._limit:
            self._make_room(slab.size)
        if self.kept + slab.size <= self._limit:
            self._slabs.append(slab)
            self._slabs.sort(key=lambda slab: slab.size)
        return slab  # else it is unmapped with its last view

    def _make_room(self, size: int) -> None:
        for slab in [slab for slab in self._slabs if not slab.views]:
            if self.kept + size <= self._limit:
                return
            self._slabs.remove(slab)


def size_class(length: int) -> int:
    """Return *length* rounded up to one of eight steps between powers of two, so that alike lengths share memory."""
    step = max(PAGE, 1 << (length - 1).bit_length() >> 4)
    return -(-length // step) * step
