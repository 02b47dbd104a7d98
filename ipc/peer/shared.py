"""The blocking engine for several threads that call the same peer, as those of an application do.

Whoever waits reads for all, and answers what the other side calls meanwhile; `pump` does both while nobody waits. What
every call touches is guarded by one lock, which nobody holds who waits for anything: what the channel has no room for
goes into an `Outbox`. The lock of who reads comes before it, never after.

An upload is read by no thread but the one that waits for its call: a database cursor, for one, belongs to a thread.
"""

from __future__ import annotations

import inspect
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import interrupts
from ..channel.base import Channel, EndOfChannel
from ..datagram import Datagram
from ..errors import CallTimeout, PeerProtocolError
from ..frames import Frame
from ..interface.codec import Codec
from ..interface.declared import Declared
from ..memory.buffer import SharedBuffer
from ..messages import MAX_INLINE
from .attachments import Outbound
from .base import Encoded
from .blocking import BlockingPeer, Cancelled
from .outbox import MAX_QUEUED, MAX_UNREAD, CannotSend, Outbox
from .records import MAX_DEPTH, MAX_UNDER_WAY, Answers, Incoming, NotSent, Outgoing, Producer, Reader
from .side import Side
from .store import Store

SLICE = 0.05
"""Seconds after which one who waits for room looks whether it still has to."""

MAX_BACKLOG = 4 * MAX_UNDER_WAY
"""Calls and notifications that may wait. Only threads that have no room for them on their stacks read so far ahead."""


class _Stack(threading.local):
    """The calls that one thread answers, the innermost last."""

    def __init__(self) -> None:
        self.running: list[Incoming] = []


class SharedPeer(BlockingPeer):
    """A peer without executor; `call`, `notify` and streams may be used by any number of threads.

    These are called from any thread and must not block: *over*, once, with the reason why nothing more will come;
    *gave_up* when a call was given up or abandoned, to have somebody look who is `late`; *rouse* when there is work and
    perhaps nobody waits.
    """

    _for_ever = 1e6  # Ctrl-C ends no wait without an end

    def __init__(
        self,
        channel: Channel,
        side: Side,
        store: Store,
        offers: Mapping[int, Answers],
        *,
        over: Callable[[BaseException], None] = lambda error: None,
        gave_up: Callable[[], None] = lambda: None,
        rouse: Callable[[], None] = lambda: None,
    ) -> None:
        self._stack = _Stack()
        self._guard = threading.RLock()
        self._outbox = Outbox(channel)
        self._unsent = self._outbox.waiting
        self._over, self._gave_up, self._rouse = over, gave_up, rouse
        self._fds = channel.fileno(), channel.writable_fd
        self._is_closed = False
        super().__init__(channel, side, store, offers, executor=False)
        self._sending = self._guard

    @property
    def _running(self) -> list[Incoming]:
        return self._stack.running

    @_running.setter
    def _running(self, value: list[Incoming]) -> None:
        """Each thread has its own from the start."""

    # Calling.

    def call(self, target: int, method: Declared, arguments: tuple[Any, ...], timeout: float | None = None) -> Any:
        """See `BlockingPeer.call`. Here too is a short way for a call that is alone and has nothing attached."""
        if not method.is_simple or self._abandoned or self._unsent or self._stack.running:
            return super().call(target, method, arguments, timeout)
        if self._calls or self._given_up or self.store.may_release:
            return super().call(target, method, arguments, timeout)
        payload = method.encode_arguments(arguments)
        if len(payload) > MAX_INLINE or not self._reading.acquire(False):
            return super().call(target, method, arguments, timeout)
        return self.finish(self._ask_at_once(target, method, payload, timeout))

    def _ask_at_once(self, target: int, method: Declared, payload: bytes, timeout: float | None) -> Outgoing:
        """Send a call and wait for the next datagram, which is nearly always its answer. This thread is the reader."""
        call, data = None, b""
        try:
            with self._guard:
                if self.ended is not None:
                    raise NotSent from self.ended
                call, data = self._begin_at_once(target, method, payload, timeout)
                call.deadline = None if timeout is None else time.monotonic() + timeout
                try:
                    if self._unsent or not self.channel.send(data):
                        self._send_slowly(data, ())
                except EndOfChannel as error:
                    self._cannot_send(error)
                data = b""
            self._read(call.deadline)
        except BaseException as error:  # such as KeyboardInterrupt
            if data:
                self.end(error)  # who knows whether it was sent
            elif call is not None:
                self._give_up(call)
            raise
        finally:
            self._reading.release()
            if self._followers:
                self._tell_followers()
        return call

    def _send_call(
        self,
        target: int,
        method: Declared,
        arguments: tuple[Any, ...],
        timeout: float | None,
        *,
        many: bool = False,
    ) -> Outgoing:
        began = time.monotonic()
        if self._abandoned:  # first: what was left before this call ends before it
            self._give_up_abandoned()
        while True:
            with self._guard:  # calls are sent in the order of their numbers
                if self.ended is not None:
                    raise NotSent from self.ended
                if len(self._calls) + len(self._given_up) < MAX_UNDER_WAY and self._outbox.size <= MAX_QUEUED:
                    call = self._sent(target, method, arguments, timeout, many)
                    break
            self._await_room(method, began, timeout)
        if self._unsent:
            last = self._outbox.put
            call.deadline = None if timeout is None else began + timeout
            self._await(call, lambda: self._outbox.sent >= last or call.done, call.deadline)
        return call

    def _sent(
        self, target: int, method: Declared, arguments: tuple[Any, ...], timeout: float | None, many: bool
    ) -> Outgoing:
        try:
            return super()._send_call(target, method, arguments, timeout, many=many)
        except BaseException as error:
            if not isinstance(error, Exception):
                self.end(error)  # interrupted by a signal: who knows whether it was sent
            raise

    def _await(self, call: Outgoing, done: Callable[[], Any], end: float | None) -> None:
        if call.uploads:
            call.waiter = threading.get_ident()
        super()._await(call, done, end)

    def notify(self, target: int, method: Declared, arguments: tuple[Any, ...], timeout: float | None = None) -> None:
        """Tell *target* something, without an answer. `CallTimeout` if there is no room for it for so long."""
        if not self._has_room():
            self._await_room(method, time.monotonic(), timeout)
        with self._guard:
            if self.ended is not None:
                raise NotSent from self.ended
            super().notify(target, method, arguments)

    def _has_room(self) -> bool:
        if self.ended is not None:
            return True
        return len(self._calls) + len(self._given_up) < MAX_UNDER_WAY and self._outbox.size <= MAX_QUEUED

    def _await_room(self, method: Declared, began: float, timeout: float | None) -> None:
        if not self._wait(self._has_room, None if timeout is None else began + timeout):
            raise CallTimeout(f"{method.name!r} could not be sent within {timeout:g} s: the child does not keep up")

    def _give_up(self, call: Outgoing) -> None:
        with self._guard:
            super()._give_up(call)
        if not call.done:
            self._gave_up()

    def abandon(self, call: Outgoing) -> None:
        """See `Peer.abandon`. It takes no lock, for a finalizer may interrupt a thread that holds any."""
        self._abandoned.append(call)
        self._gave_up()
        if self._is_closed:  # nobody looks any more, nor holds the guard for long
            self._give_up_abandoned()

    def _give_up_abandoned(self) -> None:
        with self._guard:
            super()._give_up_abandoned()

    def reserve(self, length: int) -> SharedBuffer | None:
        """See `Peer.reserve`."""
        with self._guard:
            return super().reserve(length)

    def trim(self) -> None:
        """See `Peer.trim`."""
        with self._guard:
            super().trim()

    @property
    def queued(self) -> int:
        """See `Peer.queued`."""
        return self._outbox.size

    def late(self, grace: float, *, concurrent: bool) -> Outgoing | None:
        """See `Peer.overdue`."""
        with self._guard:
            self._give_up_abandoned()
            return self.overdue(time.monotonic(), grace, concurrent=concurrent)

    @property
    def waits_in_vain(self) -> bool:
        """Whether a call that was given up is not answered yet."""
        return bool(self._given_up)

    def _outcome(self, call: Outgoing) -> Any:
        if call.inbound is None:
            return super()._outcome(call)
        with self._guard:
            if self._is_closed:
                call.inbound.close()
                raise EndOfChannel  # with all memory that it could lie in
            return super()._outcome(call)

    def next_item(self, call_id: int, stream: int, reader: Reader, codec: Codec | None) -> Any:
        """See `Peer.next_item`."""
        with self._guard:
            if self._is_closed and reader.items[0][1] is not None:
                raise EndOfChannel
            return super().next_item(call_id, stream, reader, codec)

    # Answering.

    def pump(self) -> None:
        """Do what there is to do, but wait for nothing. For a thread that does so whenever no other one waits."""
        self._drain()
        self._take_what_came()
        while self._work():
            pass

    def _work(self) -> bool:
        try:
            return self.ended is None and super()._work()
        finally:
            if self.ended is not None:  # perhaps since the pump looked for the last time
                self._close_streams()

    def _close_streams(self) -> None:
        """Nobody reads the streams of services any more. By who answers, and not in `close`: they are foreign code."""
        while self._producing:
            try:
                producer = self._producing.popleft()
            except IndexError:  # another thread took it
                return
            if producer.incoming is not None:
                self._produce(producer)

    def _start(self, incoming: Incoming) -> None:
        super()._start(incoming)
        if len(self._todo) > MAX_BACKLOG:
            self.end(PeerProtocolError(f"more than {MAX_BACKLOG} calls and notifications wait"))
        self._rouse()

    def _next(self) -> Incoming | None:
        """Return the oldest call that may be answered now, and here.

        While the other side does not read, it gets no answers: only what needs none is worked on. And the stack does
        not grow with what the other side asks at the same time: on top of so many calls that wait in one thread come
        only those that belong to the innermost, which would else wait for ever.
        """
        running = self._stack.running
        is_deep = len(running) >= MAX_DEPTH
        with self._guard:
            is_full = self._outbox.size > MAX_QUEUED
            if not (is_deep or is_full):
                return super()._next()
            for incoming in self._todo:
                belongs = not is_deep or 0 != incoming.frame.within == running[-1].asks
                if belongs and not (is_full and incoming.call_id):
                    self._todo.remove(incoming)
                    return incoming
        return None

    def _may_produce(self, producer: Producer) -> bool:
        if producer.incoming is not None:
            return not self._running and (producer.incoming.cancelled or not self._unsent)
        if self._unsent:
            return False
        call = self._calls.get(producer.call_id)
        return call is not None and call.waiter == threading.get_ident()

    def _pass_on(self, error: BaseException) -> None:
        if not isinstance(error, (Exception, Cancelled)):
            raise error  # such as KeyboardInterrupt: for the thread that answered, too

    def _arguments(self, incoming: Incoming) -> Any:
        with self._guard:
            return super()._arguments(incoming)

    def _encode(self, encoder: Callable[..., bytes], value: Any, unfit: type[Exception], *, plain: bool) -> Encoded:
        with self._guard:
            return super()._encode(encoder, value, unfit, plain=plain)

    def _reply(self, incoming: Incoming, encoded: Encoded) -> None:
        with self._guard:
            if self.ended is None:
                super()._reply(incoming, encoded)
                return
            if encoded[1] is not None:
                encoded[1].discard()
            self._close_call(incoming)

    def _close_call(self, incoming: Incoming) -> None:
        with self._guard:
            super()._close_call(incoming)

    def _post_items(self, producer: Producer, payloads: tuple[bytes, ...], outbound: Outbound | None) -> None:
        with self._guard:
            if self.ended is None:
                super()._post_items(producer, payloads, outbound)

    def _register(self, interface: type, behind: object) -> int:
        number = super()._register(interface, behind)
        try:
            check_plain(self._targets[number])
        except TypeError:
            del self._targets[number]
            raise
        return number

    # Reading and writing.

    def _read(self, end: float | None) -> None:
        if self._unsent:
            self._await_channel(end, select.POLLIN)
            end = 0.0
        if self.ended is None:  # else the channel may be closed
            super()._read(end)

    def _follow(self, done: Callable[[], Any], end: float | None) -> None:
        if interrupts.came:
            interrupts.raise_held()
        if self._unsent:
            self._await_channel(end, 0)  # who reads may not know of it
        else:
            super()._follow(done, end)

    def _await_channel(self, end: float | None, news: int) -> None:
        """Wait a moment until there is room in the channel, or *news*, and send what waits."""
        poll = select.poll()
        for fd, events in self.awaited(news).items():
            poll.register(fd, events)
        poll.poll(1000 * (SLICE if end is None else min(SLICE, max(0.0, end - time.monotonic()))))
        self._drain()

    def awaited(self, news: int = select.POLLIN) -> dict[int, int]:
        """Return the fds that tell of *news* and of room, if room is needed, with what to poll(2) them for."""
        read_fd, write_fd = self._fds
        if not self._unsent:
            return {read_fd: news}
        if write_fd is None:
            return {read_fd: select.POLLIN}
        return {read_fd: news, write_fd: news * (read_fd == write_fd) | select.POLLOUT}

    def _takes_more(self) -> bool:
        """While calls are not answered, as many of them as there may be leave room for what needs no answer."""
        return self.ended is None and len(self._todo) < MAX_UNDER_WAY + (self._outbox.size > MAX_QUEUED)

    def take(self, received: Datagram) -> None:
        """See `Peer.take`."""
        with self._guard:
            if self.ended is not None:
                received.close()
                return
            try:
                super().take(received)
            except (PeerProtocolError, EndOfChannel):
                raise
            except BaseException as error:  # interrupted by a signal: nobody knows what of it was acted upon
                self.end(error)
                raise

    def _post(self, frame: Frame, outbound: Outbound | None = None) -> None:
        with self._guard:
            if self.ended is None:  # else the channel may be closed
                self._send([frame], outbound)
            elif outbound is not None:
                outbound.sent()

    def _send_slowly(self, data: bytes, fds: Sequence[int]) -> None:
        """Leave it to who waits next."""
        self._outbox.send(data, fds)
        if self._outbox.size > MAX_UNREAD:
            self.end(PeerProtocolError("it does not read what it asks for"))
        self._rouse()

    def _cannot_send(self, error: EndOfChannel) -> None:
        """What the other side said before it ended can still be read; whoever reads will meet the end."""

    def _drain(self) -> None:
        if self._unsent:
            with self._guard:
                try:
                    self._outbox.drain()
                except EndOfChannel:
                    self._outbox.clear()
                except OSError as error:  # ETOOMANYREFS, as in `_reply`; who sent it has gone on
                    self._outbox.clear()
                    self.end(CannotSend(error))
            self._tell_followers()

    # The end.

    def end(self, error: BaseException) -> None:
        """See `Peer.end`. Nobody who waits hears of an interruption of another thread."""
        is_first = False
        try:
            with self._guard:
                is_first = self.ended is None
                super().end(error if isinstance(error, Exception) else EndOfChannel())
        finally:  # whatever it met: the child is ended by who hears of it
            if is_first:
                self._over(error)
            self._tell_followers()

    def close(self) -> None:
        """End all, and wait until no thread is in the channel, which stays open; it must be at its end."""
        with self._reading, self._guard:
            if self.ended is None:
                self.hear_out()
            self.end(EndOfChannel())
            self._give_up_abandoned()
            self._outbox.clear()
            while self._todo:
                self._close_call(self._todo.popleft())
            self.store.close()
            self._is_closed = True

    def forget(self) -> None:
        """In a forked copy of the process: the other threads are gone, and locks may be held for ever."""
        self._sending = self._guard = threading.RLock()
        self._moving = threading.RLock()
        self._reading = threading.Lock()
        self._followers = deque()
        self.ended = EndOfChannel()
        for call in self._calls.values():
            call.done = True
        self._calls = {}


def check_plain(answers: Answers) -> None:
    """Raise `TypeError` if a method is asynchronous: nobody here would await it."""
    for name, answer in answers.items():
        if inspect.iscoroutinefunction(answer.function) or inspect.isasyncgenfunction(answer.function):
            raise TypeError(f"{name} is asynchronous, and a SyncHost has no event loop to answer it; use 'def'")
