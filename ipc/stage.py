"""The numbered stages of a launch (docs/launch-order.md, kept in step by tests/test_launch_order.py)."""

from __future__ import annotations

from enum import IntEnum


class Stage(IntEnum):
    """One step of the launch. The number is its place in the order; a launch never goes back."""

    PREPARE = 1
    LAUNCH = 2
    CONFINE_EARLY = 3
    HELLO = 4
    CONFIGURE = 5
    EARLY_INIT = 6
    SEAL = 7
    VERIFY = 8
    LOAD = 9
    READY = 10

    @property
    def label(self) -> str:
        """The words of docs/launch-order.md, such as ``early init``."""
        return self.name.lower().replace("_", " ")
