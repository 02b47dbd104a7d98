"""What travels beside the msgpack of a value, and what a peer must offer for it.

In the msgpack stands only a number. Whoever encodes hands each attachment to an `Attaching`, which chooses the number;
whoever decodes asks an `Attached` for what belongs to a number that came from the other side, so it must check it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from .errors import ValueUnfit

if TYPE_CHECKING:
    from ..memory.buffer import Buffer, SealedBuffer, SharedBuffer
    from .fd import Fd


class Attaching(Protocol):
    """Takes the attachments of one value that is encoded; a peer makes one for each message."""

    def buffer(self, data: memoryview) -> int:
        """Attach *data*, contiguous bytes, and return its number. *data* stays as it is until the message was sent."""
        ...

    def shared(self, buffer: SharedBuffer) -> int:
        """Attach *buffer*, and hand it over if it is of the memory that both sides map; return its number."""
        ...

    def sealed(self, buffer: SealedBuffer) -> int:
        """Attach *buffer*, which stays its owner's: the other side gets the same memory. Return its number."""
        ...

    def fd(self, fd: Fd[Any]) -> int:
        """Attach an `Fd` and return its number. It stays its owner's: the other side gets a duplicate."""
        ...

    def export(self, interface: type, behind: object) -> int:
        """Offer the methods of *interface* of the object *behind* to the other side; return the reference's number."""
        ...


class Attached(Protocol):
    """The attachments of one value that is decoded. A number that it does not know is the peer's fault."""

    def buffer(self, number: int) -> Buffer:
        """Return the `Buffer` with this number."""
        ...

    def shared(self, number: int) -> SharedBuffer:
        """Return the `Buffer` with this number as it lies in memory that the other side may still change."""
        ...

    def sealed(self, number: int) -> SealedBuffer:
        """Return the `SealedBuffer` with this number, which is the caller's."""
        ...

    def fd(self, number: int, kind: str) -> Fd[Any]:
        """Return the `Fd` with this number; `ValueUnfit` if it is not of this kind. The caller owns it."""
        ...

    def proxy(self, interface: type, number: int) -> object:
        """Return an object whose methods call those of the object that the other side offers by this number."""
        ...


class NothingAttached:
    """What there is where nothing came: adapters that need no attachment do without. `ValueUnfit`."""

    def buffer(self, number: int) -> Buffer:
        """See `Attached`."""
        return self._refuse()

    def shared(self, number: int) -> SharedBuffer:
        """See `Attached`."""
        return self._refuse()

    def sealed(self, number: int) -> SealedBuffer:
        """See `Attached`."""
        return self._refuse()

    def fd(self, number: int, kind: str) -> Fd[Any]:
        """See `Attached`."""
        return self._refuse()

    def proxy(self, interface: type, number: int) -> object:
        """See `Attached`."""
        return self._refuse()

    def _refuse(self) -> NoReturn:
        raise ValueUnfit("nothing was attached")


NOTHING_ATTACHED = NothingAttached()
