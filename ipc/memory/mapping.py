"""Mapped memory that knows whether anyone still looks at it.

A view that is sliced, or a numpy array made of it, lives on when the view it came from is released, and Python tells
nobody. But whatever came of one `Mapping.view` holds one reference to the mmap object below, whose count is thus the
number of views that are still looked at: for a reference that is there for another reason, too high and never too low.

An mmap that is closed while it is looked at raises BufferError. So `Mapping.close` leaves that to the last view.
"""

from __future__ import annotations

import mmap
import sys
from contextlib import suppress


class Mapping:
    """*size* bytes of the file *fd*, shared, or private memory if *fd* is -1. The caller keeps *fd*.

    Private memory is all there at once (MAP_POPULATE): 33 MiB take 5 to 10 ms so, and 16 to 22 when each page is met by
    its first write. Huge pages are faster still, but now and then the kernel takes 100 ms to make some.

    `OSError` as from mmap(2). Before Python 3.13 an mmap object keeps an fd of its own for as long as it lives.
    """

    __slots__ = ("__weakref__", "_memory", "_unseen", "size")

    def __init__(self, fd: int, size: int, *, writable: bool) -> None:
        self.size = size
        self._memory: mmap.mmap | None = _map(fd, size, writable=writable)
        self._unseen = self._references()

    def view(self) -> memoryview:
        """Return a view of all of it, which is counted by `views` until it and all that came of it are gone."""
        if self._memory is None:
            raise ValueError("the memory was closed")
        return memoryview(self._memory)

    @property
    def views(self) -> int:
        """How many results of `view` are still looked at; 0 after `close`."""
        return self._references() - self._unseen if self._memory is not None else 0

    def remove(self, start: int, end: int) -> None:
        """Give the pages of a range of a shared file back to the kernel; they read as zeros. See MADV_REMOVE."""
        if self._memory is not None:
            self._memory.madvise(mmap.MADV_REMOVE, start, end - start)

    def close(self) -> None:
        """Unmap it, now or with the last view. Idempotent."""
        memory, self._memory = self._memory, None
        if memory is not None:
            with suppress(BufferError):  # the last view unmaps it
                memory.close()

    def _references(self) -> int:
        return sys.getrefcount(self._memory)


def _map(fd: int, size: int, *, writable: bool) -> mmap.mmap:
    prot = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE if fd == -1 else mmap.MAP_SHARED
    if sys.version_info >= (3, 13) and fd != -1:
        return mmap.mmap(fd, size, flags, prot, trackfd=False)
    return mmap.mmap(fd, size, flags, prot)
