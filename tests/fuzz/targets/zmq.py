"""The channel ``zmq``: a host's ROUTER, and a child that speaks ZMTP itself.

An input is an array: of a number and bytes, a frame with these flags; of fds (numbers of `KINDS`) and bytes, a datagram
of the control socket; bytes go to the ROUTER as they are.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing, suppress
from typing import Any

import msgspec

from belljar.ipc.channel.base import EndOfChannel
from belljar.ipc.channel.zmq_ends import GREETING, HostEnd, Meeting
from belljar.ipc.credentials import request_credentials
from belljar.ipc.datagram import MAX_DATAGRAM, control_pair
from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.messages import UNDECODABLE

from ...ipc.channel.pairs import myself
from ...ipc.channel.zmtp import COMMAND, LONG, MORE, dial, frame
from ..script import MOST_FDS, Said
from ..target import Target

SOON = 0.02
"""Seconds for libzmq's thread to bring what was sent."""

MOST_STEPS = 32


def take(data: bytes) -> None:
    """Let a host receive all of it, and answer each time."""
    ours, control = control_pair()
    control.setblocking(False)
    request_credentials(ours)
    with ExitStack() as stack:
        stack.enter_context(control)
        meeting = stack.enter_context(closing(Meeting()))
        meeting.open(myself())
        child = stack.enter_context(dial(meeting.endpoint))
        host = stack.enter_context(closing(meeting.end(ours)))
        child.setblocking(False)
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            _say(data, child, control)
            child.shutdown(socket.SHUT_WR)
        _hear(host)


def _say(data: bytes, child: socket.socket, control: socket.socket) -> None:
    try:
        steps: Any = msgspec.msgpack.decode(data)
    except UNDECODABLE:
        steps = [data]
    for step in steps[:MOST_STEPS] if isinstance(steps, list) else []:
        match step:
            case bytes():
                child.send(step)
            case [int(flags), bytes(body)]:
                child.send(frame(body, flags & 7 & ~LONG))
            case [list(kinds), bytes(body)] if body:
                fds = [kind for kind in kinds if isinstance(kind, int)][:MOST_FDS]
                Said(body[:MAX_DATAGRAM], fds).send(control)


def _hear(host: HostEnd) -> None:
    with suppress(EndOfChannel):
        while (received := host.wait_receive(SOON)) is not None:
            assert 0 < len(received.data) <= MAX_DATAGRAM
            received.close()
            host.send(b"heard")


def examples() -> list[bytes]:
    hello, more = [0, GREETING], [MORE, b"part"]
    ping = [COMMAND, b"\x04PING\x00\x0ax"]
    scripts: list[list[Any]] = [
        [hello, [0, b"one"], [0, b"two" * 100]],
        [hello, [[0], b"with an fd"], [0, b""], [0, b"after"]],
        [hello, [[0, 4, 7], b"first"], [[], b"second"], [0, b""], [0, b""]],
        [hello, [0, b""]],
        [hello, more, more, [0, b"last"]],
        [more, hello, [0, b"late"]],
        [[0, b"no greeting"], hello],
        [hello, ping, [0, b"after"], [COMMAND, b"\x05ERROR\x02no"]],
        [hello, [0, b"x" * 40_000], [0, b"x" * 70_000]],
        [hello, frame(b"whole") + frame(b"half")[:3]],
        [hello, bytes([LONG]) + (1 << 62).to_bytes(8, "big")],
        [hello, [[0] * 6, b"too many"], [0, b""]],
    ]
    return [msgspec.msgpack.encode(script) for script in scripts]


TARGET = Target(examples, take, (PeerProtocolError,))
