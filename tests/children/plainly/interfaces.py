"""What the two sides say to each other, without a word of async."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Protocol

import msgspec

from belljar import Buffer, BufferLike, notify, raises

Text = Annotated[str, msgspec.Meta(max_length=256)]


class Odd(Exception):
    """Declared."""


class Steps(Protocol):
    """An object that the host passes."""

    def step(self, number: int) -> int: ...


class Desk(Protocol):
    """Offered by the host."""

    def twice(self, number: int) -> int:
        """Ask the plugin's `half` of four times as much."""
        ...

    def names(self, count: int) -> Iterator[str]: ...

    def store(self, chunks: Iterator[bytes]) -> int: ...

    @notify
    def note(self, text: Text) -> None: ...


class Plainly(Protocol):
    """What the plugin answers."""

    def echo(self, data: bytes) -> bytes: ...

    def copy(self, data: BufferLike) -> Buffer: ...

    def half(self, number: int) -> int: ...

    def count(self, limit: int) -> Iterator[int]: ...

    def closed(self) -> int: ...

    def total(self, numbers: Iterator[int]) -> int: ...

    def doubled(self, numbers: Iterator[int]) -> Iterator[int]: ...

    @raises(Odd)
    def even(self, number: int) -> int: ...

    def number(self, text: str) -> int: ...

    def through(self, number: int) -> int: ...

    def all_of_desk(self) -> str: ...

    def walk(self, steps: Steps, count: int) -> int: ...

    @notify
    def hint(self, text: str) -> None: ...

    def hints(self) -> list[str]: ...

    def nap(self) -> None: ...

    def hang(self) -> None: ...

    def leave(self) -> None: ...

    def talk(self) -> None: ...
