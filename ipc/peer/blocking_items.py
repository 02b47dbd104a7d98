"""Streams as a thread sees them: results to be read, and uploads to be read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import StreamBroken
from .records import Incoming, Outgoing, Reader

if TYPE_CHECKING:
    from .blocking import BlockingPeer


class ItemsOut(Iterator[Any]):
    """The results of a stream that was called. Read it to its end, or close it; one that is dropped is given up."""

    def __init__(self, peer: BlockingPeer, call: Outgoing) -> None:
        assert call.reader is not None
        self._peer, self._call, self._reader = peer, call, call.reader
        self._is_closed = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __enter__(self) -> ItemsOut:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> Any:
        call, reader = self._call, self._reader
        if not reader.items and not reader.ended:
            end = None if call.timeout is None else time.monotonic() + call.timeout
            self._peer._await(call, reader.has_news, end)
        if reader.items:
            return self._peer.next_item(call.call_id, 0, reader, call.declared.item)
        if not self._is_closed:
            self._is_closed = True
            self._peer._outcome(call)
        raise StopIteration

    def close(self) -> None:
        """Give the stream up if it is not over. Idempotent."""
        self._is_closed = True
        self._peer._give_up(self._call)  # first: no more items come then
        self._reader.close()
        self._reader.ended = True

    def __del__(self) -> None:
        if not self._is_closed:
            self._peer.abandon(self._call)


class ItemsIn(Iterator[Any]):
    """A stream of the caller's, as the method sees it that was called with it."""

    def __init__(self, peer: BlockingPeer, incoming: Incoming, position: int, reader: Reader) -> None:
        self._peer, self._incoming, self._position, self._reader = peer, incoming, position, reader

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        reader = self._reader
        if not reader.items and not reader.ended:
            self._peer._wait(reader.has_news)
        if reader.items:
            codec = self._incoming.answer.declared.upload[self._position]
            return self._peer.next_item(self._incoming.call_id, self._position + 1, reader, codec)
        if self._peer.ended is not None:
            raise self._peer.ended
        if reader.failure:
            raise StreamBroken(reader.failure)
        raise StopIteration
