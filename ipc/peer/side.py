"""What differs between host and child in a peer."""

from __future__ import annotations

from typing import Protocol

from ..frames import (
    Decode,
    Failed,
    FailureKind,
    Reply,
)
from .records import Incoming, Outgoing


class Side(Protocol):
    """What differs between host and child: how errors are told, and how they are heard."""

    @property
    def takes_many(self) -> bool:
        """Whether the other side may make many calls as one: a million small ones would keep an event loop."""
        ...

    @property
    def decode(self) -> Decode:
        """What reads a datagram of the other side."""
        ...

    def heard(self, call: Outgoing, failed: Failed) -> BaseException:
        """Return the error to raise for an answer that says the call failed."""
        ...

    def told(self, incoming: Incoming, error: BaseException) -> tuple[FailureKind, str, str, str]:
        """Return kind, type name, text and traceback with which *error* is told to the other side."""
        ...

    def refused(self) -> tuple[str, ...]:
        """Return the names of modules that the seal has refused since the last call."""
        ...

    def answered(self, call: Outgoing, answer: Reply | Failed) -> None:
        """Look at an answer before its caller does."""
        ...

    def proxy(self, interface: type, number: int, /) -> object:
        """Return an object whose methods are calls of target *number* of the other side."""
        ...

    def lost(self, incoming: Incoming, error: BaseException) -> None:
        """A notification failed with *error*, of which nobody else will hear."""
        ...
