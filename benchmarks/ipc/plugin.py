"""The plugins of ``scripts/bench ipc``."""

from __future__ import annotations

from collections.abc import Iterator

from belljar import Buffer

ITEM = bytes(1024)


class Large:
    """Answers with the large buffer that it was sent."""

    def echo(self, data: Buffer) -> Buffer:
        """Return *data*."""
        return data

    def small(self, data: bytes) -> bytes:
        """Return *data*."""
        return data


class Source:
    """Sends items."""

    def items(self, count: int) -> Iterator[bytes]:
        """Yield *count* items of 1 KiB."""
        for _ in range(count):
            yield ITEM
