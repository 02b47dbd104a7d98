"""The rules that both engines share: what a frame may say, when, and what becomes of it.

A peer has four tables: its own calls that wait for an answer, those that were given up and are still unanswered, the
calls of the other side that it works on, and the targets that it offers. Whatever a frame refers to must be in one of
them, or have been there: what crosses a cancellation on its way is ignored, all else is a `PeerProtocolError`.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import msgspec

from ..channel.base import Channel
from ..datagram import Datagram
from ..errors import CallError, CallTimeout, LocalProtocolError, PeerProtocolError
from ..frames import (
    Call,
    Cancel,
    Failed,
    FailureKind,
    Frame,
    Notify,
    Part,
    Reply,
    encode,
    weight,
)
from ..interface.declared import Declared
from ..interface.errors import ArgumentsUnfit, ValueUnfit
from ..messages import MAX_INLINE, shorten
from .attachments import Inbound, Outbound, TooMuch
from .records import MAX_DEPTH, MAX_UNDER_WAY, Answer, Answers, Incoming, Outgoing, Reader, Writer, window_of
from .sharing import Sharing
from .side import Side
from .store import Store, TooLarge
from .streaming import Streaming
from .tables import FIRST_OBJECT, close

Encoded: TypeAlias = tuple[bytes | None, Outbound | None]
"""A payload, None if it is the first attachment, and the attachments, if there are any."""


PART_SPACE = 36
"""Bytes that a part takes in a message, beside those of a buffer that stands there itself."""

FREE_PARTS = 8
"""As many parts have room in a datagram beside a payload of the most bytes."""

UNSENDABLE = (OSError, LocalProtocolError)
"""ETOOMANYREFS: this user has too many fds on their way, see unix(7). Or it is too large for a datagram."""

LONGEST = 1e9
"""Seconds: what is longer is told as this, thirty years."""

NO_DATAGRAM = Datagram(b"", [], (), None)
NOTHING: Encoded = (b"\xc0", None)


class Peer(Streaming, Sharing):
    """One of two equals; the subclasses wait."""

    def __init__(self, channel: Channel, side: Side, store: Store, offers: Mapping[int, Answers]) -> None:
        super().__init__(channel, side, store, offers)
        self._takers |= {
            Call: self._take_call,
            Notify: self._take_notify,
            Reply: self._take_answer,
            Failed: self._take_answer,
            Cancel: self._take_cancel,
        }
        self._abandoned: deque[Outgoing] = deque()
        self._moving = threading.RLock()  # a call is under way or given up, whatever two threads do with it

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

    def _unattached(self, answer: Answer) -> Inbound | None:
        """References to objects need no part, but something to make proxies."""
        return None if answer.declared.plain else Inbound(self.store, (), NO_DATAGRAM, self._proxy, lent=True)

    def _take_call(self, frame: Call, received: Datagram) -> None:
        inbound = self._inbound(frame.parts, received, lent=True) if frame.parts or received.fds else None
        if frame.call_id <= self._last_call:
            close(inbound)
            raise PeerProtocolError(f"call {frame.call_id} came after call {self._last_call}")
        self._last_call = frame.call_id
        if frame.many and not self.side.takes_many:
            close(inbound)
            raise PeerProtocolError(f"call {frame.call_id} is many, which only a host may make")
        if len(self._answering) >= MAX_UNDER_WAY:
            close(inbound)
            raise PeerProtocolError(f"more than {MAX_UNDER_WAY} calls are under way")
        answer = self._targets.get(frame.target, {}).get(frame.method)
        if answer is None or answer.declared.kind == "notify" or (frame.many and answer.declared.kind != "call"):
            close(inbound)
            kind, text = self._not_there(frame.target)
            self._post(Failed(frame.call_id, kind, "", text))
            return
        if answer.declared.kind == "stream" and not frame.credit:  # its caller would wait for items that may not come
            close(inbound)
            self._post(Failed(frame.call_id, "argument", "", "it is a stream; call it by an interface that says so"))
            return
        if frame.uploads and not {position + 1 for position in answer.declared.uploads}.issuperset(frame.uploads):
            close(inbound)
            self._post(Failed(frame.call_id, "argument", "", "it takes no stream where the caller has one"))
            return
        if inbound is None:
            inbound = self._unattached(answer)
        elif inbound.is_too_much():
            inbound.close()
            self._post(Failed(frame.call_id, "argument", "", "the calls under way have too much in their arguments"))
            return
        incoming = Incoming(frame, answer, inbound)
        if frame.within and (outer := self._calls.get(frame.within)) is not None:
            incoming.depth = outer.depth + 1
        if frame.uploads:
            self._expect_uploads(incoming)
        self._answering[frame.call_id] = incoming
        self._start(incoming)

    def _not_there(self, target: int) -> tuple[FailureKind, str]:
        answers = self._targets.get(target)
        if answers is None:
            if target >= FIRST_OBJECT:
                return "not-offered", "it was passed by reference, and so could be called until that call was answered"
            return "not-offered", f"nothing is offered as {target}"
        return "unknown-method", shorten(f"it has {', '.join(answers) or 'no public methods'}", 4096)

    def _take_notify(self, frame: Notify, received: Datagram) -> None:
        inbound = self._inbound(frame.parts, received, lent=False)  # there is no answer to give it back with
        answer = self._targets.get(frame.target, {}).get(frame.method)
        if answer is None or answer.declared.kind != "notify":
            close(inbound)  # by rule: whoever notifies does not hear of it either
            return
        if inbound is not None and inbound.is_too_much():
            inbound.close()
            raise PeerProtocolError("the notifications that wait have too much in their arguments")
        call = Call(0, frame.target, frame.method, frame.payload, frame.parts)
        self._start(Incoming(call, answer, inbound or self._unattached(answer)))

    def _take_answer(self, frame: Reply | Failed, received: Datagram) -> None:
        inbound = None
        if type(frame) is Reply and (frame.parts or received.fds):
            inbound = self._inbound(frame.parts, received, lent=False)
        with self._moving:
            call = self._calls.pop(frame.call_id, None)
            if call is not None:
                call.answer, call.inbound = frame, inbound
            given_up = self._given_up.pop(frame.call_id, None) if call is None else None
        if call is not None:
            self._finish(call)
            self._settle(call)
            return
        close(inbound)
        if given_up is None:
            raise PeerProtocolError(f"an answer came to call {frame.call_id}, which is not under way")
        self._finish(given_up)

    def _finish(self, call: Outgoing) -> None:
        """The other side is done with *call*: what was attached to it is ours again."""
        if call.outbound is not None:
            call.outbound.discard()
            self._unshare(self.store.drop_retired())
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
                if not reader.ended:  # else all of it came
                    reader.ended, reader.failure = True, "the call was cancelled"
                self._wake(reader.waiter)
            self._cancelled(incoming)

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
            self._post(fitting(Reply(incoming.call_id, payload, (), refused)))
        else:
            reply = fitting(Reply(incoming.call_id, payload, tuple(outbound.parts), refused))
            self._post_lending(reply, outbound, ValueUnfit)

    def _post_lending(self, frame: Frame, outbound: Outbound | None, unfit: type[Exception]) -> None:
        """Send *frame*, whose pieces the other side releases. *unfit*: the kernel refuses to pass its fds."""
        if outbound is not None:
            outbound.lend()
        try:
            self._post(frame, outbound)
        except UNSENDABLE as error:
            if outbound is not None:
                outbound.discard()
            raise unfit(cannot_send(error)) from None

    def _reply_with(self, incoming: Incoming, payload: bytes) -> None:
        """Send a result that needs nothing attached but, if it is large, itself."""
        try:
            self._reply(incoming, self._encode(lambda value, _: value, payload, ValueUnfit, plain=True))
        except ValueUnfit as error:
            self._fail(incoming, error)

    def _fail(self, incoming: Incoming, error: BaseException) -> None:
        with suppress(BufferError):
            self._close_call(incoming)
        if self.ended is not None:  # which is why it failed, or nobody hears of it
            return
        if incoming.call_id == 0:  # a notification; nobody waits for its end
            self.side.lost(incoming, error)
            return
        kind, name, text, trace = self.side.told(incoming, error)
        name, text, trace = shorten(name, 256), shorten(text, 4096), shorten(trace, 8192)
        self._post(fitting(Failed(incoming.call_id, kind, name, text, trace, self.side.refused())))

    def _close_call(self, incoming: Incoming) -> None:
        self._answering.pop(incoming.call_id, None)
        for reader in incoming.readers.values():
            if not reader.ended:  # whoever has kept it would wait for ever
                reader.ended, reader.failure = True, "the call is over"
                self._wake(reader.waiter)
        if incoming.inbound is not None or incoming.readers:
            incoming.close()

    # What goes out.

    def _begin_at_once(
        self, target: int, method: Declared, payload: bytes, timeout: float | None
    ) -> tuple[Outgoing, bytes]:
        """Return a new call to which nothing else belongs, and its datagram."""
        self._newest_call = number = next(self._call_numbers)
        call = self._calls[number] = Outgoing(number, method, timeout, None)
        call.is_quick = True
        return call, encode([Call(number, target, method.name, payload, (), milliseconds(timeout))])

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
        uploads: Sequence[int] = (),
    ) -> tuple[Outgoing, Call]:
        """Return a new call and its frame; *runs* is the call that asks for it, *uploads* are arguments by position."""
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
        streams: tuple[int, ...] = ()
        if uploads:
            call.writers = {position: Writer() for position in uploads}
            call.uploads = []
            streams = tuple(position + 1 for position in uploads)
        within, limit = 0 if runs is None else runs.call_id, milliseconds(timeout)
        frame = Call(call.call_id, target, method.name, payload, parts, limit, credit, within, many > 0, streams)
        self._newest_call = call.call_id
        self._calls[call.call_id] = call
        return call, frame

    def _post_call(self, call: Outgoing, frame: Call) -> None:
        """Send a call that `_begin` made. `ArgumentsUnfit`: the kernel refuses to pass its fds."""
        try:
            self._post(frame, call.outbound)
        except UNSENDABLE as error:
            del self._calls[call.call_id]
            self._finish(call)
            raise ArgumentsUnfit(cannot_send(error)) from None

    def _give_up(self, call: Outgoing) -> None:
        """Nobody waits for *call* any more: ask the other side to end it, and ignore what comes of it meanwhile."""
        with self._moving:
            is_under_way = self._calls.pop(call.call_id, None) is not None
            if is_under_way:
                self._given_up[call.call_id] = call
        if is_under_way:
            for upload in call.uploads:
                self._stop_upload(upload)
            if call.outbound is not None:  # its pieces are still read, but nobody here expects to be called
                call.outbound.withdraw()
            self._post(Cancel(call.call_id))
        elif call.inbound is not None:  # the answer came just before
            call.inbound.close()

    def abandon(self, call: Outgoing) -> None:
        """Nobody holds the stream *call* any more. From any thread, and wherever a finalizer interrupts one."""
        self._abandoned.append(call)  # no more than that, as long as somebody will look
        if self.ended is not None:
            self._give_up_abandoned()

    def _give_up_abandoned(self) -> None:
        """Give up the streams that nobody holds any more, with what has come of them."""
        while self._abandoned:
            try:
                call = self._abandoned.popleft()
            except IndexError:  # another thread took it
                return
            self._give_up(call)
            if call.reader is not None:
                call.reader.close()

    def _upload_failed(self, call: Outgoing, position: int, error: Exception) -> str:
        """The iterator that is an argument of *call* raised *error*, or its item cannot be sent; return the text."""
        if isinstance(error, ValueUnfit):
            error = ArgumentsUnfit(f"an item of argument {call.declared.parameters[position].name!r}: {error}")
        call.broken = call.broken or error
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

    def _encode(self, encoder: Callable[..., bytes], value: Any, unfit: type[Exception], *, plain: bool) -> Encoded:
        """Return *value* as a payload with its attachments; a payload that is too large is one itself, the first.

        Raises *unfit* if it cannot be sent.
        """
        if plain:
            payload = encoder(value, None)
            if len(payload) <= MAX_INLINE:
                return payload, None
        outbound = Outbound(self.store, self._register, self._unregister, gradually=self.gradually)
        try:
            if plain:
                outbound.buffer(memoryview(payload))
                outbound.pack()
                return None, outbound
            payload = encoder(value, outbound)
            outbound.pack()
            if len(payload) + outbound.inline > MAX_INLINE - PART_SPACE * max(0, len(outbound.parts) - FREE_PARTS):
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
            close(call.inbound)
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
            if answer.payload is not None and call.declared.result.plain:  # and else decoded as a mere number
                raise ValueUnfit("it has an attachment; say of which type, by returns= or an interface")
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
        for incoming in [*self._answering.values()]:  # in one step: another thread may answer one
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


def cannot_send(error: Exception) -> str:
    """Return in words why a message was not sent."""
    return f"could not send it: {error.strerror}" if isinstance(error, OSError) else str(error)


def milliseconds(timeout: float | None) -> int | None:
    """Return *timeout*, in seconds, as it stands in a call, which has no room for any number."""
    return None if timeout is None else int(min(max(0.0, timeout), LONGEST) * 1000)


def fitting(frame: Reply | Failed) -> Reply | Failed:
    """Return *frame*, without what the seal refused if that does not fit: it is only advice."""
    if not frame.refused or weight(frame) <= MAX_INLINE:
        return frame
    return msgspec.structs.replace(frame, refused=())
