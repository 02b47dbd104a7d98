"""Streams: items come only as far as there is credit for them, and who has read some gives more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..channel.base import Channel
from ..datagram import Datagram
from ..errors import PeerProtocolError, printable
from ..frames import (
    Credit,
    End,
    Items,
)
from ..interface.codec import Codec
from ..interface.errors import ArgumentsUnfit, ValueUnfit
from .attachments import Inbound
from .records import Answers, Incoming, Reader, Writer, window_of
from .side import Side
from .store import Store
from .tables import Tables, close

MAX_EXPECTED = 512
"""Items that uploads may have on their way before new ones get smaller windows: each may have 64 KiB."""

MIN_WINDOW = 4


class Streaming(Tables):
    """The part of a peer that knows streams; its engines write them."""

    def __init__(self, channel: Channel, side: Side, store: Store, offers: Mapping[int, Answers]) -> None:
        super().__init__(channel, side, store, offers)
        self._takers |= {Items: self._take_items, Credit: self._take_credit, End: self._take_end}

    def _expect_uploads(self, incoming: Incoming) -> None:
        uploads = {number - 1 for number in incoming.frame.uploads}
        open_now = len(uploads) + sum(len(each.readers) for each in self._answering.values())
        window = max(MIN_WINDOW, min(window_of(incoming.answer.declared), MAX_EXPECTED // open_now))
        incoming.readers = {position: Reader(window) for position in uploads}
        for position in incoming.readers:
            self._post(Credit(incoming.call_id, position + 1, window))

    def _take_items(self, frame: Items, received: Datagram) -> None:
        reader = self._reader(frame.call_id, frame.stream)
        inbound = self._inbound(frame.parts, received, lent=False)
        if reader is None:
            close(inbound)
            return
        count = len(frame.payloads) or 1
        reader.granted -= count
        if reader.granted < 0 or reader.ended or (inbound is not None and count != 1):
            close(inbound)
            raise PeerProtocolError(f"items of stream {frame.stream} of call {frame.call_id} came without credit")
        if inbound is None:
            if not frame.payloads:  # it would wake a reader who finds nothing
                raise PeerProtocolError(f"items of stream {frame.stream} of call {frame.call_id} came without any")
            reader.items.extend([(payload, None) for payload in frame.payloads])
        else:
            reader.items.append((frame.payloads[0] if frame.payloads else None, inbound))
        self._wake(reader.waiter)

    def _reader(self, call_id: int, stream: int) -> Reader | None:
        """Return the reader of a stream; None if it has just gone. `PeerProtocolError` if it was never there."""
        if stream:
            incoming = self._answering.get(call_id)
            if incoming is None and call_id <= self._last_call:
                return None
            reader = incoming.readers.get(stream - 1) if incoming is not None else None
        else:
            if call_id in self._given_up:
                return None
            call = self._calls.get(call_id)
            reader = call.reader if call is not None else None
        if reader is None:
            raise PeerProtocolError(f"call {call_id} has no stream {stream} to be read here")
        return reader

    def _take_credit(self, frame: Credit, received: Datagram) -> None:
        writer: Writer | None
        if frame.stream:
            call = self._calls.get(frame.call_id) or self._given_up.get(frame.call_id)
            writer = call.writers.get(frame.stream - 1) if call is not None else None
            gone = call is None and frame.call_id <= self._newest_call
        else:
            incoming = self._answering.get(frame.call_id)
            streams = incoming is not None and incoming.answer.declared.kind == "stream"
            writer = incoming.writer if incoming is not None and streams else None
            gone = incoming is None and frame.call_id <= self._last_call
        if writer is None:
            if gone:
                return
            raise PeerProtocolError(f"call {frame.call_id} has no stream {frame.stream} to be written here")
        writer.credit += frame.count
        if writer.credit > 1 << 20:
            raise PeerProtocolError(f"stream {frame.stream} of call {frame.call_id} got endless credit")
        self._wake(writer.waiter)

    def _take_end(self, frame: End, received: Datagram) -> None:
        reader = self._reader(frame.call_id, frame.stream)
        if frame.stream == 0:
            raise PeerProtocolError("a stream of results ends with the answer")
        if reader is not None:
            reader.ended, reader.failure = True, printable(frame.text)
            self._wake(reader.waiter)

    def next_item(self, call_id: int, stream: int, reader: Reader, codec: Codec | None) -> Any:
        """Return the next item of a stream, which must be there, and give the writer new credit."""
        assert codec is not None
        entry = reader.take()
        if count := reader.to_grant():
            self._post(Credit(call_id, stream, count))
        try:
            return decode_item(codec.decode, entry)
        except ValueUnfit as error:
            if stream:  # of the caller's, and so one of its arguments
                incoming = self._answering.get(call_id)
                which = "" if incoming is None else f" {incoming.answer.declared.parameters[stream - 1].name!r}"
                raise ArgumentsUnfit(f"an item of argument{which}: {error}") from None
            raise
        except PeerProtocolError as error:
            self._broken(error)
            raise


def decode_item(decode: Callable[..., Any], entry: tuple[bytes | None, Inbound | None]) -> Any:
    """Return an item of a stream from what came of it."""
    payload, inbound = entry
    if inbound is None:
        return decode(payload, None)
    try:
        return decode(inbound.payload() if payload is None else payload, inbound)
    finally:
        inbound.close()
