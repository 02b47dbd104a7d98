"""Where large attachments lie: in the two arenas of a child, or, when those are full, each in a sealed memfd."""

from __future__ import annotations

from ..errors import PeerProtocolError
from ..frames import Piece, Sealed
from ..memory.buffer import Buffer
from ..payload import make_sealed, read_sealed


class TooLarge(ValueError):
    """Something has more bytes than one payload may have."""


class Store:
    """The large attachments of one child, as one side sees them. *limit* is the most bytes that one may have."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def place(self, data: memoryview) -> tuple[Piece | Sealed, int | None]:
        """See `Memory.place`."""
        if data.nbytes > self.limit:
            raise TooLarge(f"its {data.nbytes} bytes are over max_payload = {self.limit}")
        return Sealed(data.nbytes), make_sealed(data)

    def free(self, pieces: list[Piece]) -> None:
        """See `Memory.free`."""

    def read(self, part: Piece | Sealed, fd: int | None) -> bytes | memoryview:
        """See `Memory.read`."""
        if fd is None:
            raise PeerProtocolError("a piece of an arena that is not there")
        return read_sealed(fd, self.limit)

    def buffer(self, part: Piece | Sealed, fd: int | None) -> Buffer:
        """See `Memory.buffer`."""
        return Buffer(memoryview(self.read(part, fd)))

    def drop(self, part: Piece) -> None:
        """See `Memory.drop`."""

    def released(self, pieces: tuple[tuple[int, int], ...]) -> None:
        """The other side no longer looks at *pieces*. `PeerProtocolError` if it did not hold them."""
        raise PeerProtocolError("a piece was released that nobody held")
