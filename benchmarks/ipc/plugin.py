"""The plugin of large data."""

from __future__ import annotations

from belljar import Buffer


class Large:
    """Answers with the large buffer that it was sent."""

    def echo(self, data: Buffer) -> Buffer:
        """Return *data*."""
        return data

    def small(self, data: bytes) -> bytes:
        """Return *data*."""
        return data
