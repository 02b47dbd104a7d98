"""What a peer remembers: calls of its own, calls that it answers, and the two ends of a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from ..channel.base import EndOfChannel
from ..errors import PeerProtocolError
from ..frames import Call, Failed, Reply
from ..interface.codec import Codec
from ..interface.declared import Declared, declared
from ..interface.errors import ArgumentsUnfit, ValueUnfit
from .attachments import Inbound, Outbound
from .store import StoreUse

WINDOW = 256
"""Items of a stream that may be on their way."""

WINDOW_OF_LARGE = 8
"""The same for streams whose items can be large: buffers, arrays, pictures."""

MAX_UNDER_WAY = 256
"""Calls of one peer that may wait for an answer; one that has more breaks the protocol."""


class NotSent(EndOfChannel):
    """The channel was closed before a call was sent."""


EXPLAINED = (EndOfChannel, PeerProtocolError, ArgumentsUnfit, ValueUnfit)
"""What a caller gets to see only once `explain` has put it in the caller's words."""

MAX_DEPTH = 16
"""How deep calls may be nested in each other."""


def window_of(declared: Declared) -> int:
    """Return how many items of a stream of *declared* may be on their way."""
    return WINDOW if declared.plain else WINDOW_OF_LARGE


class PeerUse(NamedTuple):
    """What a peer has done and does now.

    Attributes:
        calls: Calls that this side has made.
        under_way: Those that wait for an answer.
        given_up: Those that nobody waits for and that the other side has not ended yet.
        asked: Calls that the other side has made.
        answering: Those that this side works on.
        queued: Bytes that wait for room in the channel.
        memory: How the memory for large payloads is used.
    """

    calls: int
    under_way: int
    given_up: int
    asked: int
    answering: int
    queued: int
    memory: StoreUse


class Reader:
    """The reading end of a stream: what has come and was not taken yet. ``window`` 0: it takes no items at all."""

    __slots__ = ("ended", "failure", "granted", "items", "taken", "waiter", "window")

    def __init__(self, window: int) -> None:
        self.items: deque[tuple[bytes | None, Inbound | None]] = deque()
        self.window = window
        self.granted = window
        self.taken = 0
        self.ended = False
        self.failure = ""
        self.waiter: Any = None

    def take(self) -> tuple[bytes | None, Inbound | None]:
        """Return the next item, which must be there."""
        self.taken += 1
        return self.items.popleft()

    def has_news(self) -> bool:
        """Whether an item is there, or the end."""
        return bool(self.items) or self.ended

    def close(self) -> None:
        """Release what has come and nobody takes."""
        while self.items:
            inbound = self.items.popleft()[1]
            if inbound is not None:
                inbound.close()

    def to_grant(self) -> int:
        """Return for how many more items to give credit now: 0, or half the window at least."""
        if self.taken * 2 < self.window or self.ended:
            return 0
        count, self.taken = self.taken, 0
        self.granted += count
        return count


class Writer:
    """The writing end of a stream: how many more items the reader takes."""

    __slots__ = ("credit", "waiter")

    def __init__(self, credit: int = 0) -> None:
        self.credit = credit
        self.waiter: Any = None


class Outgoing:
    """A call of ours, made while we answer *runs*, if it was.

    ``answer`` is the peer's, ``error`` what else ended the call; one of them is there once it is ``done``. What most
    calls never have stands in the class: to make one costs as much as to send it.
    """

    deadline: float | None = None
    done = False
    answer: Reply | Failed | None = None
    error: BaseException | None = None
    broken: BaseException | None = None
    inbound: Inbound | None = None
    outbound: Outbound | None = None
    reader: Reader | None = None
    writers: Mapping[int, Writer] = MappingProxyType({})
    uploads: list[Any] | tuple[()] = ()
    waiter: Any = None
    many = 0
    chain: tuple[Any, ...] = ()
    late_since: float | None = None
    is_quick = False
    """Nothing is attached to it, and nothing else belongs to it."""

    def __init__(self, call_id: int, declared: Declared, timeout: float | None, runs: Incoming | None) -> None:
        self.call_id = call_id
        self.declared = declared
        self.timeout = timeout
        self.runs = runs

    @property
    def depth(self) -> int:
        """How many calls this one is made within."""
        return 0 if self.runs is None else self.runs.depth + 1

    def is_done(self) -> bool:
        """Whether the outcome is there."""
        return self.done


class Answer:
    """A method that this side answers, what people call it, and how long it took lately, in seconds.

    A *plain* one is called and has a result, and nothing of it needs an attachment: `decode` and `encode` are all that
    it takes.
    """

    def __init__(self, declared: Declared, function: Callable[..., Any], title: str = "") -> None:
        self.declared = declared
        self.title = title or declared.name
        self.function = function
        self.took = 1.0
        self.is_plain = declared.is_simple
        self.decode = declared.decode_arguments
        self.encode = declared.result.encode


Answers = Mapping[str, Answer]


class Incoming:
    """A call of the peer's that this side answers. ``asks`` is the call of ours that it waits for now."""

    readers: Mapping[int, Reader] = MappingProxyType({})
    depth = 0
    asks = 0
    cancelled = False
    handle: Any = None

    def __init__(self, frame: Call, answer: Answer, inbound: Inbound | None) -> None:
        self.frame = frame
        self.answer = answer
        self.inbound = inbound
        self.call_id = frame.call_id
        """The caller's number of it."""
        if answer.declared.kind == "stream":
            self.writer = Writer(frame.credit)

    def uploads_of(self, arguments: Sequence[Any]) -> tuple[int, ...]:
        """Return which of *arguments* are streams, by position. `ArgumentsUnfit` if the caller does not send one."""
        uploads = self.answer.declared.uploads_of(arguments)
        for position in uploads:
            if position not in self.readers:
                name = self.answer.declared.parameters[position].name
                raise ArgumentsUnfit(f"argument {name!r} is a stream; call it by an interface that says so")
        return uploads

    def close(self) -> None:
        """Release all that was attached, read or not. `BufferError`: somebody keeps a view of an argument."""
        if self.readers:
            for reader in self.readers.values():
                reader.close()
        if self.inbound is not None:
            self.inbound.close()


@dataclass(slots=True, eq=False)
class Producer:
    """A stream that this side writes: the results of *incoming*, or an argument of a call of its own.

    ``batch`` are items that are not sent yet, ``most`` how many may share a datagram.
    """

    iterator: Iterator[Any]
    codec: Codec
    writer: Writer
    call_id: int
    stream: int
    incoming: Incoming | None = None
    over: bool = False
    most: int = 1
    batch: list[bytes] = field(default_factory=list[bytes])


def answers_of(interface: type, behind: object) -> dict[str, Answer]:
    """Return the methods of *interface* as *behind* has them. `TypeError` if one is missing."""
    found: dict[str, Answer] = {}
    for name, method in declared(interface).items():
        function = getattr(behind, name, None)
        if not callable(function):
            raise TypeError(f"{type(behind).__name__} has no method {name!r}, which {interface.__name__} declares")
        found[name] = Answer(method, function, f"{interface.__name__}.{name}")
    return found
