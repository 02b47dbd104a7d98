"""What a subscriber sees: the messages of its topics as they come, and how many it has missed.

Nothing is sent twice and nobody waits for a slow reader: what finds no room, here or at the publisher, is dropped. The
numbers of the messages show it, as soon as the next one comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import msgspec

from .errors import PeerProtocolError
from .topics import MAX_MESSAGE, QUEUED, Readable

if TYPE_CHECKING:
    from zmq import Context, Socket

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(slots=True)
class Seen:
    """What has come of one topic.

    Attributes:
        first: The number of the first message that came, 0 before; more than 1 if others were published before.
        last: That of the last one.
        received: How many came.
        dropped: How many did not, between those that did.
        publisher: The number of the publisher; another one begins at 1 again, and counts anew here.
    """

    first: int = 0
    last: int = 0
    received: int = 0
    dropped: int = 0
    publisher: int = 0

    def note(self, publisher: int, number: int) -> None:
        """Take note of a message."""
        if publisher == self.publisher and number > self.last:
            self.dropped += number - self.last - 1
        else:
            self.first, self.publisher = number, publisher
        self.last = number
        self.received += 1


class Subscription(Generic[T]):
    """The messages of *topics* that come over *socket*, a connected SUB socket, for one thread at a time."""

    def __init__(self, socket: Socket[bytes], *topics: Readable[T]) -> None:
        self._socket = socket
        self._topics = {topic.prefix: topic for topic in topics}
        self._seen = {topic.name: Seen() for topic in topics}
        for topic in topics:
            socket.subscribe(topic.prefix)

    def receive(self, timeout: float | None = None) -> T | None:
        """Wait for the next message and return it; None if none came within *timeout* seconds (None: wait for ever).

        Raises:
            PeerProtocolError: it is no message of its topic; the next one may be.
        """
        if not self._socket.poll(None if timeout is None else round(timeout * 1000)):
            return None
        frame = self._socket.recv()
        topic = self._topics.get(frame[: frame.find(b"\0") + 1])
        if topic is None or self._socket.rcvmore:
            raise PeerProtocolError("what was published is no message of a topic")
        publisher, number, message = topic.decode(frame)
        self._seen[topic.name].note(publisher, number)
        return message

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        message = self.receive()
        assert message is not None  # it has waited for ever
        return message

    def seen(self, topic: Readable[msgspec.Struct]) -> Seen:
        """Return what has come of *topic* so far."""
        return self._seen[topic.name]

    @property
    def dropped(self) -> int:
        """How many messages of all topics were published between those that came, and did not come."""
        return sum(seen.dropped for seen in self._seen.values())


class Subscriber(Subscription[T]):
    """A subscription of a program of its own, such as a dashboard, which connects to *endpoint* and owns its socket.

        with Subscriber("tcp://127.0.0.1:5555", PROGRESS) as subscriber:
            for progress in subscriber: ...

    It connects again when the publisher is back, and subscribes again while it is read. Nothing says who the publisher
    is, and over ``tcp`` all is in the clear: use it within one machine, or within a network that you trust.

    Raises:
        ZMQError: *endpoint* is none.
    """

    def __init__(self, endpoint: str, *topics: Readable[T], queue: int = QUEUED) -> None:
        import zmq

        self._context: Context[Socket[bytes]] = zmq.Context(io_threads=1)
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, queue)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        try:
            socket.connect(endpoint)
            super().__init__(socket, *topics)
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._context.destroy(linger=0)
