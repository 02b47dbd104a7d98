"""How an asynchronous peer sends: at once if it can, in batches if much is under way, and never more than is read."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from ..channel.base import Channel, EndOfChannel
from ..datagram import MAX_DATAGRAM
from ..errors import CallTimeout, PeerProtocolError
from ..frames import FRAME_SPACE, MAX_BATCH, MAX_FRAMES, Frame, encode, fit, weight
from ..interface.declared import Declared
from .attachments import Outbound
from .base import Encoded, Peer
from .loops import Loop
from .outbox import MAX_QUEUED, MAX_UNREAD, CannotSend, Outbox
from .records import MAX_UNDER_WAY, Answers, NotSent, Outgoing
from .side import Side
from .store import CHUNK, Store

BATCH_FROM = 3
"""Calls in flight from which on frames are collected for one turn of the loop."""


class _Room:
    """Where callers wait for room in the queue, until the time *end* at most."""

    __slots__ = ("end", "waiter")

    def __init__(self, end: float | None) -> None:
        self.end = end
        self.waiter: Any = None


class AsyncSending(Peer):
    """The part of an `AsyncPeer` that sends."""

    def __init__(self, channel: Channel, side: Side, store: Store, offers: Mapping[int, Answers], loop: Loop) -> None:
        super().__init__(channel, side, store, offers)
        self._loop = loop
        self._batch: list[Frame] = []
        self._batch_size = 0
        self._outbox = Outbox(channel)
        self._rooms: deque[_Room] = deque()
        self._held: deque[_Room] = deque()
        self._copying = self._copying_size = 0

    @property
    def queued(self) -> int:
        """Bytes that wait for room in the channel."""
        return self._outbox.size

    def _wake(self, waiter: Any) -> None:
        self._loop.wake(waiter)

    def _post(self, frame: Frame, outbound: Outbound | None = None) -> None:
        if self.ended is not None:
            if outbound is not None:
                outbound.sent()
            return
        if outbound is not None:
            self._flush()
            self._send([frame], outbound)
        elif not self._batch and len(self._calls) < BATCH_FROM:
            self._send([frame], None)
        else:
            size = FRAME_SPACE + weight(frame)
            if self._batch_size + size > MAX_DATAGRAM:
                self._flush()
            if not self._batch:
                self._loop.soon(self._flush)
            self._batch.append(frame)
            self._batch_size += size
            if self._batch_size > MAX_BATCH or len(self._batch) == MAX_FRAMES:
                self._flush()

    def _flush(self) -> None:
        if self._batch:
            frames, self._batch, self._batch_size = self._batch, [], 0
            self._send(frames, None)

    def _send(self, frames: Sequence[Frame], outbound: Outbound | None) -> None:
        if releases := self.store.releases():
            if not (outbound and outbound.fds) and fit([*releases, *frames]):
                frames = [*releases, *frames]
            else:
                for release in releases:
                    self._send([release], None)
        self._transmit(encode(frames), outbound)

    def _transmit(self, data: bytes, outbound: Outbound | None) -> None:
        """Send one datagram, now or when there is room. `OSError`: the attachments cannot be sent, and nothing was."""
        had_room = not self._outbox.waiting
        try:
            if not self._outbox.send(data, outbound.fds if outbound is not None else ()):
                self._await_writable(had_room)
        except EndOfChannel:
            return  # what it said at last can still be read, and then comes the end
        except OSError as error:
            if outbound is not None:
                raise
            self._end_with(CannotSend(error))
        finally:
            if outbound is not None:
                outbound.sent()

    def _await_writable(self, had_room: bool) -> None:
        if had_room and self.channel.writable_fd is not None:
            self._loop.watch_writable(self.channel.writable_fd, self._drain)
        if self._outbox.size > MAX_UNREAD:
            self._broken(PeerProtocolError("it does not read what it asks for"))

    def _drain(self) -> bool:
        """Send what waits; return whether nothing waits any more."""
        try:
            self._outbox.drain()
        except EndOfChannel:
            self._outbox.clear()
        except OSError as error:  # ETOOMANYREFS, as in `_reply`; but by now who sends it waits for an answer
            self._outbox.clear()
            self._end_with(CannotSend(error))
        self._offer()
        return not self._outbox.waiting

    async def _fill(self, encoded: Encoded) -> None:
        """Copy large buffers to where they are sent from, and let others run in between.

        The message has its place meanwhile: others are sent only as far as there is room beside it.
        """
        payload, outbound = encoded
        if outbound is None or not outbound.copies:
            return
        size = len(payload or b"") + outbound.inline + MAX_DATAGRAM * len(outbound.fds)
        self._copying += 1
        self._copying_size += size
        try:
            await self._copy(outbound)
        except BaseException:
            outbound.discard()
            raise
        finally:
            self._copying -= 1
            self._copying_size -= size
            if self._rooms or self._held:
                self._loop.soon(self._offer)  # by then it is sent, if it is
        outbound.copies.clear()

    async def _copy(self, outbound: Outbound) -> None:
        for piece, data in outbound.copies:
            for start in range(0, piece.length, CHUNK):
                self.store.fill(piece, data, start, min(start + CHUNK, piece.length))
                await self._loop.pause()
                if self.ended is not None:
                    raise NotSent from self.ended

    def _has_room(self) -> bool:
        calls = len(self._calls) + len(self._given_up) + self._copying
        return calls < MAX_UNDER_WAY and self._outbox.size + self._copying_size < MAX_QUEUED

    def _is_full(self) -> bool:
        return self._outbox.size + self._copying_size > MAX_QUEUED

    @abstractmethod
    def _end_with(self, error: BaseException) -> None:
        """Nothing more is sent or read, for the reason *error*."""

    @abstractmethod
    def _look_at(self, when: float) -> None:
        """Wake, at the time *when*, those who wait for room no longer than that."""

    async def _await_room(self, method: Declared, timeout: float | None) -> float | None:
        """Wait until *method* may be called; return when its time ends. `CallTimeout` if *timeout* seconds are over."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._has_room() and self.ended is None:
            if end is not None:
                if time.monotonic() >= end:
                    text = f"{method.name!r} could not be sent within {timeout:g} s: the child does not keep up"
                    raise CallTimeout(text)
                self._look_at(end)
            await self._park_in(self._rooms, end)
        if self.ended is not None:
            raise NotSent from self.ended
        self._offer_room()  # who was woken before is the one to wake the next
        return end

    async def _await_queue(self) -> None:
        """Wait until one more answer or item may be sent: else what is not read would fill the memory."""
        while self._is_full() and self.ended is None:
            await self._park_in(self._held)

    async def _park_in(self, rooms: deque[_Room], end: float | None = None) -> None:
        room = _Room(end)
        rooms.append(room)
        try:
            await self._loop.park(room)
        finally:
            if room in rooms:
                rooms.remove(room)

    def _offer(self) -> None:
        """There may be room again."""
        self._offer_room()
        while self._held and not self._is_full():
            self._loop.wake(self._held.popleft().waiter)

    def _offer_room(self) -> None:
        if self._rooms and self._has_room():
            self._loop.wake(self._rooms.popleft().waiter)

    def _finish(self, call: Outgoing) -> None:
        super()._finish(call)
        if self._rooms:
            self._offer_room()
