"""The child's side of calls: the plugin's methods as answers, and how its errors are told."""

from __future__ import annotations

import inspect
import threading
import time
from contextlib import suppress
from typing import Any

from ..ipc.channel.base import Channel, EndOfChannel
from ..ipc.errors import PeerProtocolError, ServiceError
from ..ipc.frames import MAX_INLINE, Call, Failed, FailureKind, Reply, decode_from_host, encode
from ..ipc.interface import ArgumentsUnfit, Declared, ValueUnfit, declared_by
from ..ipc.peer.base import Encoded, Peer, fitting
from ..ipc.peer.blocking import QUICK, BlockingPeer
from ..ipc.peer.records import Answer, Answers, Incoming, Outgoing
from ..ipc.peer.store import Store
from .errors_as_text import class_name, describe, text_of
from .refused import RefusedImports
from .services import Services

NO_LOOP = 'and this child has no event loop; make one before the seal: early_init = ["asyncio"]'


class ChildSide:
    """How the child tells and hears errors (`belljar.ipc.peer.base.Side`)."""

    decode = staticmethod(decode_from_host)
    takes_many = True

    def __init__(self, refused: RefusedImports, services: Services) -> None:
        self._refused = refused
        self.refused = refused.take
        self.proxy = services.proxy

    def answered(self, call: Outgoing, answer: Reply | Failed) -> None:
        """The host's answers need no second look."""

    def heard(self, call: Outgoing, failed: Failed) -> Exception:
        """Return the error that the plugin gets: as its own class, if the interface declares it."""
        if failed.kind == "declared" and (kind := call.declared.raises.get(failed.error)) is not None:
            return kind(failed.text)
        return ServiceError(failed.text)

    def told(self, incoming: Incoming, error: BaseException) -> tuple[FailureKind, str, str, str]:
        """All that the plugin raises is told to the host, as text."""
        kind, name = type(error), class_name(error)  # isinstance would ask the error, too
        if issubclass(kind, ArgumentsUnfit):
            return "argument", "", text_of(error), ""
        if issubclass(kind, ValueUnfit):
            return "result", name, text_of(error), ""
        if incoming.cancelled and not issubclass(kind, Exception):
            return "cancelled", "", "as it was told to", ""
        text, trace = describe(error, without_files=self._refused.is_watching)
        return "declared" if name in incoming.answer.declared.raises else "exception", name, text, trace

    def lost(self, incoming: Incoming, error: BaseException) -> None:
        """Say on stdout what a notification raised: the host logs it."""
        _, trace = describe(error, without_files=self._refused.is_watching)
        with suppress(Exception):  # the plugin may have closed it, or put something else in its place
            print(f"{incoming.answer.declared.name} was notified and raised:\n{trace}", flush=True)


class ChildPeer(Peer):
    """What the peers of both kinds of children do alike."""

    def _reply(self, incoming: Incoming, encoded: Encoded) -> None:
        """See `Peer._reply`. `ValueUnfit`: the plugin keeps a view of an argument; a `BufferError` may be its own."""
        try:
            super()._reply(incoming, encoded)
        except BufferError as error:
            raise ValueUnfit(str(error)) from None


class BlockingChild(ChildPeer, BlockingPeer):
    """The peer of a child that answers one call at a time.

    There is a short way for a call that comes alone and needs nothing but its method, as most do. What a call costs is
    mostly how much of the interpreter it touches, for after each switch between host and child the caches are cold. So
    `_receive_call` and `_answer_at_once` say in one piece what `take`, `_run` and `_send` do for all calls.
    """

    def serve(self) -> None:
        """See `BlockingPeer.serve`."""
        self._executor = threading.get_ident()
        while not self._has_ended():
            if (self._todo or self._producing) and self._work():
                continue
            if (incoming := self._receive_call()) is not None:
                self._answer_at_once(incoming)
                if incoming.answer.took > QUICK:
                    self._take_what_came()  # such as the cancellation of what would be next
        self._flush()
        if self.ended is not None:
            raise self.ended

    def _receive_call(self) -> Incoming | None:
        """Wait for a datagram and act on it; if it is one plain call, return that instead, to be answered at once."""
        if not self._reading.acquire(False):
            self._flush_before_following()
            self._follow(self._has_work, None)
            return None
        try:
            self._rest()
            received = self.channel.wait_receive(None)
            if received is None:
                return None
            frames = self._decode(received.data)
            if len(frames) == 1 and type(frame := frames[0]) is Call and frame.payload is not None:
                answer = self._targets[0].get(frame.method)
                if (
                    answer is not None
                    and answer.is_plain
                    and not (frame.target or frame.many or frame.parts or frame.uploads or received.fds)
                    and frame.call_id > self._last_call
                    and not self._producing
                ):
                    self._last_call = frame.call_id
                    incoming = self._answering[frame.call_id] = Incoming(frame, answer, None)
                    return incoming
            self._take_frames(frames, received)
        except (EndOfChannel, PeerProtocolError) as error:
            self.end(error)
        finally:
            self._reading.release()
            if self._followers:
                self._tell_followers()
        return None

    def _has_work(self) -> bool:
        return bool(self._todo or self._producing) or self._has_ended()

    def _answer_at_once(self, incoming: Incoming) -> None:
        frame, answer = incoming.frame, incoming.answer
        assert frame.payload is not None
        self._running.append(incoming)
        began = time.perf_counter()
        try:
            payload = answer.encode(answer.function(*answer.decode(frame.payload)))
        except BaseException as error:  # noqa: BLE001 - the edge of foreign code: whatever it raises is its answer
            self._fail(incoming, error)
            return
        finally:
            self._running.pop()
            answer.took = time.perf_counter() - began
        if self._abandoned:  # as in `_run`
            self._give_up_abandoned()
        if len(payload) > MAX_INLINE or self._out or self.store.may_release:
            self._reply_with(incoming, payload)
            return
        del self._answering[frame.call_id]
        reply = Reply(frame.call_id, payload, (), self.side.refused())
        data = encode([fitting(reply) if reply.refused else reply])
        try:
            if not self.channel.send(data):
                self._send_slowly(data, ())
        except EndOfChannel as error:
            self.end(error)

    def ask(self, target: int, method: Declared, arguments: tuple[Any, ...]) -> Any:
        """Call the host, and wait for its answer if there will be one."""
        if method.kind == "notify":
            return self.notify(target, method, arguments)
        return self.call(target, method, arguments)


def make_peer(
    channel: Channel, answers: Answers, refused: RefusedImports, services: Services, max_payload: int
) -> BlockingChild:
    """Return the peer of a child without event loop whose plugin has *answers*."""
    side = ChildSide(refused, services)
    return BlockingChild(channel, side, Store(max_payload, copies=False), {0: answers}, executor=True)


def plugin_answers(plugin: object, *, on_loop: bool) -> dict[str, Answer]:
    """Return the public methods of *plugin* as answers.

    Raises:
        TypeError: one cannot be called, or not by this child: it is asynchronous and there is no loop, or the reverse.
    """
    found = {name: Answer(*pair) for name, pair in declared_by(plugin).items()}
    for name, answer in found.items():
        where, function = f"{type(plugin).__name__}.{name}", answer.function
        is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        if is_async and not on_loop:
            raise TypeError(f"{where} is asynchronous, {NO_LOOP}")
        if on_loop and answer.declared.uploads and not is_async and answer.declared.kind != "stream":
            raise TypeError(f"{where} reads a stream, which takes 'async def' in a child with the step asyncio")
    return found
