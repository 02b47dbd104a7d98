"""What the host says of the plugins in ``plugin.py``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from belljar import Buffer


class Large(Protocol):
    """Large data, and small calls beside it."""

    async def echo(self, data: Buffer) -> Buffer:
        """Return *data*."""
        ...

    async def small(self, data: bytes) -> bytes:
        """Return *data*."""
        ...


class Source(Protocol):
    """A stream."""

    def items(self, count: int) -> AsyncIterator[bytes]:
        """Yield *count* items of 1 KiB."""
        ...
