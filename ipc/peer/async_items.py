"""Streams as an event loop sees them: results to be read, uploads to be read, and whatever can be iterated over."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from ..errors import StreamBroken
from ..interface.declared import Declared
from .records import EXPLAINED, Incoming, Outgoing, Reader

if TYPE_CHECKING:
    from .asynchronous import AsyncPeer


class ItemsOut(AsyncIterator[Any]):
    """The results of a stream, which is called when the first is asked for.

    Read it to its end, or close it; ``async with`` does. One that is dropped is given up when it is collected.
    """

    def __init__(
        self, peer: AsyncPeer, target: int, method: Declared, arguments: tuple[Any, ...], timeout: float | None
    ) -> None:
        self._peer = peer
        self._begin = (target, method, arguments, timeout)
        self._call: Outgoing | None = None
        self._reader = Reader(0)
        self._is_closed = False

    def __aiter__(self) -> ItemsOut:
        return self

    async def __aenter__(self) -> ItemsOut:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def __anext__(self) -> Any:
        call, reader = self._call, self._reader
        try:
            if call is None:
                call, reader = await self._open()
                if self._is_closed:  # meanwhile, by another task
                    self._close()
            if not reader.items and not reader.ended:
                await self._peer.await_items(call, reader)
            if reader.items:
                if (inbound := reader.items[0][1]) is not None and call.declared.item is not None:
                    await self._peer._fetch(inbound, call.declared.item)
                if not self._is_closed:  # meanwhile, by another task
                    return self._peer.next_item(call.call_id, 0, reader, call.declared.item)
            if not self._is_closed:
                self._is_closed = True
                self._peer._outcome(call)
        except EXPLAINED as error:
            raise await self._peer._explain(self._begin[1].name, error) from error.__cause__
        raise StopAsyncIteration

    async def _open(self) -> tuple[Outgoing, Reader]:
        if self._is_closed:
            raise StopAsyncIteration
        self._call = await self._peer.begin(*self._begin)
        assert self._call.reader is not None
        self._reader = self._call.reader
        return self._call, self._reader

    async def aclose(self) -> None:
        """Give the stream up if it is not over. Idempotent."""
        self._close()

    def _close(self) -> None:
        self._is_closed = True
        self._reader.close()
        self._reader.ended = True
        self._peer._wake(self._reader.waiter)
        if self._call is not None:
            self._peer._give_up(self._call)

    def __del__(self) -> None:
        if self._call is not None and not self._is_closed:
            self._peer.abandon(self._call)


class ItemsIn(AsyncIterator[Any]):
    """A stream of the caller's, as the method sees it that was called with it."""

    def __init__(self, peer: AsyncPeer, incoming: Incoming, position: int, reader: Reader) -> None:
        self._peer, self._incoming, self._position, self._reader = peer, incoming, position, reader

    def __aiter__(self) -> ItemsIn:
        return self

    async def __anext__(self) -> Any:
        reader = self._reader
        while not reader.items and not reader.ended:
            await self._peer._loop.park(reader)
        if reader.items:
            codec = self._incoming.answer.declared.upload[self._position]
            return self._peer.next_item(self._incoming.call_id, self._position + 1, reader, codec)
        if reader.failure:
            raise StreamBroken(reader.failure)
        raise StopAsyncIteration


async def asynchronously(items: Any) -> AsyncGenerator[Any]:
    """Yield *items*, asynchronous or not; what is behind them is closed too, so that its finally blocks run."""
    try:
        if hasattr(items, "__aiter__"):
            async for item in items:
                yield item
        else:
            for item in items:
                yield item
    finally:
        if hasattr(items, "aclose"):
            await items.aclose()
        elif hasattr(items, "close"):
            items.close()
