"""Which parts of an arena are in use: offsets and lengths only, no memory.

First fit from the front: what was freed last is likely taken next, so its pages are there and in the cache, and the end
of an arena is never touched until it is needed. A call allocates one piece or two, which costs less than 2 µs; the cost
grows with the number of holes, of which there is at most one more than pieces.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Iterator

ALIGNMENT = 64
"""Bytes that each offset is a multiple of: what the widest vector instructions and a line of the cache want."""

PAGE = mmap.PAGESIZE
LARGE = 16 * PAGE
"""From so many bytes on, a piece has its pages for itself, so that they can be given back with it."""


class NotAllocated(LookupError):
    """What was freed was not allocated, or was freed before."""


class Allocator:
    """Hands out ranges of *size* bytes, a multiple of the page size. No two of them overlap."""

    __slots__ = ("_ends", "_lengths", "_starts", "peak", "size", "used")

    def __init__(self, size: int) -> None:
        if size <= 0 or size % PAGE:
            raise ValueError(f"an arena of {size} bytes is not a number of pages")
        self.size = size
        self.used = 0
        """Bytes that are allocated now, with what alignment adds."""
        self.peak = 0
        """The most that `used` has been."""
        self._lengths: dict[int, int] = {}
        self._starts = [0]  # the holes, in order; no two touch
        self._ends = [size]

    @property
    def end(self) -> int:
        """Where the last allocated range ends."""
        return self._starts[-1] if self._ends and self._ends[-1] == self.size else self.size

    def holes(self) -> Iterator[tuple[int, int]]:
        """Yield start and end of each range that is free, in order."""
        return zip(self._starts, self._ends, strict=True)

    def allocate(self, length: int) -> int | None:
        """Return the offset of a free range of *length* bytes, or None if no hole is long enough."""
        if length <= 0:
            raise ValueError(f"could not allocate {length} bytes")
        align = PAGE if length >= LARGE else ALIGNMENT
        length = (length + align - 1) & -align
        for index, start in enumerate(self._starts):
            offset = (start + align - 1) & -align
            if offset + length <= self._ends[index]:
                self._cut(index, offset, offset + length)
                self._lengths[offset] = length
                self.used += length
                self.peak = max(self.peak, self.used)
                return offset
        return None

    def free(self, offset: int) -> None:
        """Take back the range that begins at *offset*; `NotAllocated` if none does."""
        length = self._lengths.pop(offset, 0)
        if not length:
            raise NotAllocated(f"nothing is allocated at {offset}")
        self.used -= length
        self._join(offset, offset + length)

    def _cut(self, index: int, start: int, end: int) -> None:
        starts, ends = self._starts, self._ends
        if starts[index] < start:  # alignment leaves a hole before
            starts.insert(index, starts[index])
            ends.insert(index, start)
            index += 1
        if end < ends[index]:
            starts[index] = end
        else:
            del starts[index], ends[index]

    def _join(self, start: int, end: int) -> None:
        starts, ends = self._starts, self._ends
        index = bisect_left(starts, start)
        touches_next = index < len(starts) and starts[index] == end
        if index and ends[index - 1] == start:
            if touches_next:
                del starts[index], ends[index - 1]
            else:
                ends[index - 1] = end
        elif touches_next:
            starts[index] = start
        else:
            starts.insert(index, start)
            ends.insert(index, end)
