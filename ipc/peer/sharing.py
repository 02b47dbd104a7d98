"""The shared memory of a child and its host, as far as they speak of it: arenas come and go, pieces are released."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ..channel.base import Channel
from ..datagram import Datagram
from ..errors import PeerProtocolError
from ..frames import (
    Attached,
    Release,
    Share,
    Trim,
    Unshare,
)
from ..memory.arena import Arena
from ..memory.buffer import SharedBuffer
from .attachments import Outbound
from .records import Answers
from .side import Side
from .store import Store
from .tables import Tables


class Sharing(Tables):
    """The part of a peer that knows its `Store`."""

    def __init__(self, channel: Channel, side: Side, store: Store, offers: Mapping[int, Answers]) -> None:
        super().__init__(channel, side, store, offers)
        store.share = self.share
        self._takers |= {
            Release: self._take_release,
            Unshare: self._take_unshare,
            Attached: self._take_attached,
            Share: self._take_share,
            Trim: self._take_trim,
        }

    def _take_release(self, frame: Release, received: Datagram) -> None:
        self._unshare(self.store.released(frame.generation, frame.offsets))

    def _take_unshare(self, frame: Unshare, received: Datagram) -> None:
        self.store.unshared(frame.generation)

    def _take_attached(self, frame: Attached, received: Datagram) -> None:
        self._unshare(self.store.attached(frame.generation))

    def _take_share(self, frame: Share, received: Datagram) -> None:
        if len(received.fds) != 1:
            raise PeerProtocolError(f"an arena came with {len(received.fds)} fds")
        readable = frame.written_by == "host"
        try:
            self._unshare(self.store.attach(received.take_fd(), frame.size, frame.generation, writable=not readable))
        except OSError:  # no address space left for it, perhaps: memfds will do
            return
        if readable:
            self._post(Attached(frame.generation))

    def _take_trim(self, frame: Trim, received: Datagram) -> None:
        self._unshare(self.store.trim())

    def reserve(self, length: int) -> SharedBuffer | None:
        """See `Store.reserve`."""
        return self.store.reserve(length)

    def trim(self) -> None:
        """Give memory back, on both sides, that is kept for later."""
        self._unshare(self.store.trim())
        self._post(Trim())

    def _unshare(self, generations: list[int]) -> None:
        for generation in generations:
            self._post(Unshare(generation))

    def share(self, arena: Arena, written_by: Literal["host", "child"]) -> None:
        """Send *arena* to the other side."""
        outbound = Outbound(self.store, self._register, self._unregister)
        outbound.fds.append(arena.fd)
        self._post(Share(arena.generation, arena.size, written_by), outbound)
