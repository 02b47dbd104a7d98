"""The messages of a launch, from the first to ready, of either side."""

from __future__ import annotations

from contextlib import suppress

from belljar.ipc.datagram import MAX_DATAGRAM
from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.interface.errors import ValueUnfit
from belljar.ipc.interface.fitting import unpack
from belljar.ipc.messages import FromChild, FromHost, Load, Ready, decode_from_child, decode_from_host, encode

from ..examples import encoded, messages_of
from ..target import Target


def take(data: bytes) -> None:
    """Decode *data* as either side does, and the description in it."""
    messages: list[FromChild | FromHost] = []
    for decode in (decode_from_host, decode_from_child):
        with suppress(PeerProtocolError):
            messages.append(decode(data))
    for message in messages:
        assert len(encode(message)) <= MAX_DATAGRAM
        for description in message.descriptions if isinstance(message, Load) else ():
            unpack(description)
        if isinstance(message, Ready):
            unpack(message.description)
    if not messages:
        raise PeerProtocolError


TARGET = Target(
    lambda: encoded([*messages_of(FromChild), *messages_of(FromHost)]), take, (PeerProtocolError, ValueUnfit)
)
