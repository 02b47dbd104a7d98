"""What a peer remembers: calls of its own, calls that it answers, and the two ends of a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..frames import Call, Failed, Reply
from ..interface.codec import Codec
from ..interface.declared import Declared
from .attachments import Inbound, Outbound

WINDOW = 256
"""Items of a stream that may be on their way."""

WINDOW_OF_LARGE = 8
"""The same for streams whose items can be large: buffers, arrays, pictures."""

MAX_UNDER_WAY = 256
"""Calls of one peer that may wait for an answer; one that has more breaks the protocol."""

MAX_DEPTH = 16
"""How deep calls may be nested in each other."""


def window_of(declared: Declared) -> int:
    """Return how many items of a stream of *declared* may be on their way."""
    return WINDOW if declared.plain else WINDOW_OF_LARGE


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

    ``answer`` is the peer's, ``error`` what else ended the call; one of them is there once it is ``done``.
    """

    __slots__ = (
        "answer", "broken", "call_id", "chain", "deadline", "declared", "depth", "done", "error", "inbound", "late_since", "many",
        "outbound", "reader", "runs", "timeout", "uploads", "waiter", "writers",
    )  # fmt: skip

    def __init__(self, call_id: int, declared: Declared, timeout: float | None, runs: Incoming | None) -> None:
        self.call_id = call_id
        self.declared = declared
        self.timeout = timeout
        self.runs = runs
        self.depth = 0 if runs is None else runs.depth + 1
        self.deadline: float | None = None
        self.done = False
        self.answer: Reply | Failed | None = None
        self.error: BaseException | None = None
        self.inbound: Inbound | None = None
        self.outbound: Outbound | None = None
        self.reader: Reader | None = None
        self.writers: dict[int, Writer] = {}
        self.uploads: list[Any] = []
        self.waiter: Any = None
        self.many = 0
        self.chain: tuple[Any, ...] = ()
        self.broken: BaseException | None = None
        self.late_since: float | None = None

    def is_done(self) -> bool:
        """Whether the outcome is there."""
        return self.done


@dataclass(slots=True)
class Answer:
    """A method that this side answers, and how long it took lately, in seconds."""

    declared: Declared
    function: Callable[..., Any]
    took: float = 1.0


Answers = Mapping[str, Answer]


@dataclass(slots=True, eq=False)
class Incoming:
    """A call of the peer's that this side answers. ``asks`` is the call of ours that it waits for now."""

    frame: Call
    answer: Answer
    inbound: Inbound | None
    writer: Writer = field(default_factory=Writer)
    readers: dict[int, Reader] = field(default_factory=dict)
    depth: int = 0
    asks: int = 0
    cancelled: bool = False
    handle: Any = None

    @property
    def call_id(self) -> int:
        """The caller's number of it."""
        return self.frame.call_id

    def close(self) -> None:
        """Release all that was attached, read or not. `BufferError`: somebody keeps a view of an argument."""
        for reader in self.readers.values():
            reader.close()
        if self.inbound is not None:
            self.inbound.close()


@dataclass(slots=True, eq=False)
class Producer:
    """A stream that this side writes: the results of *incoming*, or an argument of a call of its own."""

    iterator: Iterator[Any]
    codec: Codec
    writer: Writer
    call_id: int
    stream: int
    incoming: Incoming | None = None
    over: bool = False
