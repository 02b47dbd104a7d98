"""What a peer remembers: its own calls that wait for an answer, those that were given up and are still unanswered, the
calls of the other side that it works on, and the targets that it offers."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ..channel.base import Channel, EndOfChannel
from ..datagram import Datagram
from ..errors import PeerProtocolError
from ..frames import (
    Frame,
    Part,
    encode,
)
from .attachments import Inbound, Outbound
from .records import Answers, Incoming, Outgoing, PeerUse, answers_of
from .side import Side
from .store import Store

FIRST_OBJECT = 1024
"""The first number of what is passed by reference; below are what is offered."""

MAX_LAST = 1024
"""Datagrams that are read of one that has ended."""


class Tables(ABC):
    """What a peer remembers, and what each part of it needs of the others. Owns *channel* and *store*.

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
        self.ended: BaseException | None = None
        self.idle: Callable[[], None] | None = None
        self._targets: dict[int, Answers] = dict(offers)
        self._target_numbers = itertools.count(FIRST_OBJECT)
        self._call_numbers = itertools.count(1)
        self._newest_call = 0
        self._last_call = 0
        self._calls: dict[int, Outgoing] = {}
        self._given_up: dict[int, Outgoing] = {}
        self._answering: dict[int, Incoming] = {}
        self._others: set[type[Frame]] = set()
        self._takers: dict[type, Callable[[Any, Datagram], None]] = {}

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

    # What the parts share.

    def _inbound(self, parts: tuple[Part, ...], received: Datagram, *, lent: bool) -> Inbound | None:
        if not parts and not received.fds:
            return None
        return Inbound(self.store, parts, received, self._proxy, lent=lent)

    def _register(self, interface: type, behind: object) -> int:
        """Offer *behind* to the other side under a new number."""
        number = next(self._target_numbers)
        self._targets[number] = answers_of(interface, behind)
        return number

    def _unregister(self, number: int) -> None:
        """Offer what `_register` returned *number* for no more."""
        self._targets.pop(number, None)

    def _proxy(self, interface: type, number: int) -> object:
        return self.side.proxy(interface, number)


def close(inbound: Inbound | None) -> None:
    """Close *inbound*, if there is one."""
    if inbound is not None:
        inbound.close()
