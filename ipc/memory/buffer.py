"""What a receiver holds a large payload by.

The memory belongs to whoever looks at it: a `Buffer` that is released only says that *it* is done. Slices of its view,
and numpy arrays made of them, stay what they are, and hold the memory until they are gone too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

from ..frames import Piece
from ..payload import make_sealed, map_sealed
from .arena import Arena


class Buffer:
    """Bytes that were received. They can be read, and nobody changes them; in the host they are a private copy.

    In the child, a buffer among the arguments of a call shows the host's arena, without a copy, until the call returns:
    what shall outlive it must be copied, by ``bytes(buffer)`` for example. ``numpy.frombuffer(buffer.view)`` and the
    like need no copy; from Python 3.12 on the buffer itself will do wherever a bytes-like object will.

    A plugin whose method returns a `Buffer` makes one of any bytes-like object, which it must not change until then.

    *released* is called once, when the buffer is released or collected, in whatever thread that is; it must not raise.
    """

    __slots__ = ("__weakref__", "_released", "_view")

    def __init__(self, data: bytes | bytearray | memoryview, released: Callable[[], None] | None = None) -> None:
        self._view: memoryview | None = data if isinstance(data, memoryview) else memoryview(data)
        self._released = released

    @property
    def view(self) -> memoryview:
        """A read-only view, which is the caller's own. `ValueError` after `release`."""
        return self._bytes().toreadonly()

    def release(self) -> None:
        """Say that the bytes are needed no more. Idempotent; the same happens when the buffer is collected."""
        self._view, released, self._released = None, self._released, None
        if released is not None:
            released()

    def _bytes(self) -> memoryview:
        if self._view is None:
            raise ValueError(f"the {type(self).__name__} was released; copy what is needed for longer, with bytes()")
        return self._view

    def __len__(self) -> int:
        return self._bytes().nbytes

    def __bytes__(self) -> bytes:
        return bytes(self._bytes())

    def __buffer__(self, flags: int, /) -> memoryview:
        return self.view  # asked for by Python 3.12 and newer; see PEP 688

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        self.release()

    def __del__(self) -> None:
        if hasattr(self, "_released"):  # else it was never made
            self.release()

    def __repr__(self) -> str:
        state = "released" if self._view is None else f"{self._view.nbytes} bytes"
        return f"<{type(self).__name__}: {state}>"


class SharedBuffer(Buffer):
    """Bytes that were not copied: the piece of the arena itself, which the other side can still change.

    A hostile child changes them *while you look*: what was checked is not what is used a moment later, and two reads
    give two different things. So never parse one, never take a length, an offset or a name from it, and never decode it
    with code that was not written for that; copy it first, with ``bytes(buffer)``, or declare a `Buffer`. It is meant
    for what has no meaning to the host, such as pixels on their way to a screen. The arena is full sooner while it is
    held, so release it soon.

    `reserve` makes one of this side's own arena, to be filled and then passed as an argument or a result: the payload
    is rendered where it is needed. Its view is writable until then. A view that the caller has kept still writes to
    what the other side reads by then.
    """

    __slots__ = ("_arena", "_piece")

    def __init__(
        self, view: memoryview, arena: Arena | None, piece: Piece | None, released: Callable[[], None] | None
    ) -> None:
        super().__init__(view, released)
        self._arena = arena
        self._piece = piece

    @classmethod
    def of(cls, view: memoryview) -> SharedBuffer:
        """Return *view*, which lies in no arena, as one: what came another way, because the arena was full."""
        return cls(view.toreadonly(), None, None, None)

    @classmethod
    def reserve(cls, arena: Arena, length: int) -> SharedBuffer | None:
        """Return *length* bytes of *arena*, which this side writes, or None if there is no room for them."""
        found = arena.reserve(length)
        if found is None:
            return None
        piece, view = found
        return cls(view, arena, piece, lambda: arena.free_later(piece))

    @property
    def view(self) -> memoryview:
        """A view of the arena itself: writable if it was reserved by this side. `ValueError` after `release`."""
        return self._bytes()[:]

    def hand_over(self, arena: Arena) -> Piece | None:
        """Give the piece away, to be named in a message to the other side of *arena*; the buffer is released by it.

        None, and nothing happens, if the bytes were not reserved in that arena and so must be copied to be sent.
        `ValueError` after `release`.
        """
        if self._bytes().readonly or arena is not self._arena:
            return None
        self._view = self._released = None
        return self._piece


class SealedBuffer(Buffer):
    """Bytes that nobody can change any more, on neither side, and that outlive the call and the child.

    `seal` makes one of a copy; as an argument or a result it is passed on without another, and both sides read the same
    memory. It takes an fd and a mapping for as long as it is held, and a new one costs ten times what a `Buffer` does:
    it is for what is kept or passed on, such as a model, a font or a shared picture. See `belljar.ipc.payload`.
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int, limit: int) -> None:
        """Take over *fd*, a sealed memfd of at most *limit* bytes; `PeerProtocolError` if it is none."""
        self._fd = -1
        self._view = self._released = None
        kept = os.dup(fd)
        try:
            super().__init__(map_sealed(fd, limit).view())
        except BaseException:
            os.close(kept)
            raise
        self._fd = kept

    @classmethod
    def seal(cls, data: bytes | bytearray | memoryview) -> SealedBuffer:
        """Return a sealed copy of *data*, which must not be empty. `OSError` as from memfd_create(2)."""
        view = memoryview(data).cast("B")
        if not view:
            raise ValueError("there is nothing to seal: a sealed buffer has at least one byte")
        return cls(make_sealed(view), len(view))

    def fileno(self) -> int:
        """Return its fd, which stays its own. `ValueError` after `release`."""
        if self._fd < 0:
            raise ValueError(f"the {type(self).__name__} was released")
        return self._fd

    def release(self) -> None:
        """Close its fd. Views of it, and what was made of them, stay what they are. Idempotent."""
        super().release()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
