"""The rules that both engines share: what a frame may say, when, and what becomes of it.

A peer has four tables: its own calls that wait for an answer, those that were given up and are still unanswered, the
calls of the other side that it works on, and the targets that it offers. Whatever a frame refers to must be in one of
them, or have been there: what crosses a cancellation on its way is ignored, all else is a `PeerProtocolError`.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from ..channel.base import Channel, EndOfChannel
from ..datagram import Datagram
from ..errors import CallError, CallTimeout, PeerProtocolError
from ..frames import (
    Attached,
    Call,
    Cancel,
    Credit,
    Decode,
    End,
    Failed,
    FailureKind,
    Frame,
    Items,
    Notify,
    Part,
    Release,
    Reply,
    Share,
    Trim,
    Unshare,
    encode,
    weight,
)
from ..interface.codec import Codec
from ..interface.declared import Declared, declared
from ..interface.errors import ArgumentsUnfit, ValueUnfit
from ..memory.arena import Arena
from ..messages import MAX_INLINE, shorten
from .attachments import Inbound, Outbound, TooMuch
from .records import MAX_DEPTH, MAX_UNDER_WAY, Answer, Answers, Incoming, Outgoing, PeerUse, Reader, Writer, window_of
from .store import Store, TooLarge

Encoded: TypeAlias = tuple[bytes | None, Outbound | None]
"""A payload, None if it is the first attachment, and the attachments, if there are any."""


NO_DATAGRAM = Datagram(b"", [], (), None)
NOTHING: Encoded = (b"\xc0", None)


MAX_LAST = 1024
"""Datagrams that are read of one that has ended."""


class Side(Protocol):
    """What differs between host and child: how errors are told, and how they are heard."""

    @property
    def decode(self) -> Decode:
        """What reads a datagram of the other side."""
        ...

    def heard(self, call: Outgoing, failed: Failed) -> BaseException:
        """Return the error to raise for an answer that says the call failed."""
        ...

    def told(self, incoming: Incoming, error: BaseException) -> tuple[FailureKind, str, str, str]:
        """Return kind, type name, text and traceback with which *error* is told to the other side."""
        ...

    def refused(self) -> tuple[str, ...]:
        """Return the names of modules that the seal has refused since the last call."""
        ...

    def answered(self, call: Outgoing, answer: Reply | Failed) -> None:
        """Look at an answer before its caller does."""
        ...

    def proxy(self, interface: type, number: int) -> object:
        """Return an object whose methods are calls of target *number* of the other side."""
        ...

    def lost(self, incoming: Incoming, error: BaseException) -> None:
        """A notification failed with *error*, of which nobody else will hear."""
        ...


class Peer(ABC):
    """One of two equals. Owns *channel* and *store*; the subclasses wait.

    Attributes:
        idle: Called where a child that answers calls has nothing else to do.
    """

    gradually = False
    """Whether large buffers are copied by and by, so that others can run in between."""

    def __init__(self, channel: Channel, side: Side, store: Store, offers: Mapping[int, Answers]) -> None:
        self.channel = channel
        self.side = side
        self._decode = side.decode
        self.store = store
        store.share = self.share
        self.ended: BaseException | None = None
        self.idle: Callable[[], None] | None = None
        self._targets: dict[int, Answers] = dict(offers)
        self._target_numbers = itertools.count(1024)
        self._call_numbers = itertools.count(1)
        self._newest_call = 0
        self._last_call = 0
        self._calls: dict[int, Outgoing] = {}
        self._given_up: dict[int, Outgoing] = {}
        self._answering: dict[int, Incoming] = {}
        self._others: set[type[Frame]] = set()
        self._takers: dict[type, Callable[[Any, Datagram], None]] = {
            Call: self._take_call,
            Notify: self._take_notify,
            Reply: self._take_answer,
            Failed: self._take_answer,
            Cancel: self._take_cancel,
            Items: self._take_items,
            Credit: self._take_credit,
            End: self._take_end,
            Release: self._take_release,
            Unshare: self._take_unshare,
            Attached: self._take_attached,
            Share: self._take_share,
            Trim: self._take_trim,
        }

    @property
    def queued(self) -> int:
        """Bytes that wait for room in the channel."""
        return 0

    @property
    def use(self) -> PeerUse:
        """What this peer has done and does now."""
        return PeerUse(
            calls=self._newest_call,
            under_way=len(self._calls),
            given_up=len(self._given_up),
            asked=self._last_call,
            answering=len(self._answering),
            queued=self.queued,
            memory=self.store.use,
        )

    # What the engines do.

    @abstractmethod
    def _post(self, frame: Frame, outbound: Outbound | None = None) -> None:
        """Send *frame* soon, in order; what *outbound* made for it is closed once it is sent."""

    @abstractmethod
    def _wake(self, waiter: Any) -> None:
        """Something that *waiter* waits for has come."""

    @abstractmethod
    def _start(self, incoming: Incoming) -> None:
        """Begin to answer a call, or put it on a list."""

    @abstractmethod
    def _cancelled(self, incoming: Incoming) -> None:
        """The caller of one that is being answered has given it up."""

    @abstractmethod
    def _broken(self, error: PeerProtocolError) -> None:
        """The other side broke a rule where nobody reads the channel: this is the end."""

    # What others than the engines need.

    def on(self, kind: type[Frame], taker: Callable[[Any], None]) -> None:
        """Have *taker* called with each frame of a *kind* that means nothing to the peer itself."""
        self._takers[kind] = lambda frame, received: taker(frame)
        self._others.add(kind)

    def post(self, frame: Frame) -> None:
        """Send *frame* soon, in order."""
        self._post(frame)

    def tell(self, frame: Frame, *, wait: bool = False) -> bool:
        """Send *frame* at once, whatever else waits, from any thread; False if there is no room, or nobody to hear it.

        This never blocks, unless it is told to *wait* for room.
        """
        data = encode([frame])
        try:
            return self.channel.wait_send(data, (), None) if wait else self.channel.send(data)
        except EndOfChannel:
            return False

    def hear_out(self) -> None:
        """Take what the other side, which has ended, said at last to those that `on` named; the rest is too late."""
        with suppress(EndOfChannel, PeerProtocolError):
            for _ in range(MAX_LAST):
                if (received := self.channel.receive()) is None:
                    break
                received.close()
                for frame in self.side.decode(received.data):
                    if type(frame) in self._others:
                        self._takers[type(frame)](frame, received)

    # What comes in.

    def take(self, received: Datagram) -> None:
        """Act on one datagram; takes its fds over. `PeerProtocolError` if it breaks a rule; the fds are closed."""
        try:
            frames = self._decode(received.data)
        except PeerProtocolError:
            received.close()
            raise
        frame = frames[0]
        if type(frame) is Reply and len(frames) == 1 and not (frame.parts or received.fds):
            call = self._calls.get(frame.call_id)
            if call is not None and call.is_quick:  # a short way for what comes most often
                del self._calls[frame.call_id]
                call.answer, call.done = frame, True
                self._settle_at_once(call)
                return
        self._take_frames(frames, received)

    def _settle_at_once(self, call: Outgoing) -> None:
        """A call to which nothing else belongs is done."""
        if call.waiter is not None:
            self._wake(call.waiter)

    def _take_frames(self, frames: Sequence[Frame], received: Datagram) -> None:
        """Act on the *frames* of one datagram, one after the other; takes its fds over."""
        try:
            if received.fds and len(frames) != 1:
                raise PeerProtocolError(f"{len(received.fds)} fds came with {len(frames)} frames")
            for frame in frames:
                taker = self._takers.get(type(frame))
                if taker is None:
                    raise PeerProtocolError(f"{type(frame).__name__} came where nobody takes it")
                taker(frame, received)
            if received.fds:
                raise PeerProtocolError(f"{type(frames[0]).__name__} came with {len(received.fds)} fds")
        finally:
            if received.fds or received.pidfd is not None:
                received.close()

    def _inbound(self, parts: tuple[Part, ...], received: Datagram, *, lent: bool) -> Inbound | None:
        if not parts and not received.fds:
            return None
        return Inbound(self.store, parts, received, self._proxy, lent=lent)

    def _unattached(self, answer: Answer) -> Inbound | None:
        """References to objects need no part, but something to make proxies."""
        return None if answer.declared.plain else Inbound(self.store, (), NO_DATAGRAM, self._proxy, lent=True)

    def _take_call(self, frame: Call, received: Datagram) -> None:
        inbound = self._inbound(frame.parts, received, lent=True) if frame.parts or received.fds else None
        if frame.call_id <= self._last_call:
            _close(inbound)
            raise PeerProtocolError(f"call {frame.call_id} came after call {self._last_call}")
        self._last_call = frame.call_id
        if len(self._answering) >= MAX_UNDER_WAY:
            _close(inbound)
            raise PeerProtocolError(f"more than {MAX_UNDER_WAY} calls are under way")
        answer = self._targets.get(frame.target, {}).get(frame.method)
        if answer is None or answer.declared.kind == "notify" or (frame.many and answer.declared.kind != "call"):
            _close(inbound)
            kind, text = self._not_there(frame.target)
            self._post(Failed(frame.call_id, kind, "", text))
            return
        if inbound is None and not answer.declared.plain:
            inbound = self._unattached(answer)
        incoming = Incoming(frame, answer, inbound)
        if frame.within and (outer := self._calls.get(frame.within)) is not None:
            incoming.depth = outer.depth + 1
        if answer.declared.uploads:
            self._expect_uploads(incoming)
        self._answering[frame.call_id] = incoming
        self._start(incoming)

    def _expect_uploads(self, incoming: Incoming) -> None:
        window = window_of(incoming.answer.declared)
        incoming.readers = {position: Reader(window) for position in incoming.answer.declared.uploads}
        for position in incoming.readers:
            self._post(Credit(incoming.call_id, position + 1, window))

    def _not_there(self, target: int) -> tuple[FailureKind, str]:
        answers = self._targets.get(target)
        if answers is None:
            return "not-offered", f"nothing is offered as {target}"
        return "unknown-method", shorten(f"it has {', '.join(answers) or 'no public methods'}", 4096)

    def _take_notify(self, frame: Notify, received: Datagram) -> None:
        inbound = self._inbound(frame.parts, received, lent=True)
        answer = self._targets.get(frame.target, {}).get(frame.method)
        if answer is None or answer.declared.kind != "notify":
            _close(inbound)  # by rule: whoever notifies does not hear of it either
            return
        call = Call(0, frame.target, frame.method, frame.payload, frame.parts)
        self._start(Incoming(call, answer, inbound or self._unattached(answer)))

    def _take_answer(self, frame: Reply | Failed, received: Datagram) -> None:
        inbound = None
        if type(frame) is Reply and (frame.parts or received.fds):
            inbound = self._inbound(frame.parts, received, lent=False)
        call = self._calls.pop(frame.call_id, None)
        if call is None:
            _close(inbound)
            call = self._given_up.pop(frame.call_id, None)
            if call is None:
                raise PeerProtocolError(f"an answer came to call {frame.call_id}, which is not under way")
            self._finish(call)
            return
        call.answer = frame
        if inbound is not None:
            call.inbound = inbound
        self._finish(call)
        self._settle(call)

    def _finish(self, call: Outgoing) -> None:
        """The other side is done with *call*: what was attached to it is ours again."""
        if call.outbound is not None:
            call.outbound.discard()
            for number in call.outbound.exported:
                self._targets.pop(number, None)
        if call.uploads:
            for upload in call.uploads:
                self._stop_upload(upload)

    @abstractmethod
    def _stop_upload(self, upload: Any) -> None:
        """End the sending of a stream that nobody reads any more."""

    def _take_cancel(self, frame: Cancel, received: Datagram) -> None:
        incoming = self._answering.get(frame.call_id)
        if incoming is None:
            if frame.call_id > self._last_call:
                raise PeerProtocolError(f"call {frame.call_id} was cancelled before it was made")
            return  # its answer and the cancellation crossed
        if not incoming.cancelled:
            incoming.cancelled = True
            for reader in incoming.readers.values():
                reader.ended = True
                self._wake(reader.waiter)
            self._cancelled(incoming)

    def _take_items(self, frame: Items, received: Datagram) -> None:
        inbound = self._inbound(frame.parts, received, lent=False)
        reader = self._reader(frame.call_id, frame.stream)
        if reader is None:
            _close(inbound)
            return
        count = len(frame.payloads) or 1
        reader.granted -= count
        if reader.granted < 0 or reader.ended or (inbound is not None and count != 1):
            _close(inbound)
            raise PeerProtocolError(f"items of stream {frame.stream} of call {frame.call_id} came without credit")
        if inbound is None:
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
            gone = frame.call_id <= self._newest_call
        else:
            incoming = self._answering.get(frame.call_id)
            streams = incoming is not None and incoming.answer.declared.kind == "stream"
            writer = incoming.writer if incoming is not None and streams else None
            gone = frame.call_id <= self._last_call
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
            reader.ended, reader.failure = True, frame.text
            self._wake(reader.waiter)

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

    def trim(self) -> None:
        """Give memory back, on both sides, that is kept for later."""
        self._unshare(self.store.trim())
        self._post(Trim())

    def _unshare(self, generations: list[int]) -> None:
        for generation in generations:
            self._post(Unshare(generation))

    def share(self, arena: Arena, written_by: Literal["host", "child"]) -> None:
        """Send *arena* to the other side."""
        outbound = Outbound(self.store, self._register)
        outbound.fds.append(arena.fd)
        self._post(Share(arena.generation, arena.size, written_by), outbound)

    # What is answered.

    def _arguments(self, incoming: Incoming) -> Any:
        """Return the arguments of *incoming*; where it is many calls, a list of theirs."""
        method, frame = incoming.answer.declared, incoming.frame
        try:
            payload: bytes | memoryview | None = frame.payload
            if payload is None:
                if incoming.inbound is None:
                    raise PeerProtocolError(f"call {frame.call_id} has no arguments")
                payload = incoming.inbound.payload()
            if frame.many:
                return method.decode_many(payload)
            return method.decode_arguments(payload, incoming.inbound)
        except PeerProtocolError as error:
            self._broken(error)
            raise

    def _reply(self, incoming: Incoming, encoded: Encoded) -> None:
        """Send the result. By now nothing of ours may refer to the arguments: who still does, keeps them."""
        payload, outbound = encoded
        try:
            self._close_call(incoming)
        except BufferError:
            if outbound is not None:
                outbound.discard()
            raise
        refused = self.side.refused()
        if outbound is None:
            self._post(_fitting(Reply(incoming.call_id, payload, (), refused)))
        else:
            outbound.lend()
            self._post(_fitting(Reply(incoming.call_id, payload, tuple(outbound.parts), refused)), outbound)

    def _reply_with(self, incoming: Incoming, payload: bytes) -> None:
        """Send a result that needs nothing attached but, if it is large, itself."""
        try:
            encoded = self._encode(lambda value, _: value, payload, ValueUnfit, plain=True)
        except ValueUnfit as error:
            self._fail(incoming, error)
        else:
            self._reply(incoming, encoded)

    def _fail(self, incoming: Incoming, error: BaseException) -> None:
        with suppress(BufferError):
            self._close_call(incoming)
        if incoming.call_id == 0:  # a notification; nobody waits for its end
            self.side.lost(incoming, error)
            return
        kind, name, text, trace = self.side.told(incoming, error)
        name, text, trace = shorten(name, 256), shorten(text, 4096), shorten(trace, 8192)
        self._post(_fitting(Failed(incoming.call_id, kind, name, text, trace, self.side.refused())))

    def _close_call(self, incoming: Incoming) -> None:
        self._answering.pop(incoming.call_id, None)
        if incoming.inbound is not None or incoming.readers:
            incoming.close()

    # What goes out.

    def _register(self, interface: type, behind: object) -> int:
        """Offer *behind* to the other side under a new number."""
        number = next(self._target_numbers)
        self._targets[number] = answers_of(interface, behind)
        return number

    def _proxy(self, interface: type, number: int) -> object:
        return self.side.proxy(interface, number)

    def _begin_at_once(
        self, target: int, method: Declared, payload: bytes, timeout: float | None
    ) -> tuple[Outgoing, bytes]:
        """Return a new call to which nothing else belongs, and its datagram."""
        self._newest_call = number = next(self._call_numbers)
        call = self._calls[number] = Outgoing(number, method, timeout, None)
        call.is_quick = True
        milliseconds = None if timeout is None else int(timeout * 1000)
        return call, encode([Call(number, target, method.name, payload, (), milliseconds)])

    def _encoded(self, method: Declared, arguments: tuple[Any, ...], *, many: bool = False) -> Encoded:
        """Return *arguments* as a payload with its attachments. `ArgumentsUnfit`: they cannot be sent."""
        encoder = method.encode_many if many else method.encode_arguments
        return self._encode(encoder, arguments, ArgumentsUnfit, plain=method.plain)

    def _begin(
        self,
        target: int,
        method: Declared,
        encoded: Encoded,
        timeout: float | None,
        runs: Incoming | None,
        *,
        many: int = 0,
    ) -> tuple[Outgoing, Call]:
        """Return a new call and its frame; *runs* is the call that asks for it."""
        payload, outbound = encoded
        if runs is not None and runs.depth >= MAX_DEPTH:
            if outbound is not None:
                outbound.discard()
            raise CallError(f"could not call {method.name!r}: calls are nested more than {MAX_DEPTH} deep")
        call = Outgoing(next(self._call_numbers), method, timeout, runs)
        parts: tuple[Part, ...] = ()
        if outbound is not None:
            call.outbound, parts = outbound, tuple(outbound.parts)
        if many:
            call.many = many
        credit = 0
        if method.kind == "stream":
            credit = window_of(method)
            call.reader = Reader(credit)
        if method.uploads:
            call.writers = {position: Writer() for position in method.uploads}
            call.uploads = []
        milliseconds = None if timeout is None else int(timeout * 1000)
        within = 0 if runs is None else runs.call_id
        frame = Call(call.call_id, target, method.name, payload, parts, milliseconds, credit, within, many > 0)
        self._newest_call = call.call_id
        self._calls[call.call_id] = call
        return call, frame

    def _give_up(self, call: Outgoing) -> None:
        """Nobody waits for *call* any more: ask the other side to end it, and ignore what comes of it meanwhile."""
        if self._calls.pop(call.call_id, None) is not None:
            self._given_up[call.call_id] = call
            for upload in call.uploads:
                self._stop_upload(upload)
            self._post(Cancel(call.call_id))

    def _upload_failed(self, call: Outgoing, error: Exception) -> str:
        """The iterator that is an argument of *call* raised *error*, or its item cannot be sent; return the text."""
        call.broken = call.broken or (ArgumentsUnfit(str(error)) if isinstance(error, ValueUnfit) else error)
        return shorten(f"{type(error).__name__}: {error}", 1024)

    def _timed_out(self, call: Outgoing) -> CallTimeout:
        return CallTimeout(f"{call.declared.name!r} did not answer within {call.timeout:g} s")

    def overdue(self, now: float, grace: float, *, concurrent: bool) -> Outgoing | None:
        """Return a call that was given up and that the other side, *grace* seconds later, still has not ended.

        Unless it is *concurrent*, the other side does one thing at a time: the grace of a call begins when all that it
        was given before is done, but for those that this call is made within.
        """
        for call in self._given_up.values():
            if not concurrent and self._is_behind(call):
                return None
            if call.late_since is None:
                call.late_since = now
            elif now - call.late_since >= grace:
                return call
            if not concurrent:
                return None
        return None

    def _is_behind(self, late: Outgoing) -> bool:
        around: set[int] = set()
        runs = late.runs
        while runs is not None:
            around.add(runs.frame.within)
            outer = self._calls.get(runs.frame.within)
            runs = outer.runs if outer is not None else None
        return any(
            number < late.call_id and number not in around and (call.reader is None or call.reader.granted > 0)
            for number, call in self._calls.items()
        )

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
                raise ArgumentsUnfit(str(error)) from None
            raise
        except PeerProtocolError as error:
            self._broken(error)
            raise

    def _encode(self, encoder: Callable[..., bytes], value: Any, unfit: type[Exception], *, plain: bool) -> Encoded:
        """Return *value* as a payload with its attachments; a payload that is too large is one itself, the first.

        Raises *unfit* if it cannot be sent.
        """
        if plain:
            payload = encoder(value, None)
            if len(payload) <= MAX_INLINE:
                return payload, None
        outbound = Outbound(self.store, self._register, gradually=self.gradually)
        try:
            if plain:
                outbound.buffer(memoryview(payload))
                return None, outbound
            payload = encoder(value, outbound)
            if len(payload) + outbound.inline > MAX_INLINE:
                raise unfit(f"what stands beside its attachments has {len(payload)} bytes, which is too much")
        except (TooMuch, TooLarge, OSError) as error:
            outbound.discard()
            raise unfit(str(error)) from None
        except BaseException:
            outbound.discard()
            raise
        return payload, outbound

    def _outcome(self, call: Outgoing) -> Any:
        """Return the result of a call that is done, or raise why there is none."""
        answer = call.answer
        if answer is None:
            assert call.error is not None
            raise call.error
        self.side.answered(call, answer)
        if call.broken is not None:  # what was asked for was not given, whatever the other side made of that
            _close(call.inbound)
            raise call.broken
        if type(answer) is Failed:
            raise self.side.heard(call, answer)
        assert type(answer) is Reply
        if call.inbound is None:
            if answer.payload is None:
                raise PeerProtocolError(f"the answer to call {call.call_id} has no payload")
            return self._decode_result(call, answer.payload, None)
        try:
            payload = call.inbound.payload() if answer.payload is None else answer.payload
            return self._decode_result(call, payload, call.inbound)
        finally:
            call.inbound.close()

    def _decode_result(self, call: Outgoing, payload: bytes | memoryview, inbound: Inbound | None) -> Any:
        if call.many:
            return call.declared.result.decode_many(payload, call.many)
        return call.declared.result.decode(payload, inbound)

    def end(self, error: BaseException) -> None:
        """Nothing more will come: all that wait get *error*."""
        self.ended = self.ended or error
        calls = [*self._calls.values()]
        self._calls.clear()
        for call in calls:
            call.error = error
            self._finish(call)
            self._settle(call)
        for call in self._given_up.values():
            self._finish(call)
        self._given_up.clear()
        for incoming in self._answering.values():
            for reader in incoming.readers.values():
                reader.ended, reader.failure = True, "the channel is closed"
                self._wake(reader.waiter)
            if incoming.answer.declared.kind == "stream":
                self._wake(incoming.writer.waiter)

    def _settle(self, call: Outgoing) -> None:
        call.done = True
        if call.reader is not None:
            call.reader.ended = True
            self._wake(call.reader.waiter)
        if call.writers:
            for writer in call.writers.values():
                self._wake(writer.waiter)
        if call.waiter is not None:
            self._wake(call.waiter)


def decode_item(decode: Callable[..., Any], entry: tuple[bytes | None, Inbound | None]) -> Any:
    """Return an item of a stream from what came of it."""
    payload, inbound = entry
    if inbound is None:
        return decode(payload, None)
    try:
        return decode(inbound.payload() if payload is None else payload, inbound)
    finally:
        inbound.close()


def answers_of(interface: type, behind: object) -> dict[str, Answer]:
    """Return the methods of *interface* as *behind* has them. `TypeError` if one is missing."""
    found: dict[str, Answer] = {}
    for name, method in declared(interface).items():
        function = getattr(behind, name, None)
        if not callable(function):
            raise TypeError(f"{type(behind).__name__} has no method {name!r}, which {interface.__name__} declares")
        found[name] = Answer(method, function)
    return found


def _fitting(frame: Reply | Failed) -> Reply | Failed:
    """Return *frame*, without what the seal refused if that does not fit: it is only advice."""
    if not frame.refused or weight(frame) <= MAX_INLINE:
        return frame
    return msgspec.structs.replace(frame, refused=())


def _close(inbound: Inbound | None) -> None:
    if inbound is not None:
        inbound.close()
