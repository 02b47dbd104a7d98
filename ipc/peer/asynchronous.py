"""The engine for event loops: any number of calls in flight, each answered by a task of its own.

Nothing here blocks. What the channel does not take now waits in a bounded queue, and callers wait for room in it. With
several calls in flight the frames of one turn of the loop share a datagram.
"""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

from ..channel.base import Channel, EndOfChannel
from ..datagram import MAX_DATAGRAM
from ..errors import CallCancelled, CallTimeout, PeerProtocolError
from ..frames import (
    End,
    Items,
    Notify,
    Part,
    Shutdown,
    weight,
)
from ..interface.codec import Codec
from ..interface.declared import Declared
from ..interface.errors import ArgumentsUnfit, ValueUnfit
from ..messages import MAX_INLINE
from .async_items import ItemsIn, ItemsOut, asynchronously
from .async_sending import AsyncSending
from .attachments import Inbound
from .base import NOTHING, Encoded, Peer
from .loops import Loop, apart
from .records import EXPLAINED, Answers, Incoming, NotSent, Outgoing, Reader, Writer
from .side import Side
from .store import CHUNK, Store

READS = 64
"""Datagrams that are taken in one turn of the loop."""

MOST_LUCK = 8
"""Calls in a row whose answers were not there at once, after which nobody looks at once for the next `LATER` ones."""

LATER = 256

TURN = 1e-3
"""Seconds after which one that never has to wait, for an answer or for room, lets others run."""

MAX_NOTICES = 256
"""Notifications that are heard at the same time; what comes behind more of them waits for its turn."""

MAX_UNHEARD = 1 << 20
"""Bytes that may wait so; while there are more, the channel is not read. An fd counts as much as a datagram.

It is read until then, for the answers that those which are heard may wait for.
"""

UNHEARD_SPACE = 512
"""Bytes that one that waits takes beside its own."""

_answered: ContextVar[tuple[tuple[Peer, Incoming], ...]] = ContextVar("_answered", default=())
"""The calls that the current task answers, the innermost last."""


def current_call() -> Incoming | None:
    """Return the call that this task answers, or the one that a thread of `asyncio.to_thread` works for."""
    answered = _answered.get()
    return answered[-1][1] if answered else None


class AsyncPeer(AsyncSending):
    """A peer for one event loop. *broke* hears of a breach of the protocol or of the end, once.

    *late* hears of a call that was given up and that the other side does not end within *grace* seconds.
    """

    gradually = True

    def __init__(
        self,
        channel: Channel,
        side: Side,
        store: Store,
        offers: Mapping[int, Answers],
        *,
        loop: Loop,
        broke: Callable[[BaseException], None],
        late: Callable[[Outgoing], None],
        explain: Callable[[str, Exception], Awaitable[Exception]],
        grace: float,
        concurrent: bool = False,
    ) -> None:
        super().__init__(channel, side, store, offers, loop)
        self._broke = broke
        self._late = late
        self._explain = explain
        self._grace = grace
        self._concurrent = concurrent
        self._next_look: float | None = None
        self._notices = 0
        self._unheard: deque[tuple[Incoming, int]] = deque()
        self._unheard_size = 0
        self._watched: int | None = None
        self._is_paused = False
        self._luck = MOST_LUCK
        self._turn_ends = 0.0
        self._says_so_again = channel.writable_fd is not None

    def start(self) -> None:
        """Read the channel from now on; first what is there: zmq tells of it once, and `send` may have heard that."""
        self._watched = self.channel.fileno()
        self._loop.watch(self._watched, self._readable)
        self._loop.soon(self._readable)

    def _unwatch(self) -> None:
        """Look no more whether the channel is readable: while nobody reads it, it would always be."""
        if self._watched is not None:
            self._loop.unwatch(self._watched)
            self._watched = None

    async def close(self) -> None:
        """End all tasks; the channel stays open."""
        if self.ended is None:
            self.hear_out()
        self.end(EndOfChannel())
        self._give_up_abandoned()
        while self._unheard:
            self._close_call(self._next_unheard())
        await self._loop.close()
        self._outbox.clear()

    async def shut_down(self) -> None:
        """Ask the other side to end once it has answered what it was asked before."""
        self._flush()
        self._send([Shutdown()], None)

    # Reading.

    def _readable(self) -> None:
        if self._is_paused:
            return
        try:
            for _ in range(READS):
                if self.ended is not None:
                    return
                received = self.channel.receive()
                if received is None:
                    break
                self.take(received)
                if self._unheard_size > MAX_UNHEARD:
                    self._is_paused = True
                    self._unwatch()
                    break
                if self._says_so_again and not self._calls:
                    break
            else:
                self._loop.soon(self._readable)
        except (EndOfChannel, PeerProtocolError) as error:
            self._end_with(error)
            return
        if self._outbox.waiting and self.channel.writable_fd is None:
            self._drain()
        self._give_up_abandoned()

    def _has_ended(self) -> bool:
        return self.ended is not None

    def _broken(self, error: PeerProtocolError) -> None:
        self._end_with(error)

    def _end_with(self, error: BaseException) -> None:
        if self.ended is None:
            self.end(error)
            self._broke(error)

    def end(self, error: BaseException) -> None:
        """Nothing more will come: all that wait get *error*, and all that is answered is cancelled."""
        super().end(error)
        self._unwatch()
        for incoming in list(self._answering.values()):
            if incoming.handle is not None:
                self._loop.cancel(incoming.handle)
        for room in (*self._rooms, *self._held):
            self._loop.wake(room.waiter)

    # Calling.

    async def call(
        self,
        target: int,
        method: Declared,
        arguments: tuple[Any, ...],
        timeout: float | None = None,
    ) -> Any:
        """Call *method* of *target* and return its result. See `Side.heard` for errors."""
        try:
            if timeout is not None and timeout <= 0:  # else it would depend on how quick the answer is
                raise CallTimeout(f"{method.name!r} did not answer within {timeout:g} s")
            call = self._call_at_once(target, method, arguments, timeout) if not self._calls else None
            if call is None:
                end = None
                if not self._has_room() or self.ended is not None:
                    end = await self._await_room(method, timeout)
                encoded = self._encoded(method, arguments)
                if encoded[1] is not None:
                    await self._fill(encoded)
                call = self._send_call(target, method, encoded, arguments, timeout, end=end)
            try:
                if not call.done and not call.is_quick:  # what is quick has tried
                    self._try_luck()
                if not call.done:
                    await self._loop.park(call)
                elif time.monotonic() > self._turn_ends:
                    await self._take_turns()
                if call.inbound is not None:
                    await self._fetch(call.inbound, method.result)
            except BaseException:
                self._give_up(call)
                raise
            return self._outcome(call)
        except EXPLAINED as error:
            raise await self._explain(method.name, error) from error.__cause__

    def _call_at_once(
        self, target: int, method: Declared, arguments: tuple[Any, ...], timeout: float | None
    ) -> Outgoing | None:
        """Send a call that is alone and has nothing attached; None, and nothing was done, if this one is not so.

        A short way, in one piece, for what `_send_call` and `_post` do for all calls: see `BlockingChild`.
        """
        if not method.is_simple or self._batch or self._outbox.waiting or self._given_up or self.ended is not None:
            return None
        if self.store.may_release or self._copying or _answered.get():
            return None
        payload = method.encode_arguments(arguments)
        if len(payload) > MAX_INLINE:
            return None
        call, data = self._begin_at_once(target, method, payload, timeout)
        self._transmit(data, None)
        if timeout is not None:
            call.deadline = time.monotonic() + timeout
            if self._next_look is None or call.deadline < self._next_look:
                self._look_at(call.deadline)
        self._try_luck()
        return call

    def _settle_at_once(self, call: Outgoing) -> None:
        super()._settle_at_once(call)
        if self._rooms:
            self._offer_room()

    async def _take_turns(self) -> None:
        await self._loop.pause()
        self._turn_ends = time.monotonic() + TURN

    async def _fetch(self, inbound: Inbound, codec: Codec) -> None:
        """Copy large pieces to private memory, and let others run in between. What is shared is not to be copied."""
        if codec.shares:
            return
        for number, piece in inbound.large():
            if inbound.parts[number] is None:  # closed meanwhile, and the child may write there
                return
            source, memory = self.store.look(piece), self.store.take(piece.length)
            for start in range(0, piece.length, CHUNK):
                memory[start : start + CHUNK] = source[start : start + CHUNK]
                await self._loop.pause()
            inbound.fetched[number] = memory

    def _try_luck(self) -> None:
        """Read at once, in case that the answer is there already; do so less often the more often it is not.

        On one core the kernel runs the child as soon as it has something to read, so a quick child has answered by the
        time that sending returns, and the loop need not turn at all.
        """
        if self._luck < 0:
            self._luck += 1
        elif len(self._calls) == 1:
            self._readable()
            if not self._calls:
                self._luck = MOST_LUCK
            elif self._luck == 0:
                self._luck = -LATER
            else:
                self._luck -= 1

    def stream(
        self, target: int, method: Declared, arguments: tuple[Any, ...], timeout: float | None = None
    ) -> ItemsOut:
        """Return the stream *method* of *target*; *timeout* is the longest time to wait for one item."""
        return ItemsOut(self, target, method, arguments, timeout)

    async def begin(
        self,
        target: int,
        method: Declared,
        arguments: tuple[Any, ...],
        timeout: float | None = None,
        *,
        many: bool = False,
    ) -> Outgoing:
        """Send a call as soon as there is room for one; `finish` it, or `give_up`."""
        try:
            end = None
            if not self._has_room() or self.ended is not None:
                end = await self._await_room(method, timeout)
            encoded = self._encoded(method, arguments, many=many)
            await self._fill(encoded)
            count = len(arguments) if many else 0
            return self._send_call(target, method, encoded, arguments, timeout, many=count, end=end)
        except EXPLAINED as error:
            raise await self._explain(method.name, error) from error.__cause__

    async def finish(self, call: Outgoing) -> Any:
        """Wait for the outcome of *call* and return it."""
        try:
            if not call.done:
                await self._loop.park(call)
            if call.inbound is not None:
                await self._fetch(call.inbound, call.declared.result)
            return self._outcome(call)
        except EXPLAINED as error:
            raise await self._explain(call.declared.name, error) from error.__cause__
        finally:
            self._give_up(call)

    def give_up(self, call: Outgoing) -> None:
        """Nobody waits for *call* any more; nothing, if it is done."""
        self._give_up(call)

    async def await_items(self, call: Outgoing, reader: Reader) -> None:
        """Wait for an item of *call*, or its end; without either in time, and if cancelled, the call is given up.

        It is over for whoever waits next, too: nothing more will come.
        """
        if call.timeout is not None:
            self._set_deadline(call, time.monotonic() + call.timeout)
        try:
            await self._loop.park(reader)
        except BaseException:
            if not call.done:
                name = call.declared.name
                call.error = CallCancelled(f"{name!r} was given up, for a wait for an item of it was cancelled")
                self._give_up(call)
                self._settle(call)
            raise
        finally:
            call.deadline = None

    async def notify(
        self, target: int, method: Declared, arguments: tuple[Any, ...], timeout: float | None = None
    ) -> None:
        """Tell *target* something, without an answer. `CallTimeout` if there is no room for it for so long."""
        try:
            if not self._has_room() or self.ended is not None:
                await self._await_room(method, timeout)
            payload, outbound = encoded = self._encoded(method, arguments)
            await self._fill(encoded)
            frame = Notify(target, method.name, payload, tuple(outbound.parts) if outbound else ())
            self._post_lending(frame, outbound, ArgumentsUnfit)
        except EXPLAINED as error:
            raise await self._explain(method.name, error) from error.__cause__

    def _send_call(
        self,
        target: int,
        method: Declared,
        encoded: Encoded,
        arguments: tuple[Any, ...],
        timeout: float | None,
        *,
        many: int = 0,
        end: float | None = None,
    ) -> Outgoing:
        """Send a call; its time is over at *end*, or *timeout* seconds from now."""
        if self.ended is not None:  # since there was room
            if encoded[1] is not None:
                encoded[1].discard()
            raise NotSent from self.ended
        chain = _answered.get()
        runs = next((incoming for peer, incoming in reversed(chain) if peer is self), None) if chain else None
        uploads = method.uploads_of(arguments) if method.uploads else ()
        call, frame = self._begin(target, method, encoded, timeout, runs, many=many, uploads=uploads)
        call.chain = chain
        self._post_call(call, frame)
        for position in uploads:
            call.uploads = [*call.uploads, self._loop.spawn(self._upload, call, position, arguments[position])]
        if timeout is not None and method.kind != "stream":
            self._set_deadline(call, time.monotonic() + timeout if end is None else end)
        return call

    def _set_deadline(self, call: Outgoing, when: float) -> None:
        call.deadline = when
        self._look_at(when)

    def _look_at(self, when: float) -> None:
        """Look at all deadlines at the time *when*. There is one timer for all calls: most are long gone by then.

        The look sets it anew, also if it comes too early: the clocks of some loops are behind by part of a turn.
        """
        if self._next_look is None or when < self._next_look:
            self._next_look = when
            self._loop.later(max(0.0, when - time.monotonic()), self._look)

    def _look(self) -> None:
        now = time.monotonic()
        self._next_look = None
        for call in [call for call in self._calls.values() if call.deadline is not None and call.deadline <= now]:
            call.error = self._timed_out(call)
            self._give_up(call)
            self._settle(call)
        if self._given_up:
            late = self.overdue(now, self._grace, concurrent=self._concurrent)
            if late is not None:
                self._late(late)
            self._look_at(now + self._grace / 4)
        for room in [room for room in self._rooms if room.end is not None and room.end <= now]:
            self._loop.wake(room.waiter)
        deadlines = [call.deadline for call in self._calls.values() if call.deadline is not None]
        deadlines += [room.end for room in self._rooms if room.end is not None and room.end > now]
        if deadlines:
            self._look_at(min(deadlines))

    def _give_up(self, call: Outgoing) -> None:
        super()._give_up(call)
        if self._given_up:
            self._look_at(time.monotonic() + self._grace / 4)

    def _stop_upload(self, upload: Any) -> None:
        self._loop.cancel(upload)

    async def _upload(self, call: Outgoing, position: int, items: Any) -> None:
        """Send the stream that is an argument of *call*."""
        writer, text = call.writers[position], ""
        codec = call.declared.upload[position]
        try:
            async with aclosing(asynchronously(items)) as each:
                async for item in each:
                    await self._write(writer, codec, item, call.call_id, position + 1)
        except Exception as error:  # noqa: BLE001 - the edge of foreign code: the caller gets it, see _outcome
            text = self._upload_failed(call, position, error)
        except BaseExceptionGroup as group:
            failed, rest = apart(group)
            if failed is not None:
                self._upload_failed(call, position, failed)
            raise rest from group.__cause__
        self._post(End(call.call_id, position + 1, text))

    async def _write(self, writer: Writer, codec: Codec, item: Any, call_id: int, stream: int) -> None:
        if time.monotonic() > self._turn_ends:  # else one who reads as fast as this writes would keep the loop
            await self._take_turns()
        while writer.credit <= 0 and self.ended is None:
            await self._loop.park(writer)
        await self._await_queue()
        if self.ended is not None:
            raise self.ended
        payload, outbound = encoded = self._encode(codec.encode, item, ValueUnfit, plain=codec.plain)
        writer.credit -= 1
        parts: tuple[Part, ...] = ()
        if outbound is not None:
            await self._fill(encoded)
            parts = tuple(outbound.parts)
        self._post_lending(Items(call_id, stream, () if payload is None else (payload,), parts), outbound, ValueUnfit)

    # Answering.

    def _start(self, incoming: Incoming) -> None:
        if self._unheard or (incoming.call_id == 0 and self._notices >= MAX_NOTICES):
            fds = len(incoming.inbound.fds) if incoming.inbound is not None else 0
            size = UNHEARD_SPACE + weight(incoming.frame) + MAX_DATAGRAM * fds
            self._unheard.append((incoming, size))
            self._unheard_size += size
        else:
            self._hear(incoming)

    def _hear(self, incoming: Incoming) -> None:
        if incoming.call_id == 0:
            self._notices += 1
        incoming.handle = self._loop.spawn(self._run, incoming)
        if incoming.cancelled:
            self._cancelled(incoming)

    def _next_unheard(self) -> Incoming:
        incoming, size = self._unheard.popleft()
        self._unheard_size -= size
        return incoming

    def _cancelled(self, incoming: Incoming) -> None:
        if incoming.handle is not None:
            self._loop.cancel(incoming.handle)

    async def _run(self, incoming: Incoming) -> None:
        """Answer *incoming*; whatever the method does, the call gets one answer."""
        outer = self._calls.get(incoming.frame.within)
        _answered.set((*(outer.chain if outer is not None else ()), (self, incoming)))
        try:
            encoded = await self._answer(incoming)
            if incoming.answer.declared.kind == "notify":
                incoming.close()
            else:
                self._reply(incoming, encoded)
        except Exception as error:  # noqa: BLE001 - the edge of foreign code: whatever it raises is its answer
            self._fail(incoming, error)
        except BaseExceptionGroup as group:
            failed, rest = apart(group)
            if failed is not None:
                self.side.lost(incoming, failed)
            self._fail(incoming, rest)
            raise rest from group.__cause__
        except BaseException as error:
            self._fail(incoming, error)
            raise
        finally:
            if incoming.call_id == 0:
                self._noticed()

    def _noticed(self) -> None:
        self._notices -= 1
        while self._unheard and (self._notices < MAX_NOTICES or self._unheard[0][0].call_id):
            incoming = self._next_unheard()
            if incoming.call_id and self.ended is not None:  # nobody waits for its answer
                self._close_call(incoming)
            else:
                self._hear(incoming)
        if self._is_paused and self.ended is None and self._unheard_size <= MAX_UNHEARD // 2:
            self._is_paused = False
            self.start()

    async def _answer(self, incoming: Incoming) -> Encoded:
        """Run the method; return its encoded result, if it has one."""
        frame, method, function = incoming.frame, incoming.answer.declared, incoming.answer.function
        arguments = self._arguments(incoming)
        if frame.many:
            results = [await _result(function(*each)) for each in arguments]
            await self._await_queue()
            return self._encode(method.result.encode_many, results, ValueUnfit, plain=method.plain)
        if method.uploads:
            arguments = self._with_uploads(incoming, arguments)
        result = await _result(function(*arguments))
        if method.kind == "call":
            await self._await_queue()
            encoded = self._encode(method.result.encode, result, ValueUnfit, plain=method.plain)
            await self._fill(encoded)
            return encoded
        if method.item is not None:
            async with aclosing(asynchronously(result)) as items:
                async for item in items:
                    await self._write(incoming.writer, method.item, item, incoming.call_id, 0)
        return NOTHING

    def _with_uploads(self, incoming: Incoming, arguments: Sequence[Any]) -> tuple[Any, ...]:
        given = list(arguments)
        for position in incoming.uploads_of(arguments):
            given[position] = ItemsIn(self, incoming, position, incoming.readers[position])
        return tuple(given)


async def _result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
