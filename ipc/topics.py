"""`Topic`: what one host publishes to many subscribers under a name, as messages of one type.

A message is one frame of zmq: the name and a null byte, by which libzmq sorts and so no name is the beginning of
another; the number of the publisher, drawn anew each time, and that of the message, 8 bytes each, most significant
first; the message as msgpack. Messages of a topic are counted from 1, so whoever reads them sees what it has missed.
"""

from __future__ import annotations

import re
import struct
from typing import Generic, TypeVar

import msgspec

from .errors import LocalProtocolError, PeerProtocolError, reason
from .messages import UNDECODABLE

T = TypeVar("T", bound=msgspec.Struct)
T_co = TypeVar("T_co", bound=msgspec.Struct, covariant=True)

MAX_MESSAGE = 64 << 10
"""Bytes of one frame. What is larger is for a call, which has shared memory."""

QUEUED = 256
"""Messages that wait for one subscriber, at either end, before the next ones are dropped: 16 MiB at most."""

_NUMBERS = struct.Struct(">QQ")
_encoder = msgspec.msgpack.Encoder()


class Readable(Generic[T_co]):
    """What can be read of a topic. (Of its own, so that topics of several types can be read together.)"""

    def __init__(self, name: str, kind: type[T_co]) -> None:
        self.name = name
        self.prefix = name.encode() + b"\0"
        self._decoder = msgspec.msgpack.Decoder(kind)

    def decode(self, frame: bytes) -> tuple[int, int, T_co]:
        """Return publisher, number and message of a *frame* that begins with `prefix`; else `PeerProtocolError`."""
        at = len(self.prefix)
        try:
            publisher, number = _NUMBERS.unpack_from(frame, at)
            return publisher, number, self._decoder.decode(memoryview(frame)[at + _NUMBERS.size :])
        except (struct.error, *UNDECODABLE) as error:
            raise PeerProtocolError(f"what was published as {self.name} does not fit: {reason(error)}") from None


class Topic(Readable[T]):
    """Messages of the type *kind*, a `msgspec.Struct`, under *name*. Declare it where host and plugin both find it.

    Raises:
        ValueError: *name* is not 1 to 64 ASCII letters, digits, dots, hyphens or underscores.
    """

    def __init__(self, name: str, kind: type[T]) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
            raise ValueError(f"expected 1 to 64 letters, digits or any of ._- as the name of a topic, got {name!r}")
        super().__init__(name, kind)
        self.kind = kind

    def __repr__(self) -> str:
        return f"Topic({self.name!r}, {self.kind.__name__})"

    def encode(self, publisher: int, number: int, message: T) -> bytes:
        """Return the frame of *message*. `LocalProtocolError`: it is too large. `TypeError`: it is of another type."""
        if type(message) is not self.kind:
            raise TypeError(f"{self!r} has no messages of the type {type(message).__name__}")
        data = b"".join((self.prefix, _NUMBERS.pack(publisher, number), _encoder.encode(message)))
        if len(data) > MAX_MESSAGE:
            raise LocalProtocolError(f"could not publish {len(data)} bytes: a message has at most {MAX_MESSAGE}")
        return data
