"""What the host says of the plugin in ``plugin.py``."""

from __future__ import annotations

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


class PlainLarge(Protocol):
    """The same for a SyncHost."""

    def echo(self, data: Buffer) -> Buffer:
        """Return *data*."""
        ...
