"""What the host asks of the plugin. Each answer is checked against it, and the host never imports the plugin.

The plugin need not import it either: what it declares is compared with this when it is ready, before any call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from belljar import Buffer

WIDTH, HEIGHT = 1920, 1080


class Painter(Protocol):
    """Draws pictures."""

    async def renderer(self) -> str:
        """What draws, in the words of the driver."""
        ...

    def frames(self, turns: list[float], width: int, height: int) -> AsyncGenerator[Buffer]:
        """The scene after each of *turns*, from below to above, three bytes a pixel."""
        ...
