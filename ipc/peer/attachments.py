"""What travels beside a payload: buffers in an arena or a sealed memfd, fds by kind, references to objects.

`Outbound` is filled while a message is encoded, `Inbound` is asked while one is decoded. Both own what they hold and
are closed on every path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ..datagram import MAX_FDS, Datagram, close_all
from ..errors import PeerProtocolError
from ..frames import Handle, Part, Piece, Sealed

if TYPE_CHECKING:
    from ..interface.fd import Fd
    from ..memory.buffer import Buffer

MAX_SMALL = 4096
"""Bytes of a buffer that travels in the message itself."""

MAX_PARTS = 64


class Memory(Protocol):
    """Where large attachments lie (`belljar.ipc.peer.store.Store`)."""

    def place(self, data: memoryview) -> tuple[Piece | Sealed, int | None]:
        """Store *data*; return where, with a new fd if that is a memfd, which is the caller's."""
        ...

    def free(self, pieces: list[Piece]) -> None:
        """Take back what `place` gave out."""
        ...

    def buffer(self, part: Piece | Sealed, fd: int | None) -> Buffer:
        """Return what the other side has placed; *fd* is taken over. `PeerProtocolError` if it is not there."""
        ...

    def read(self, part: Piece | Sealed, fd: int | None) -> bytes | memoryview:
        """Return what the other side has placed, for reading at once; *fd* is taken over, a piece is released."""
        ...

    def drop(self, part: Piece) -> None:
        """Release a piece that nobody looks at."""
        ...


class TooMuch(ValueError):
    """A message has more attachments than one can carry."""


class Outbound:
    """The attachments of one message that is being made. The fds in ``made`` are its own, all others the caller's."""

    __slots__ = ("exported", "fds", "inline", "made", "memory", "parts", "pieces", "register")

    def __init__(self, memory: Memory, register: Callable[[type, object], int]) -> None:
        self.memory = memory
        self.register = register
        self.parts: list[Part] = []
        self.fds: list[int] = []
        self.made: list[int] = []
        self.pieces: list[Piece] = []
        self.exported: list[int] = []
        self.inline = 0

    def buffer(self, data: memoryview) -> int:
        """Attach *data*; return its number. `TooMuch` if there is no room for one more."""
        if data.nbytes <= MAX_SMALL and self.inline < 8 * MAX_SMALL:
            self.inline += data.nbytes + 5
            return self._add(bytes(data))
        part, fd = self.memory.place(data)
        if isinstance(part, Piece):
            self.pieces.append(part)
        if fd is not None:
            self.made.append(fd)
            self._add_fd(fd)
        return self._add(part)

    def fd(self, fd: Fd) -> int:
        """Attach *fd*, which stays the caller's; return its number."""
        self._add_fd(fd.fileno())
        return self._add(Handle(fd.kind))

    def export(self, interface: type, behind: object) -> int:
        """Let the other side call *behind* as long as the call lasts; return its number as a target."""
        number = self.register(interface, behind)
        self.exported.append(number)
        return number

    def _add(self, part: Part) -> int:
        if len(self.parts) == MAX_PARTS:
            raise TooMuch(f"it has more than {MAX_PARTS} attachments")
        self.parts.append(part)
        return len(self.parts) - 1

    def _add_fd(self, fd: int) -> None:
        if len(self.fds) == MAX_FDS:
            raise TooMuch(f"it needs more than {MAX_FDS} fds")
        self.fds.append(fd)

    def sent(self) -> None:
        """Close what was made for the message. Idempotent."""
        close_all(self.made)
        self.made.clear()

    def discard(self) -> None:
        """Close and free everything: the message is not sent, or the other side is done with it. Idempotent."""
        self.sent()
        pieces, self.pieces = self.pieces, []
        self.memory.free(pieces)


class Inbound:
    """The attachments of one message that has come. Owns its fds and pieces until they are taken or it is closed."""

    __slots__ = ("fds", "lent", "memory", "parts", "proxies")

    def __init__(
        self,
        memory: Memory,
        parts: tuple[Part, ...],
        received: Datagram,
        proxies: Callable[[type, int], object],
        *,
        lent: bool,
    ) -> None:
        numbers = [number for number, part in enumerate(parts) if isinstance(part, (Sealed, Handle))]
        if len(numbers) != len(received.fds):
            count = len(received.fds)
            received.close()
            raise PeerProtocolError(f"a message names {len(numbers)} fds and came with {count}")
        self.memory = memory
        self.parts: list[Part | None] = list(parts)
        self.fds = dict(zip(numbers, received.fds, strict=True))
        received.fds.clear()
        self.proxies = proxies
        self.lent = lent

    def payload(self) -> bytes | memoryview:
        """Return the payload that is too large for the message: the first part."""
        part = self._take(0)
        if isinstance(part, (Piece, Sealed)):
            return self.memory.read(part, self.fds.pop(0, None))
        raise PeerProtocolError("a message has no payload, and no part that could be one")

    def buffer(self, number: int) -> Buffer:
        """Return the buffer *number*; each can be taken once. `PeerProtocolError` if it is none."""
        part = self._take(number)
        if isinstance(part, bytes):
            return Buffer(memoryview(part))
        if isinstance(part, (Piece, Sealed)):
            return self.memory.buffer(part, self.fds.pop(number, None))
        raise PeerProtocolError(f"part {number} of a message is no buffer")

    def fd(self, number: int, kind: str) -> Fd:
        """Return the fd *number*, which must be of *kind*, as said and in truth."""
        part = self._take(number)
        if not isinstance(part, Handle) or part.kind != kind:
            raise PeerProtocolError(f"part {number} of a message is no {kind}")
        return Fd.received(self.fds.pop(number), kind)

    def proxy(self, interface: type, number: int) -> object:
        """Return an object whose methods are calls of target *number*."""
        return self.proxies(interface, number)

    def _take(self, number: int) -> Part:
        part = self.parts[number] if 0 <= number < len(self.parts) else None
        if part is None:
            raise PeerProtocolError(f"a message refers to part {number}, which it does not have")
        self.parts[number] = None
        return part

    def close(self) -> None:
        """Close and release what nobody took. Idempotent."""
        close_all(self.fds.values())
        self.fds.clear()
        for number, part in enumerate(self.parts):
            if isinstance(part, Piece):
                self.parts[number] = None
                self.memory.drop(part)
