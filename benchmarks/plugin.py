"""The plugin of the benchmarks."""

from __future__ import annotations


class Echo:
    """Answers with what it was sent."""

    def echo(self, data: bytes) -> bytes:
        """Return *data*."""
        return data
