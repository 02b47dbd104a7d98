"""What host and plugin say to each other; both import it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

import msgspec
import numpy as np

from belljar import BufferLike, raises


class NotAVideo(ValueError):
    """The plugin cannot decode this; the text is one sentence for people."""


class Frame(msgspec.Struct, frozen=True):
    """One picture: lines of pixels of red, green and blue. *total* is how many there will be, 0 if nobody knows."""

    pixels: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]
    total: int = 0


class State(msgspec.Struct, frozen=True):
    """How many frames were decoded so far, and whether the generator that does so is open."""

    decoded: int
    is_open: bool


class Decoder(Protocol):
    """Decodes one video at a time."""

    @raises(NotAVideo)
    def frames(self, film: BufferLike, times: int) -> AsyncGenerator[Frame]:
        """The frames of *film*, so many *times* over."""
        ...

    @raises(NotAVideo)
    def decode(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[Frame]:
        """The frames of a film that is still coming, as from a network: MPEG-TS, Matroska, WebM."""
        ...

    async def state(self) -> State:
        """Answered between two frames, or while the next must wait."""
        ...
