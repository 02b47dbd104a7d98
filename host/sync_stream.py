"""The stream of a `SyncHost`: the call is made with the first item, and given up with the last reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from ..ipc.peer.blocking_items import ItemsOut
from ..ipc.peer.shared import SharedPeer

_OVER = object()


class SyncStream(Iterator[Any]):
    """The items of one call. Read them to the end, `close` it, or let it go, as with a generator.

    It is none, because the collector closes a dropped generator wherever it happens to run, also in a thread that holds
    a lock of ours, and to give a call up takes another one. Its `ItemsOut` is left to who holds none.

    Args:
        calling: Enters a call and yields its peer; errors come out in the caller's words.
        begin: Makes the call.
    """

    def __init__(
        self, calling: Callable[[], AbstractContextManager[SharedPeer]], begin: Callable[[SharedPeer], ItemsOut]
    ) -> None:
        self._calling, self._begin = calling, begin
        self._items: ItemsOut | None = None
        self._is_over = False

    def __next__(self) -> Any:
        if self._is_over:
            raise StopIteration
        item = _OVER
        try:
            with self._calling() as peer:
                if self._items is None:
                    self._items = self._begin(peer)
                item = next(self._items, _OVER)
        finally:
            if item is _OVER:  # or an error is on its way
                self.close()
        if item is _OVER:
            raise StopIteration
        return item

    def close(self) -> None:
        """Give the call up if it is not over. Idempotent."""
        self._is_over = True
        items, self._items = self._items, None
        if items is not None:
            items.close()
