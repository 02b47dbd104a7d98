"""Calls in both directions, streams and cancellation. A method that waits is a generator; each frame lets all go on."""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Callable, Generator
from typing import Any, cast

from memory import Memory
from mpack import pack, unpack
from wire import Wire

MAX_INLINE = 65_536 - 1024
WINDOW = 4

Waiting = Generator[None, None, Any]


class Data(bytes):
    """A result that is an attachment."""


class Call:
    """A call of the host's."""

    def __init__(self, peer: Peer, call_id: int, parts: list[Any], fds: list[int], credit: int) -> None:
        self.peer, self.call_id, self.parts, self.credit = peer, call_id, parts, credit
        self.fds = fds
        self.came: dict[int, list[Any]] = {}
        self.ended: set[int] = set()
        self.steps: Waiting | None = None

    def buffer(self, number: int) -> bytes:
        """Return the bytes of an attachment."""
        return self.peer.memory.read(self.parts[number], self.fds)

    def fd(self, number: int, kind: str) -> int:
        """Return an attached fd, which the caller owns."""
        assert self.parts[number] == ["fd", kind]
        return self.fds.pop(0)

    def items(self, stream: int) -> Generator[Any, None, None]:
        """Yield the items of an upload, and None where there is none yet."""
        self.came[stream] = []
        self.peer.send(["credit", self.call_id, stream, WINDOW])
        while self.came[stream] or stream not in self.ended:
            if self.came[stream]:
                yield self.came[stream].pop(0)
                if stream not in self.ended:
                    self.peer.send(["credit", self.call_id, stream, 1])
            else:
                yield None

    def put(self, item: Any) -> Waiting:
        """Send an item of the result, once the host takes one more."""
        while self.credit <= 0:
            yield
        self.credit -= 1
        self.peer.send(["items", self.call_id, 0, [pack(item)]])

    def ask(self, target: int, method: str, *arguments: Any) -> Waiting:
        """Call the host within this call, and return the result."""
        number = next(self.peer.numbers)
        self.peer.send(["call", number, target, method, pack(arguments), [], None, 0, self.call_id])
        while number not in self.peer.answers:
            yield
        tag, value = self.peer.answers.pop(number)
        if tag == "failed":
            raise LookupError(value)
        return value


class Peer:
    """The child's side after ready."""

    def __init__(self, wire: Wire, methods: dict[str, Callable[..., Any]], max_payload: int) -> None:
        self.wire = wire
        self.methods = methods
        self.memory = Memory(self.send, max_payload)
        self.numbers = itertools.count(1)
        self.answers: dict[int, tuple[str, Any]] = {}
        self.calls: dict[int, Call] = {}
        self.is_shut = False

    def send(self, *frames: list[Any], fds: tuple[int, ...] = ()) -> None:
        """Send frames in one datagram."""
        self.wire.send(frames, fds)

    def serve(self) -> None:
        """Answer until the host says shutdown and all is answered."""
        while not self.is_shut or self.calls:
            frames, fds = self.wire.receive()
            for tag, *fields in frames:
                getattr(self, f"on_{tag.replace('-', '_')}")(fds, *fields)
            for call in list(self.calls.values()):
                self.go_on(call)

    def on_call(
        self,
        fds: list[int],
        call_id: int,
        target: int,
        method: str,
        payload: bytes | None,
        parts: list[Any],
        timeout: int | None = None,
        credit: int = 0,
        within: int = 0,
        many: bool = False,
        uploads: list[int] | None = None,
    ) -> None:
        """Begin to answer."""
        call = Call(self, call_id, parts, fds, credit)
        if target != 0 or method not in self.methods:
            text = f"it has {', '.join(self.methods)}"
            self.send(["failed", call_id, "unknown-method" if target == 0 else "not-offered", "", text])
            return
        arguments = unpack(payload if payload is not None else call.buffer(0))
        function = self.methods[method]
        self.calls[call_id] = call
        try:
            result = [function(call, *each) for each in arguments] if many else function(call, *arguments)
        except Exception as error:  # noqa: BLE001 - whatever it raises is the answer
            self.fail(call, error)
        else:
            if inspect.isgenerator(result):
                call.steps = cast(Waiting, result)
            else:
                self.reply(call, result)

    def go_on(self, call: Call) -> None:
        """Let a method that waits look whether it still has to."""
        assert call.steps is not None
        try:
            next(call.steps)
        except StopIteration as over:
            self.reply(call, over.value)
        except Exception as error:  # noqa: BLE001 - whatever it raises is the answer
            self.fail(call, error)

    def reply(self, call: Call, result: Any) -> None:
        """Send the result: in the frame, or beside it if it is large or data."""
        del self.calls[call.call_id]
        payload, data = (pack(0), result) if isinstance(result, Data) else (None, pack(result))
        if payload is None and len(data) <= MAX_INLINE:
            self.send(["reply", call.call_id, data])
            return
        part, fds = self.memory.place(data)
        self.send(["reply", call.call_id, payload, [part]], fds=fds)
        for fd in fds:
            os.close(fd)

    def fail(self, call: Call, error: Exception) -> None:
        """Say what the method raised."""
        del self.calls[call.call_id]
        self.send(["failed", call.call_id, "exception", type(error).__name__, str(error), "somewhere"])

    def on_cancel(self, fds: list[int], call_id: int) -> None:
        """End a call, unless its answer is on its way already."""
        call = self.calls.pop(call_id, None)
        if call is not None:
            assert call.steps is not None
            call.steps.close()
            self.send(["failed", call_id, "cancelled"])

    def on_notify(self, fds: list[int], target: int, method: str, payload: bytes, parts: list[Any]) -> None:
        """Hear something that takes no answer."""
        self.methods[method](Call(self, 0, parts, fds, 0), *unpack(payload))

    def on_items(self, fds: list[int], call_id: int, stream: int, payloads: list[bytes], parts: list[Any]) -> None:
        """Take items of an upload; of a call that is answered already, they were sent before the host knew."""
        if call_id in self.calls:
            self.calls[call_id].came[stream] += map(unpack, payloads)

    def on_end(self, fds: list[int], call_id: int, stream: int, text: str = "") -> None:
        """An upload is over."""
        if call_id in self.calls:
            self.calls[call_id].ended.add(stream)

    def on_credit(self, fds: list[int], call_id: int, stream: int, count: int) -> None:
        """The host takes more items."""
        if call_id in self.calls:
            self.calls[call_id].credit += count

    def on_reply(self, fds: list[int], call_id: int, payload: bytes, parts: Any = (), refused: Any = ()) -> None:
        """The host has answered."""
        self.answers[call_id] = ("reply", unpack(payload))

    def on_failed(self, fds: list[int], call_id: int, kind: str, error: str = "", text: str = "", *rest: Any) -> None:
        """The host has answered, and that there is no result."""
        self.answers[call_id] = ("failed", f"{kind}: {text}")

    def on_share(self, fds: list[int], generation: int, size: int, written_by: str) -> None:
        """Take an arena."""
        self.memory.share(fds.pop(), generation, size, written_by)

    def on_unshare(self, fds: list[int], generation: int) -> None:
        """Let go of an arena."""
        self.memory.reading.pop(generation).close()

    def on_release(self, fds: list[int], generation: int, offsets: list[int]) -> None:
        """Pieces of ours are free."""
        self.memory.release(generation, offsets)

    def on_log_levels(self, fds: list[int], levels: dict[str, int]) -> None:
        """Take note of how much to log."""

    def on_trim(self, fds: list[int]) -> None:
        """Nothing is kept for later here."""

    def on_shutdown(self, fds: list[int]) -> None:
        """End, once all is answered."""
        self.is_shut = True
