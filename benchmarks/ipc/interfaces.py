"""What the host says of the plugins in ``plugin.py`` here and one folder up; a ``Plain`` one is for a SyncHost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Protocol

from belljar import Buffer, BufferLike, SharedBuffer


class Echo(Protocol):
    """What the small plugin can do."""

    async def echo(self, data: bytes) -> bytes:
        """Return *data*."""
        ...


class PlainEcho(Protocol):
    """The same without a loop."""

    def echo(self, data: bytes) -> bytes:
        """Return *data*."""
        ...


class Source(Protocol):
    """What the plugin of streams can do."""

    def items(self, count: int) -> AsyncIterator[bytes]:
        """Yield *count* items of 1 KiB."""
        ...


class PlainSource(Protocol):
    """The same without a loop."""

    def items(self, count: int) -> Iterator[bytes]:
        """Yield *count* items of 1 KiB."""
        ...


class Large(Protocol):
    """Large data, and small calls beside it."""

    async def echo(self, data: BufferLike) -> Buffer:
        """Return *data*."""
        ...

    async def small(self, data: bytes) -> bytes:
        """Return *data*."""
        ...


class Shared(Protocol):
    """Large data that the host looks at where it lies."""

    async def echo(self, data: SharedBuffer) -> SharedBuffer:
        """Return *data*."""
        ...


class PlainLarge(Protocol):
    """The same without a loop."""

    def echo(self, data: BufferLike) -> Buffer:
        """Return *data*."""
        ...
