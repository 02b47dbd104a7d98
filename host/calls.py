"""Calls from the host to a plugin: one at a time a child, arguments and results as msgpack, errors by kind."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import anyio
import anyio.lowlevel
import msgspec

from ..ipc.channel.base import EndOfChannel
from ..ipc.datagram import Datagram
from ..ipc.errors import PeerProtocolError
from ..ipc.messages import MAX_INLINE, Call, CallFailed, Reply, ServiceCall, ServiceFailed, ServiceReply, Shutdown
from ..ipc.payload import make_sealed, read_sealed
from .config.place import printable
from .connection import Connection
from .errors import ArgumentError, CallError, CallTimeout, PluginError, ResultError, UnknownMethod
from .services import Services
from .stages import Launching

log = logging.getLogger("belljar.host")

_encoder = msgspec.msgpack.Encoder()
_ANSWERS = (Reply, CallFailed)
_LARGE_STR = (0xDA, 0xDB)  # how msgpack begins a str16 or str32; bytes begin otherwise


@lru_cache(maxsize=512)
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


class _Turn:
    """A lock in the order of asking. `anyio.Lock` is the same, and costs a fifth of a call even when nobody waits."""

    def __init__(self) -> None:
        self._busy = False
        self._waiting: deque[anyio.Event] = deque()

    def take_now(self) -> bool:
        """Take the turn if nobody has it."""
        was_busy, self._busy = self._busy, True
        return not was_busy

    async def take(self) -> None:
        """Wait for the turn, which `give_up` hands on."""
        event = anyio.Event()
        self._waiting.append(event)
        try:
            await event.wait()
        except BaseException:
            if event.is_set():
                self.give_up()
            else:
                self._waiting.remove(event)
            raise

    async def take_last(self) -> None:
        """Wait until nobody else has the turn or waits for it."""
        if not self.take_now():
            await self.take()
        while self._waiting:
            self.give_up()
            await self.take()

    def give_up(self) -> None:
        """Hand the turn to whoever has waited longest."""
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self._busy = False


MAX_DEPTH = 16
"""How deep calls and services may be nested in each other."""

_within: ContextVar[tuple[_Turn, ...]] = ContextVar("_within", default=())
"""The turns of calls that services make, of this child and others, in the service's own context, the innermost last."""


class Calls:
    """The calls of one child. *kill* ends it with a reason; *refusals* are the files that the seal refused lately."""

    def __init__(
        self,
        launching: Launching,
        services: Services,
        refusals: Callable[[], tuple[str, ...]],
        kill: Callable[[str], None],
    ) -> None:
        self._launching = launching
        self._services = services
        self._refusals = refusals
        self._kill = kill
        self._turns = [_Turn()]
        self._last_id = 0
        self._given_up = ""

    @property
    def _connection(self) -> Connection:
        return self._launching.connection

    async def call(self, method: str, arguments: tuple[Any, ...], returns: Any, timeout: float | None) -> Any:
        """Make one call; see `ProcessHost.call`. `EndOfChannel` if the child ended."""
        if not method.isidentifier() or len(method) > 256:
            raise UnknownMethod(f"the plugin has no method {method[:256]!a}: that is no name of one")
        payload = self._encode(method, arguments)
        if timeout is None:
            return await self._in_turn(method, payload, returns)
        with anyio.move_on_after(timeout):
            return await self._in_turn(method, payload, returns)
        text = "it was still waiting for its turn" if self._given_up != method else "the child was killed"
        raise CallTimeout(f"{method!r} did not answer within {timeout:g} s: {text}")

    async def _in_turn(self, method: str, payload: bytes, returns: Any) -> Any:
        turn = next((turn for turn in reversed(_within.get()) if turn in self._turns), self._turns[0])
        if not turn.take_now():
            await turn.take()
        try:
            return await self._exchange(method, payload, returns)
        finally:
            turn.give_up()

    def _encode(self, method: str, arguments: tuple[Any, ...]) -> bytes:
        try:
            payload = _encoder.encode(arguments)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ArgumentError(f"could not call {method!r}: its arguments cannot be sent: {error}") from None
        if len(payload) > self._launching.process.max_payload:
            limit = self._launching.process.max_payload
            raise ArgumentError(f"could not call {method!r}: its {len(payload)} bytes are over max_payload = {limit}")
        return payload

    async def _exchange(self, method: str, payload: bytes, returns: Any) -> Any:
        """Send the call and wait for its answer. Left half-way, by cancellation, the child must go."""
        if self._given_up:  # what else comes is the answer to another call, or another task still waits for one
            raise EndOfChannel
        self._last_id += 1
        call_id = self._last_id
        answered = False
        try:
            if len(payload) <= MAX_INLINE:
                await self._connection.send(Call(call_id, method, payload))
            else:
                await self._send_large(payload, Call(call_id, method, None))
            answer, received = await self._connection.receive()
            while isinstance(answer, ServiceCall):
                await self._serve(answer, received)
                answer, received = await self._connection.receive()
            answered = True
        except (EndOfChannel, PeerProtocolError):
            answered = True  # by what it did, and there is a better reason than the one below
            raise
        finally:
            if not answered:
                self._given_up = method
                self._kill(f"the call of {method!r} was given up")
        try:
            return self._result(call_id, method, answer, received, returns)
        finally:
            received.close()

    async def _send_large(self, payload: bytes, message: Call | ServiceReply) -> None:
        fd = make_sealed(payload)
        try:
            await self._connection.send(message, [fd])
        finally:
            os.close(fd)

    async def _serve(self, call: ServiceCall, received: Datagram) -> None:
        """Answer what the plugin asks during the call of this task. Calls that the service makes go in between.

        Those calls have a turn of their own, for the one of this task is taken; it ends when all of them have.
        """
        with closing(received):
            if call.payload is None:
                payload = read_sealed(received.take_fd(), self._launching.process.max_payload)
            else:
                received.expect_no_fd()
                payload = call.payload
        await anyio.lowlevel.checkpoint()  # a child that always asks for more would have the event loop to itself
        if len(self._turns) > MAX_DEPTH:
            raise PeerProtocolError(f"calls and services are nested more than {MAX_DEPTH} deep")
        turn = _Turn()
        self._turns.append(turn)
        token = _within.set((*_within.get(), turn))
        try:
            answer = await self._services.answer(call.call_id, call.service, call.method, payload)
            await turn.take_last()  # tasks that the service started may not have come to the end of their calls
        finally:
            _within.reset(token)
            self._turns.remove(turn)
        if isinstance(answer, ServiceFailed):
            await self._connection.send(answer)
        elif len(answer) <= MAX_INLINE:
            await self._connection.send(ServiceReply(call.call_id, answer))
        else:
            await self._send_large(answer, ServiceReply(call.call_id, None))

    def _result(self, call_id: int, method: str, answer: object, received: Datagram, returns: Any) -> Any:
        if not isinstance(answer, _ANSWERS) or answer.call_id != call_id:
            raise PeerProtocolError(f"the child answered call {call_id} with {type(answer).__name__}")
        refused = self._refusals()
        if answer.refused:
            # Words of the child, on their way into the log: no line breaks, and nothing that a terminal would obey.
            refused = (*(f"import {printable(name)}" for name in answer.refused), *refused)
        if refused:
            log.warning(
                "%s: after the seal, %r was refused %s", self._launching.process.name, method, ", ".join(refused)
            )
        if isinstance(answer, CallFailed):
            received.expect_no_fd()
            raise _error(method, answer, refused)
        if answer.payload is not None:
            received.expect_no_fd()
            return _decode(method, answer.payload, returns)
        payload = read_sealed(received.take_fd(), self._launching.process.max_payload)
        return _decode_untyped(method, payload) if returns is Any else _decode(method, payload, returns)

    async def ask_to_end(self, message: Shutdown) -> None:
        """Send *message* once no call is under way; a child that has gone is what was wanted."""
        with suppress(EndOfChannel):
            turn = self._turns[0]
            if not turn.take_now():
                await turn.take()
            try:
                await self._connection.send(message)
            finally:
                turn.give_up()


def _decode(method: str, payload: bytes, kind: Any) -> Any:
    try:
        return _decoder(kind).decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ResultError(f"the result of {method!r} does not fit: {error}") from None


def _decode_untyped(method: str, payload: bytes) -> Any:
    """Decode a large result without a declared type: one str or bytes, which take no more memory than on the way."""
    try:
        return _decode(method, payload, str if payload[0] in _LARGE_STR else bytes)
    except ResultError:
        text = f"the result of {method!r} has {len(payload)} bytes and no declared type; use returns= or an interface"
        raise ResultError(text) from None


def _error(method: str, answer: CallFailed, refused: tuple[str, ...]) -> CallError:
    if answer.kind == "unknown-method":
        return UnknownMethod(f"the plugin has no method {method!r}; {answer.text}")
    if answer.kind == "argument":
        return ArgumentError(f"could not call {method!r}: {answer.text}")
    if answer.kind == "result":
        return ResultError(f"the result of {method!r} cannot be sent: {answer.text}")
    text = f"{method!r} raised {answer.error}: {answer.text}"
    if refused:
        text += f" (the seal refused {', '.join(refused)}: preload it or warm it up, if that is why)"
    return PluginError(text, remote_type=answer.error, remote_traceback=answer.traceback, refused=refused)
