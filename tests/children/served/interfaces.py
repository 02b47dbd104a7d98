"""What the tests offer to a child, and what its plugin can do."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

Key = Annotated[str, msgspec.Meta(max_length=16)]


class Shelf(Protocol):
    """Keeps bytes by name."""

    def read(self, key: Key) -> bytes: ...

    def write(self, key: Key, data: bytes) -> int: ...

    def ask_back(self, depth: int) -> int:
        """Call the plugin's `deeper` from within the service."""
        ...

    def wait(self) -> None:
        """Never answer."""
        ...

    def wrong(self) -> int:
        """Answer with something that is no int."""
        ...

    def burst(self, count: int) -> list[int]:
        """Call the plugin's `double` from several tasks at once."""
        ...


class Unoffered(Protocol):
    """Offered to nobody."""

    def read(self, key: Key) -> bytes: ...
