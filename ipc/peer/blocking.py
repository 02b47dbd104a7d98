"""The engine that blocks: one thread waits at a time and reads for all that wait (leader and followers).

A child's main thread is the *executor*: it alone answers calls, one after the other, in the order of their coming.
While one of them waits (for a service, for an item) only calls that are made within it are answered; streams go on
between calls, an item at a time. Where there is no executor, as in a `SyncHost`, whoever waits answers.

Frames are collected and sent together while the methods that are next in turn are known to be quick.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from typing import Any

from ..channel.base import Channel, EndOfChannel
from ..datagram import MAX_DATAGRAM
from ..errors import PeerProtocolError
from ..frames import (
    FRAME_SPACE,
    MAX_BATCH,
    MAX_FRAMES,
    End,
    Frame,
    Items,
    Notify,
    Shutdown,
    encode,
    fit,
    weight,
)
from ..interface.declared import Declared
from ..interface.errors import ArgumentsUnfit, ValueUnfit
from .attachments import Outbound
from .base import NOTHING, Encoded, Peer
from .blocking_items import ItemsIn, ItemsOut
from .records import MAX_UNDER_WAY, Answers, Incoming, Outgoing, Producer
from .side import Side
from .store import Store

QUICK = 50e-6
"""Seconds: what takes less may share a datagram with what comes after it."""

TICK = 1.0
"""Seconds after which one who waits looks around although nothing came."""


class Cancelled(BaseException):
    """The caller has given up the call that runs. Raised in it where it waits, and by `checkpoint`."""


class BlockingPeer(Peer):
    """A peer for threads. With *executor*, calls are answered by the thread that runs `serve` and by no other."""

    _unsent: Sized = ()
    """What waits for room, if anything can."""

    _for_ever: float | None = None
    """Seconds of a wait without an end."""

    def __init__(
        self, channel: Channel, side: Side, store: Store, offers: Mapping[int, Answers], *, executor: bool
    ) -> None:
        super().__init__(channel, side, store, offers)
        self._takers[Shutdown] = self._take_shutdown
        self._executor = threading.get_ident() if executor else None
        self._reading = threading.Lock()
        self._sending = threading.RLock()
        self._followers: deque[threading.Lock] = deque()
        self._todo: deque[Incoming] = deque()
        self._producing: deque[Producer] = deque()
        self._running: list[Incoming] = []
        self._filling: Producer | None = None
        self._out: list[Frame] = []
        self._out_size = 0
        self._shut = False

    # Waiting.

    def _wait(self, done: Callable[[], Any], end: float | None = None) -> bool:
        """Read, and answer what may be answered, until *done* says so or until the time *end*; return whether done."""
        if self._filling is not None and self._executor == threading.get_ident():
            self._post_batch(self._filling)
        while not done():
            if end is not None and time.monotonic() >= end:  # first: there may be work without end
                return False
            if (self._todo or self._producing) and self._work():
                continue
            self._read_or_follow(done, end)
            if self._running:
                self._check_cancelled()
        return True

    def _read_or_follow(self, done: Callable[[], Any], end: float | None) -> None:
        """Wait for news: by reading, if no other thread does."""
        if not self._reading.acquire(False):
            self._flush_before_following()
            self._follow(done, end)
            return
        try:
            self._rest()
            self._read(end)
        finally:
            self._reading.release()
            if self._followers:
                self._tell_followers()

    def _rest(self) -> None:
        """There is nothing to do but to wait: give up what nobody holds any more, and send what was collected."""
        if self._abandoned:
            self._give_up_abandoned()
        if self._out:
            self._flush()
        if self.idle is not None and self._executes():
            self.idle()

    def _read(self, end: float | None) -> None:
        """Read one datagram, or find out that there will be none; give up at the time *end*."""
        try:
            received = self.channel.wait_receive(self._for_ever if end is None else max(0.0, end - time.monotonic()))
            if received is not None:
                self.take(received)
        except (EndOfChannel, PeerProtocolError) as error:
            self.end(error)

    def _flush_before_following(self) -> None:
        """Send what was collected: who reads may do so for long, and sends only what is its own."""
        if self._out and self._executes():
            self._flush()

    def _tell_followers(self) -> None:
        for _ in range(len(self._followers)):
            with suppress(IndexError):  # another thread told it
                self._followers.popleft().release()

    def _follow(self, done: Callable[[], Any], end: float | None) -> None:
        """Let the thread that reads do so; wait until there is news or until nobody reads.

        This holds no lock that one who tells waits for: a finalizer that interrupts it may wait for who tells.
        """
        news = threading.Lock()
        news.acquire()
        self._followers.append(news)  # first: what comes after this look is told
        try:
            if not done() and self._reading.locked():
                news.acquire(timeout=TICK if end is None else min(TICK, max(0.0, end - time.monotonic())))
        finally:
            with suppress(ValueError):  # it was told
                self._followers.remove(news)

    def _broken(self, error: PeerProtocolError) -> None:
        self.end(error)

    def _check_cancelled(self) -> None:
        if self._running and self._running[-1].cancelled and self._executes():
            raise Cancelled

    def _executes(self) -> bool:
        return self._executor is None or threading.get_ident() == self._executor

    def checkpoint(self) -> None:
        """Look at what has come. Raises `Cancelled` if the caller of the call that runs has given up, or is gone."""
        if self._executes():
            self._take_what_came()
            if self.ended is not None:
                raise Cancelled
        self._check_cancelled()

    def _take_what_came(self) -> None:
        if self._reading.acquire(blocking=False):
            try:
                while self._takes_more() and (received := self.channel.receive()) is not None:
                    self.take(received)
            except (EndOfChannel, PeerProtocolError) as error:
                self.end(error)
            finally:
                self._reading.release()
                self._tell_followers()

    def _takes_more(self) -> bool:
        return self.ended is None and len(self._todo) < MAX_UNDER_WAY

    # Answering.

    def serve(self) -> None:
        """Answer calls until the other side says shutdown; the calling thread is the executor. `EndOfChannel`."""
        self._executor = threading.get_ident()
        self._wait(self._has_ended)
        self._flush()
        if self.ended is not None:
            raise self.ended

    def _has_ended(self) -> bool:
        return self.ended is not None or (self._shut and not self._todo)

    def _take_shutdown(self, frame: Shutdown, received: object) -> None:
        self._shut = True

    def _work(self) -> bool:
        """Answer one call, or go on with one stream, if there is one that this thread may go on with now.

        Streams that were given up end before that: who closes one and then calls finds it closed.
        """
        incoming = self._next() if self._todo and self._executes() and not self._has_to_close() else None
        if incoming is None:
            return bool(self._producing) and self._produce_next()
        if incoming.answer.took > QUICK:
            self._flush()
        self._run(incoming)
        if incoming.answer.took > QUICK:
            self._take_what_came()  # such as the cancellation of what would be next
        return True

    def _has_to_close(self) -> bool:
        if self._running:
            return False
        producing = [*self._producing]  # in one step: other threads take some, and put them back
        return any(each.incoming is not None and each.incoming.cancelled for each in producing)

    def _next(self) -> Incoming | None:
        """Return the call to answer now: the oldest, or within another call the oldest one that belongs there."""
        if not self._running or self._executor is None:
            try:
                return self._todo.popleft()
            except IndexError:  # another thread took it
                return None
        within = self._running[-1].asks
        for incoming in [*self._todo]:  # in one step: another thread may read
            if within and incoming.frame.within == within:
                with suppress(ValueError):  # it has just been cancelled
                    self._todo.remove(incoming)
                    return incoming
        return None

    def _start(self, incoming: Incoming) -> None:
        self._todo.append(incoming)

    def _cancelled(self, incoming: Incoming) -> None:
        try:
            self._todo.remove(incoming)
        except ValueError:  # it runs by now
            return
        self._fail(incoming, Cancelled())

    def _run(self, incoming: Incoming) -> None:
        """Answer *incoming*; whatever the method does, the call gets one answer."""
        self._running.append(incoming)
        began = time.perf_counter()
        try:
            encoded = self._answer(incoming)
            if self._abandoned:  # before the answer: a stream that the method dropped is over for who hears that
                self._give_up_abandoned()
            if encoded is not None:
                self._reply(incoming, encoded)
            elif incoming.answer.declared.kind == "notify":
                incoming.close()
        except BaseException as error:  # noqa: BLE001 - the edge of foreign code: whatever it raises is its answer
            self._fail(incoming, error)
            self._pass_on(error)
        finally:
            self._running.pop()
            incoming.answer.took = time.perf_counter() - began

    def _pass_on(self, error: BaseException) -> None:
        """Raise *error*, which a method raised, if it is not for the caller alone."""

    def _answer(self, incoming: Incoming) -> Encoded | None:
        """Run the method; return its encoded result, if it has one now."""
        frame, method, function = incoming.frame, incoming.answer.declared, incoming.answer.function
        arguments = self._arguments(incoming)
        if frame.many:
            results = [function(*each) for each in arguments]
            return self._encode(method.result.encode_many, results, ValueUnfit, plain=method.plain)
        if method.uploads:
            arguments = self._with_uploads(incoming, arguments)
        result = function(*arguments)
        if method.kind == "call":
            return self._encode(method.result.encode, result, ValueUnfit, plain=method.plain)
        if method.item is not None:
            self._producing.append(Producer(iter(result), method.item, incoming.writer, incoming.call_id, 0, incoming))
        return None

    def _with_uploads(self, incoming: Incoming, arguments: Sequence[Any]) -> tuple[Any, ...]:
        given = list(arguments)
        for position in incoming.uploads_of(arguments):
            given[position] = ItemsIn(self, incoming, position, incoming.readers[position])
        return tuple(given)

    # Streams that this side writes.

    def _produce_next(self) -> bool:
        """Send some items of the stream whose turn it is, if one has credit. Then look at what has come.

        Within a call, and in other threads than the executor's, only the streams of own calls go on.
        """
        for _ in range(len(self._producing)):
            try:
                producer = self._producing.popleft()
            except IndexError:  # another thread took it
                return False
            incoming = producer.incoming
            ready = producer.writer.credit > 0 or (incoming is not None and incoming.cancelled)
            if ready and self._may_produce(producer):
                if not self._produce(producer) and not producer.over:
                    self._producing.append(producer)
                self._peek()
                return True
            if not producer.over:
                self._producing.append(producer)
        return False

    def _may_produce(self, producer: Producer) -> bool:
        return producer.incoming is None or (self._executes() and not self._running)

    def _peek(self) -> None:
        if self._reading.acquire(blocking=False):
            try:
                self._flush()
                self._read(0.0)
            finally:
                self._reading.release()
                self._tell_followers()

    def _produce(self, producer: Producer) -> bool:
        """Send the next items; return whether that was all."""
        incoming = producer.incoming
        if incoming is None:
            return self._produce_upload(producer)
        self._running.append(incoming)
        try:
            if incoming.cancelled or self.ended is not None:
                _close_iterator(producer.iterator)
                raise Cancelled
            over = self._send_items(producer)
            if over:
                producer.iterator = iter(())  # what it holds of the arguments goes with it
                self._reply(incoming, NOTHING)
        except BaseException as error:  # noqa: BLE001 - the edge of foreign code, as in _run
            self._fail(incoming, error)
            self._pass_on(error)
            return True
        finally:
            self._running.pop()
        return over

    def _produce_upload(self, producer: Producer) -> bool:
        if producer.over:
            return True
        text = ""
        try:
            over = self._send_items(producer)
        except Exception as error:  # noqa: BLE001 - the edge of foreign code: the call fails with it, see _outcome
            call = self._calls.get(producer.call_id)
            text = "" if call is None else self._upload_failed(call, producer.stream - 1, error)
            over = True
        if over:
            self._post(End(producer.call_id, producer.stream, text))
        return over

    def _send_items(self, producer: Producer) -> bool:
        """Send the next items, as many as come quickly, have credit and fit one datagram; return whether all are.

        An item must not wait for one that takes long, so the first goes alone, and twice as many as before together
        while all of them were quick. Where the generator itself waits, `_wait` sends what there is.
        """
        outer = self._filling
        if self._executor == threading.get_ident():
            self._filling = producer
        try:
            return self._send_quick_items(producer)
        finally:
            self._filling = outer
            self._post_batch(producer)

    def _send_quick_items(self, producer: Producer) -> bool:
        size = 0
        for _ in range(producer.most):
            if producer.writer.credit <= 0 or size >= MAX_BATCH:
                return False
            began = time.perf_counter()
            item = next(producer.iterator, _OVER)
            if item is _OVER:
                return True
            payload, outbound = self._encode(producer.codec.encode, item, ValueUnfit, plain=producer.codec.plain)
            producer.writer.credit -= 1
            if payload is None or outbound is not None or size + len(payload) > MAX_BATCH:
                self._post_batch(producer)
                size = 0
            if payload is not None and outbound is None:
                producer.batch.append(payload)
                size += len(payload)
            else:
                self._post_items(producer, () if payload is None else (payload,), outbound)
            if time.perf_counter() - began > QUICK:
                producer.most = 1
                return False
        producer.most = min(2 * producer.most, MAX_FRAMES)
        return False

    def _post_batch(self, producer: Producer) -> None:
        if producer.batch:
            batch, producer.batch = producer.batch, []
            self._post_items(producer, tuple(batch), None)

    def _post_items(self, producer: Producer, payloads: tuple[bytes, ...], outbound: Outbound | None) -> None:
        parts = tuple(outbound.parts) if outbound else ()
        self._post_lending(Items(producer.call_id, producer.stream, payloads, parts), outbound, ValueUnfit)

    def _stop_upload(self, upload: Producer) -> None:
        upload.over = True
        with suppress(ValueError):  # it is being produced now, and not put back then
            self._producing.remove(upload)

    def _wake(self, waiter: Any) -> None:
        """Whoever waits looks for itself: it reads, or is told by who does."""

    # Calling.

    def call(self, target: int, method: Declared, arguments: tuple[Any, ...], timeout: float | None = None) -> Any:
        """Call *method* of *target* and return its result; a stream is an iterator. See `Side.heard` for errors."""
        call = self._send_call(target, method, arguments, timeout)
        return ItemsOut(self, call) if method.kind == "stream" else self.finish(call)

    def notify(self, target: int, method: Declared, arguments: tuple[Any, ...]) -> None:
        """Tell *target* something, without an answer."""
        payload, outbound = self._encoded(method, arguments)
        frame = Notify(target, method.name, payload, tuple(outbound.parts) if outbound else ())
        self._post_lending(frame, outbound, ArgumentsUnfit)

    def call_many(
        self, target: int, method: Declared, calls: tuple[tuple[Any, ...], ...], timeout: float | None = None
    ) -> Outgoing:
        """Send several calls of *method* as one; `finish` it."""
        return self._send_call(target, method, calls, timeout, many=True)

    def finish(self, call: Outgoing) -> Any:
        """Wait for the outcome of *call* and return it."""
        if not call.done:
            self._await(call, call.is_done, call.deadline)
        return self._outcome(call)

    def give_up(self, call: Outgoing) -> None:
        """Nobody waits for *call* any more; nothing, if it is done."""
        self._give_up(call)

    def shut_down(self) -> None:
        """Ask the other side to end once it has answered what it was asked before."""
        self._post(Shutdown())

    def _send_call(
        self,
        target: int,
        method: Declared,
        arguments: tuple[Any, ...],
        timeout: float | None,
        *,
        many: bool = False,
    ) -> Outgoing:
        if self.ended is not None:
            raise self.ended
        runs = self._running[-1] if self._running and self._executes() else None
        end = None if timeout is None else time.monotonic() + timeout
        uploads = method.uploads_of(arguments) if method.uploads else ()
        iterators = {position: _iterator(method, position, arguments) for position in uploads}
        encoded = self._encoded(method, arguments, many=many)
        while True:
            with self._sending:  # calls are sent in the order of their numbers
                if self._has_place():
                    count = len(arguments) * many
                    call, frame = self._begin(target, method, encoded, timeout, runs, many=count, uploads=uploads)
                    call.deadline = end
                    self._post_call(call, frame)
                    break
            self._await_place(encoded)
        for position, iterator in iterators.items():
            writer = call.writers[position]
            producer = Producer(iterator, method.upload[position], writer, call.call_id, position + 1)
            call.uploads = [*call.uploads, producer]
            self._producing.append(producer)
        return call

    def _has_place(self) -> bool:
        return len(self._calls) + len(self._given_up) < MAX_UNDER_WAY or self.ended is not None

    def _await_place(self, encoded: Encoded) -> None:
        """Wait until other threads have fewer calls under way; *encoded* is discarded if that is in vain."""
        try:
            self._wait(self._has_place)
        except BaseException:
            if encoded[1] is not None:
                encoded[1].discard()
            raise

    def _await(self, call: Outgoing, done: Callable[[], Any], end: float | None) -> None:
        """Wait for something of *call*. On any error, its deadline included, the call is given up."""
        runs = call.runs
        asks = 0 if runs is None else runs.asks
        if runs is not None:
            runs.asks = call.call_id
        try:
            if not self._wait(done, end):
                raise self._timed_out(call)
        except BaseException:
            self._give_up(call)
            raise
        finally:
            if runs is not None:
                runs.asks = asks

    # Sending.

    def _post(self, frame: Frame, outbound: Outbound | None = None) -> None:
        with self._sending:
            if outbound is None and self._executor == threading.get_ident():
                size = FRAME_SPACE + weight(frame)
                if self._out_size + size > MAX_DATAGRAM:
                    self._flush()
                self._out.append(frame)
                self._out_size += size
                if self._out_size > MAX_BATCH or len(self._out) == MAX_FRAMES:
                    self._flush()
                return
            self._flush()
            self._send([frame], outbound)

    def _flush(self) -> None:
        with self._sending:
            if self._out:
                frames, self._out, self._out_size = self._out, [], 0
                self._send(frames, None)

    def _send(self, frames: Sequence[Frame], outbound: Outbound | None) -> None:
        """Send one datagram."""
        fds = outbound.fds if outbound is not None else ()
        try:
            if releases := self.store.releases():
                if not fds and fit([*releases, *frames]):
                    frames = [*releases, *frames]
                else:
                    for release in releases:
                        self._send([release], None)
            data = encode(frames)
            if self._unsent or not self.channel.send(data, fds):
                self._send_slowly(data, fds)
        except EndOfChannel as error:
            self._cannot_send(error)
        finally:
            if outbound is not None:
                outbound.sent()

    def _cannot_send(self, error: EndOfChannel) -> None:
        self.end(error)

    def _send_slowly(self, data: bytes, fds: Sequence[int]) -> None:
        self.channel.wait_send(data, fds, None)


_OVER = object()


def _iterator(method: Declared, position: int, arguments: tuple[Any, ...]) -> Iterator[Any]:
    """Return the items of an upload. `ArgumentsUnfit` before anything is sent if there are none to be had."""
    try:
        return iter(arguments[position])
    except TypeError as error:
        raise ArgumentsUnfit(f"argument {method.parameters[position].name!r}: {error}") from None


def _close_iterator(iterator: Iterator[Any]) -> None:
    """Let a generator run its ``finally`` blocks."""
    close = getattr(iterator, "close", None)
    if close is not None:
        close()
