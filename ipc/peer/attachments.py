"""What travels beside a payload: buffers in an arena or a sealed memfd, fds by kind, references to objects.

`Outbound` is filled while a message is encoded, `Inbound` is asked while one is decoded. Both own what they hold and
are closed on every path.
"""

from __future__ import annotations

import os
from bisect import bisect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..datagram import MAX_FDS, Datagram, close_all
from ..errors import PeerProtocolError
from ..frames import MAX_PARTS, Handle, Part, Piece, Sealed, Within
from ..memory.buffer import Buffer, SealedBuffer, SharedBuffer
from ..payload import aligned, check_sealed, make_sealed, read_range
from .store import CHUNK, Store

if TYPE_CHECKING:
    from ..interface.fd import Fd

MAX_SMALL = 4096
"""Bytes of a buffer that travels in the message itself."""

MAX_WAITING = 320
"""Fds that may have come and were not looked at yet: a window of items that found no room in an arena, and some."""


class TooMuch(ValueError):
    """A message has more attachments than one can carry."""


class Outbound:
    """The attachments of one message that is being made.

    The fds in ``made`` are its own, all others the caller's. ``pieces`` are taken back by `discard`, unless they were
    lent, and the objects in ``exported`` are offered no more. With *gradually*, large buffers are left in ``copies``,
    to be copied by and by before the message is sent. ``homeless`` are those for which no arena has room, until `pack`.
    """

    __slots__ = (
        "copies",
        "exported",
        "fds",
        "gradually",
        "homeless",
        "inline",
        "made",
        "numbers",
        "parts",
        "pieces",
        "register",
        "store",
        "unregister",
    )

    def __init__(
        self,
        store: Store,
        register: Callable[[type, object], int],
        unregister: Callable[[int], None],
        *,
        gradually: bool = False,
    ) -> None:
        self.store = store
        self.register = register
        self.unregister = unregister
        self.gradually = gradually
        self.parts: list[Part] = []
        self.fds: list[int] = []
        self.numbers: list[int] = []  # of the parts to which the fds belong
        self.made: list[int] = []
        self.homeless: list[tuple[int, memoryview]] = []
        self.pieces: list[Piece] = []
        self.copies: list[tuple[Piece, memoryview]] = []
        self.exported: list[int] = []
        self.inline = 0

    def buffer(self, data: memoryview) -> int:
        """Attach *data*; return its number. `TooMuch` if there is no room for one more."""
        if not data.nbytes or (data.nbytes <= MAX_SMALL and self.inline < 8 * MAX_SMALL):  # no memory has no bytes
            self.inline += data.nbytes + 5
            return self._add(bytes(data))
        if self.gradually and data.nbytes > CHUNK and (piece := self.store.begin(data.nbytes)) is not None:
            self.copies.append((piece, data))
            return self._add_piece(piece)
        if (piece := self.store.put(data)) is not None:
            return self._add_piece(piece)
        self.homeless.append((len(self.parts), data))
        return self._add(Sealed(data.nbytes))

    def pack(self) -> None:
        """Seal what found no room in an arena: in one memfd, or where that would be over the limit in several."""
        self.store.memfds += len(self.homeless)
        while self.homeless:
            end, count = 0, 0
            for _, data in self.homeless:
                if count and aligned(end) + data.nbytes > self.store.limit:
                    break
                end, count = aligned(end) + data.nbytes, count + 1
            together, self.homeless = self.homeless[:count], self.homeless[count:]
            self._seal(together, end)

    def _seal(self, together: list[tuple[int, memoryview]], length: int) -> None:
        carrier = together[0][0]
        if len(together) > 1:
            carrier = len(self.parts)
            self.parts.append(Sealed(length))
            offset = 0
            for number, data in together:
                self.parts[number] = Within(carrier, offset, data.nbytes)
                offset = aligned(offset + data.nbytes)
        self.made.append(make_sealed(*(data for _, data in together)))
        self._add_fd(carrier, self.made[-1])

    def shared(self, buffer: SharedBuffer) -> int:
        """Attach *buffer*: by handing it over, if it was reserved here, and else by a copy; return its number."""
        piece = self.store.hand_over(buffer)
        return self.buffer(buffer.view) if piece is None else self._add_piece(piece)

    def sealed(self, buffer: SealedBuffer) -> int:
        """Attach the memory of *buffer*, which stays the caller's; return its number."""
        self._add_duplicate(buffer.fileno())
        return self._add(Sealed(len(buffer)))

    def fd(self, fd: Fd[Any]) -> int:
        """Attach *fd*, which stays the caller's; return its number."""
        self._add_duplicate(fd.fileno())
        return self._add(Handle(fd.kind))

    def export(self, interface: type, behind: object) -> int:
        """Let the other side call *behind* as long as the call lasts; return its number as a target."""
        number = self.register(interface, behind)
        self.exported.append(number)
        return number

    def _add_piece(self, piece: Piece) -> int:
        self.pieces.append(piece)
        return self._add(piece)

    def _add(self, part: Part) -> int:
        if len(self.parts) == MAX_PARTS:
            raise TooMuch(f"it has more than {MAX_PARTS} attachments")
        self.parts.append(part)
        return len(self.parts) - 1

    def _add_duplicate(self, fd: int) -> None:
        """Attach a duplicate of *fd*: until it is sent, its owner may close it or be forgotten."""
        self.made.append(os.dup(fd))
        self._add_fd(len(self.parts), self.made[-1])

    def _add_fd(self, number: int, fd: int) -> None:
        """Let *fd* belong to the part *number*. They are sent in the order of their parts."""
        if len(self.fds) == MAX_FDS:
            raise TooMuch(f"it needs more than {MAX_FDS} fds")
        place = bisect(self.numbers, number)
        self.numbers.insert(place, number)
        self.fds.insert(place, fd)

    def sent(self) -> None:
        """Close what was made for the message. Idempotent."""
        close_all(self.made)
        self.made.clear()

    def lend(self) -> None:
        """Leave it to the other side to release the pieces: they are a result, an item or a notification.

        Before it is sent, for another thread may read that they are released; `discard` takes them back if it is not.
        """
        self.store.lend(self.pieces)

    def withdraw(self) -> None:
        """Offer what was passed by reference no more; whoever calls it all the same learns that it is not offered."""
        while self.exported:
            self.unregister(self.exported.pop())

    def discard(self) -> None:
        """Close and free everything: the message is not sent, or the other side is done with it. Idempotent."""
        self.sent()
        self.withdraw()
        pieces, self.pieces = self.pieces, []
        self.store.free(pieces)


class Carrier:
    """A sealed memfd that holds several parts: its size, and how many bytes of it were not taken yet."""

    __slots__ = ("fd", "left", "size")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = self.left = 0


class Inbound:
    """The attachments of one message that has come. Owns its fds and pieces until they are taken or it is closed.

    What is *lent* belongs to a call and goes back with its answer; all else is released piece by piece.
    """

    __slots__ = (
        "buffers",
        "carriers",
        "fds",
        "fetched",
        "held",
        "known",
        "lent",
        "named",
        "parts",
        "proxies",
        "sealed_bytes",
        "store",
        "whole",
    )

    def __init__(
        self,
        store: Store,
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
        if store.copies and store.waiting + len(numbers) > MAX_WAITING:  # of a child; a host is trusted
            received.close()
            raise PeerProtocolError(f"more than {MAX_WAITING} fds came that nobody has looked at")
        self.store = store
        self.known = store.in_use
        self.named: list[Piece] = []
        for part in parts:
            if isinstance(part, Piece):
                store.expect(part)
                self.named.append(part)
        self.parts: list[Part | None] = list(parts)
        self.fds = dict(zip(numbers, received.fds, strict=True))
        received.fds.clear()
        store.waiting += len(numbers)
        self.proxies = proxies
        self.lent = lent
        self.held: list[Piece] = []
        self.buffers: list[Buffer] = []
        self.fetched: dict[int, memoryview] = {}
        self.carriers: dict[int, Carrier] = {}
        self.whole: Piece | None = None
        self.sealed_bytes = 0

    def is_too_much(self) -> bool:
        """Whether copies of what lies in memfds, with those for other calls under way, take too much of a host.

        There is no more in an arena than it has (`Store.expect`), but one memfd may be sent as often as a child likes.
        """
        if not self.fds or not self.store.copies:
            return False
        for number, fd in self.fds.items():
            part = self.parts[number]
            if isinstance(part, Sealed):  # the size may still change, if it is not sealed
                self.sealed_bytes += max(part.length, os.fstat(fd).st_size)
        self.store.sealed_bytes += self.sealed_bytes
        return self.sealed_bytes < self.store.sealed_bytes > MAX_FDS * self.store.limit

    def payload(self) -> bytes | memoryview:
        """Return the payload that is too large for the message: the first part."""
        part = self._take(0)
        if isinstance(part, Within):
            return self._within(part)
        if not isinstance(part, (Piece, Sealed)):
            raise PeerProtocolError("a message has no payload, and no part that could be one")
        if (fetched := self._fetched(0, part)) is not None:
            return fetched
        payload = self.store.read(part, self._fd(0, part), lent=self.lent)
        if isinstance(part, Piece) and not self.lent and not self.store.copies:
            self.whole = part  # it is decoded where it lies
        return payload

    def buffer(self, number: int) -> Buffer:
        """Return the buffer *number*; each can be taken once. `PeerProtocolError` if it is none."""
        part = self._take(number)
        if isinstance(part, (bytes, Within)):
            return Buffer(memoryview(part) if isinstance(part, bytes) else self._within(part))
        if not isinstance(part, (Piece, Sealed)):
            raise PeerProtocolError(f"part {number} of a message is no buffer")
        if (fetched := self._fetched(number, part)) is not None:
            return Buffer(fetched)
        return self._lending(self.store.buffer(part, self._fd(number, part), lent=self.lent))

    def shared(self, number: int) -> SharedBuffer:
        """Return the buffer *number* as it lies in the arena; one that does not lie there is as good as a copy."""
        part = self._take(number)
        if isinstance(part, Piece):
            shared = self.store.shared(part, lent=self.lent)
            if self.lent:
                self.held.append(part)
                self.buffers.append(shared)
            return shared
        if isinstance(part, (bytes, Within)):
            return SharedBuffer.of(memoryview(part) if isinstance(part, bytes) else self._within(part))
        if not isinstance(part, Sealed):
            raise PeerProtocolError(f"part {number} of a message is no buffer")
        return SharedBuffer.of(memoryview(self.store.read(part, self._fd(number, part), lent=self.lent)))

    def _within(self, part: Within) -> memoryview:
        """Return a copy of a range of a memfd that holds several; all ranges have no more bytes than that."""
        carrier = self.carriers.get(part.part)
        if carrier is None:
            sealed = self._take(part.part)
            if not isinstance(sealed, Sealed):
                raise PeerProtocolError(f"part {part.part} of a message is no memory for others")
            fd = self._fd(part.part, sealed)
            assert fd is not None
            carrier = self.carriers[part.part] = Carrier(fd)
            carrier.left = carrier.size = check_sealed(fd, self.store.limit, sealed.length)
        stop = part.offset + part.length
        if not part.length or stop > carrier.size or part.length > carrier.left:
            raise PeerProtocolError(f"bytes {part.offset} to {stop} are no part of {carrier.size} that several share")
        carrier.left -= part.length
        return memoryview(read_range(carrier.fd, part.offset, part.length))

    def _lending(self, buffer: Buffer) -> Buffer:
        if self.held and not self.store.copies:
            self.buffers.append(buffer)
        return buffer

    def _fetched(self, number: int, part: Piece | Sealed) -> memoryview | None:
        """Return what was copied by and by; else note that *part* is looked at where it lies, if it is."""
        found = self.fetched.pop(number, None)
        if isinstance(part, Piece):
            if found is not None and not self.lent:
                self.store.drop(part)
            elif found is None and self.lent and not self.store.copies:
                self.held.append(part)
        return found

    def _fd(self, number: int, part: Piece | Sealed) -> int | None:
        if not isinstance(part, Sealed):
            return None
        self.store.missed(part.length, self.known)
        return self._take_fd(number)

    def _take_fd(self, number: int) -> int:
        self.store.waiting -= 1
        return self.fds.pop(number)

    def large(self) -> list[tuple[int, Piece]]:
        """Return the pieces that are better copied by and by, with their numbers."""
        if not self.store.copies:
            return []
        found = [(number, part) for number, part in enumerate(self.parts) if isinstance(part, Piece)]
        return [(number, part) for number, part in found if part.length > CHUNK]

    def sealed(self, number: int) -> SealedBuffer:
        """Return the buffer *number* as sealed memory, which the caller owns; one that was not sealed is copied so.

        Raises:
            PeerProtocolError: it is no buffer.
            ValueError: it is empty, and there is no sealed memory of no bytes.
        """
        if not isinstance(self._part(number), Sealed):
            with self.buffer(number) as copied:
                return SealedBuffer.seal(copied.view)
        part = self._take(number)
        assert isinstance(part, Sealed)
        buffer = SealedBuffer(self._take_fd(number), self.store.limit)
        if len(buffer) != part.length:
            buffer.release()
            raise PeerProtocolError(f"sealed memory was said to have {part.length} bytes, and has others")
        return buffer

    def fd(self, number: int, kind: str) -> Fd[Any]:
        """Return the fd *number*, which must be of *kind*, as said and in truth."""
        part = self._take(number)
        if not isinstance(part, Handle) or part.kind != kind:
            raise PeerProtocolError(f"part {number} of a message is no {kind}")
        from ..interface.fd import Fd

        return Fd.received(self._take_fd(number), kind)

    def proxy(self, interface: type, number: int) -> object:
        """Return an object whose methods are calls of target *number*."""
        return self.proxies(interface, number)

    def _take(self, number: int) -> Part:
        part = self._part(number)
        self.parts[number] = None
        return part

    def _part(self, number: int) -> Part:
        part = self.parts[number] if 0 <= number < len(self.parts) else None
        if part is None:
            raise PeerProtocolError(f"a message refers to part {number}, which it does not have")
        return part

    def close(self) -> None:
        """Close and release what nobody took, and give back what was lent. Idempotent.

        `BufferError`: somebody keeps a view of something that was lent.
        """
        for number in [*self.fds]:
            os.close(self._take_fd(number))
        self.store.sealed_bytes -= self.sealed_bytes
        self.sealed_bytes = 0
        self.fetched.clear()
        while self.carriers:
            os.close(self.carriers.popitem()[1].fd)
        for piece in self.named:
            self.store.forget(piece)
        self.named.clear()
        for number, part in enumerate(self.parts):
            if isinstance(part, Piece):
                self.parts[number] = None
                if not self.lent:
                    self.store.drop(part)
        if self.whole is not None:
            self.store.unhold(self.whole)
            self.whole = None
        if self.held:
            for buffer in self.buffers:
                buffer.release()
            held, self.held = self.held, []
            self.store.give_back(held)
