"""A plugin that is busy in one C function and reads nothing meanwhile."""

from __future__ import annotations


class Busy:
    """Busy on demand."""

    def count_for_ever(self) -> int:
        """Never return, and never let go of the interpreter."""
        return sum(range(10**15))
