"""The plugins of the benchmarks."""

from __future__ import annotations

from collections.abc import Iterator

ITEM = bytes(1024)


class Echo:
    """Answers with what it was sent."""

    def echo(self, data: bytes) -> bytes:
        """Return *data*."""
        return data


class Source:
    """Sends items."""

    def items(self, count: int) -> Iterator[bytes]:
        """Yield *count* items of 1 KiB."""
        for _ in range(count):
            yield ITEM
