"""A step that never ends."""

from __future__ import annotations

import signal


def hangs() -> None:
    """Wait for ever."""
    signal.pause()
