"""What the host asks of the plugin. Each answer is checked against it, and the host never imports the plugin."""

from __future__ import annotations

from typing import Protocol

WIDTH, HEIGHT = 1920, 1080


class Painter(Protocol):
    """Draws one picture a call."""

    async def renderer(self) -> str:
        """What draws, in the words of the driver."""
        ...

    async def frame(self, turn: float, width: int, height: int) -> bytes:
        """The scene after *turn* turns, from below to above, three bytes a pixel."""
        ...
