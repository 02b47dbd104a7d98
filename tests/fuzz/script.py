"""The inputs of the targets that are peers: what the other side says, and what this side does meanwhile.

A script is a msgpack array of steps: an array of fds (numbers of `KINDS`) and frames is a datagram, bytes are one
that is no msgpack perhaps, and a number is something that this side does (`ACTS`).
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from belljar.ipc import datagram
from belljar.ipc.datagram import MAX_DATAGRAM
from belljar.ipc.frames import ChildFrame, HostFrame
from belljar.ipc.messages import UNDECODABLE
from belljar.ipc.payload import make_sealed, new_memfd

from .examples import encoded, messages_of

MOST_STEPS = 48
MOST_FDS = 6

ACTS = ("turn", "drain", "add", "echo", "large", "numbers", "total", "watched", "note", "give up", "trim", "read")


def _unsealed() -> int:
    fd = new_memfd("unsealed")
    os.truncate(fd, 5000)
    return fd


def _half_sealed() -> int:
    fd = _unsealed()
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return fd


def _pipe_end(end: int) -> int:
    ends = os.pipe()
    os.close(ends[1 - end])
    return ends[end]


KINDS: tuple[Callable[[], int], ...] = (
    lambda: make_sealed(b"x" * 5000),
    lambda: make_sealed(b"\x91\xc4\x02xx"),
    _unsealed,
    _half_sealed,
    lambda: os.open(__file__, os.O_RDONLY),
    lambda: os.open("/dev/null", os.O_RDWR),
    lambda: os.open("/", os.O_RDONLY),
    lambda: _pipe_end(0),
    lambda: _pipe_end(1),
    lambda: os.eventfd(0),
    lambda: socket.socket(socket.AF_UNIX).detach(),
    lambda: make_sealed(b"x" * (2 << 20)),
)


class Said(NamedTuple):
    """One datagram, and the fds that come with it."""

    data: bytes
    kinds: list[int]

    def send(self, sock: socket.socket) -> None:
        """Send it, if there is room."""
        fds = [KINDS[kind % len(KINDS)]() for kind in self.kinds]
        try:
            with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                datagram.send(sock, self.data, fds)
        finally:
            for fd in fds:
                os.close(fd)


def steps_of(data: bytes) -> Iterator[Said | str]:
    """Yield the steps of a script, acts by their names."""
    try:
        script = msgspec.msgpack.decode(data)
    except UNDECODABLE:
        script = [data]
    for step in script[:MOST_STEPS] if isinstance(script, list) else []:
        match step:
            case bytes():
                yield Said(step[:MAX_DATAGRAM] or b"\x90", [])
            case [list(kinds), frames]:
                with suppress(OverflowError, TypeError, ValueError):
                    found = msgspec.msgpack.encode(frames)[:MAX_DATAGRAM]
                    yield Said(found, [kind for kind in kinds if isinstance(kind, int)][:MOST_FDS])
            case bool():
                pass
            case int():
                yield ACTS[step % len(ACTS)]


def drain(sock: socket.socket) -> None:
    """Read what the peer has said, and close the fds of it. *sock* does not block."""
    with suppress(BlockingIOError, ConnectionResetError):
        while True:
            received = datagram.receive(sock)
            if received is None:
                return
            received.close()


def call(number: int, method: str, *arguments: Any, parts: Any = (), **fields: Any) -> list[Any]:
    """Return the frame of a call of `Everything`, which is target 1 of a host and 0 of a child."""
    target = fields.pop("target", 1)
    payload = msgspec.msgpack.encode(arguments)
    return [
        "call",
        number,
        target,
        method,
        payload,
        list(parts),
        None,
        fields.get("credit", 0),
        0,
        False,
        fields.get("uploads", []),
    ]


def act(name: str) -> int:
    """Return the number of an act."""
    return ACTS.index(name)


# ruff: noqa: E501 - a script a line


def conversations(target: int, generation: int) -> list[Any]:
    """Return scripts in which all goes well; *generation* is an arena that both sides know."""
    piece = ["piece", generation, 0, 4096]

    def say(*frames: Any, fds: tuple[int, ...] = ()) -> list[Any]:
        return [list(fds), list(frames)]

    def ask(number: int, method: str, *arguments: Any, **fields: Any) -> list[Any]:
        return call(number, method, *arguments, target=target, **fields)

    nil, two = b"\xc0", b"\x02"
    return [
        [say(ask(1, "add", 1, 2), ask(2, "nothing"), ["cancel", 2]), act("turn"), say(["cancel", 1])],
        [say(ask(1, "echo", 0, parts=[b"x" * 10])), say(ask(2, "echo", 0, parts=[piece])), act("turn")],
        [say(ask(1, "echo", 0, parts=[["sealed", 5000]]), fds=(0,)), act("turn"), say(ask(2, "shared", 0, parts=[piece]))],
        [say(ask(1, "sealed", 0, parts=[["sealed", 5000]]), fds=(0,)), act("turn"), act("drain")],
        [say(ask(1, "file", 0, parts=[["fd", "file-read"]]), fds=(4,)), act("turn")],
        [say(ask(1, "pipe", 0, parts=[["fd", "pipe-write"]]), fds=(8,)), say(ask(2, "pipe", None)), act("turn")],
        [say(ask(1, "many", [["a", 0], ["b", 1]], parts=[b"x", piece])), act("turn"), act("trim")],
        [say(ask(1, "numbers", 300, credit=20)), act("turn"), say(["credit", 1, 0, 200]), act("turn"), say(["cancel", 1])],
        [say(ask(1, "buffers", 9, credit=4)), act("turn"), say(["release", 1, [0]]), say(["credit", 1, 0, 9])],
        [say(ask(1, "total", None, uploads=[1])), act("turn"), say(["items", 1, 1, [two, two], []]), say(["end", 1, 1, ""]), act("turn")],
        [say(ask(1, "doubled", None, credit=9)), act("turn"), say(["items", 1, 1, [b"\x00"], [piece]]), say(["end", 1, 1, "no"])],
        [say(["notify", target, "note", b"\x91\xa1x", []], ["notify", target, "keep", b"\x91\x00", [b"xyz"]]), act("turn")],
        [say(ask(1, "watched", 5)), act("turn"), say(["reply", 1, two, [], []]), act("turn"), say(ask(2, "fail", "it"))],
        [say(["call", 1, target, "add", b"\x92\x92\x01\x02\x92\x03\x04", [], None, 0, 0, True]), act("turn")],
        [say(["call", 1, target, "echo", None, [piece, b"x"], 100, 0, 0, False]), act("turn")],
        [act("add"), act("turn"), say(["reply", 1, two, [], []]), act("turn"), act("add"), say(["failed", 2, "exception", "E", "t", "tr", []])],
        [act("echo"), act("turn"), say(["reply", 1, b"\x00", [piece], []]), act("turn"), act("drain")],
        [act("large"), act("turn"), say(["attached", 2]), act("large"), act("turn"), say(["reply", 1, b"\x00", [["sealed", 5000]], []], fds=(0,)), act("turn")],
        [act("numbers"), act("turn"), say(["items", 1, 0, [two, two], []]), act("read"), say(["reply", 1, nil, [], []]), act("read")],
        [act("numbers"), act("turn"), act("give up"), act("turn"), say(["items", 1, 0, [two], []], ["credit", 1, 1, 4]), say(["reply", 1, nil, [], []])],
        [act("total"), act("turn"), say(["credit", 1, 1, 40]), act("turn"), say(["credit", 1, 1, 400]), act("turn"), say(["reply", 1, two, [], []])],
        [act("watched"), act("turn"), say(["call", 1, 1024, "at", b"\x91\x01", [], None, 0, 1, False]), act("turn"), say(["reply", 1, two, [], []])],
        [act("note"), act("add"), act("turn"), say(["unshare", generation]), act("trim"), act("turn")],
    ]  # fmt: skip


def scripts(of: Any, target: int, generation: int = 1) -> list[bytes]:
    """Return examples: `conversations`, and every frame of the union *of* in the middle of two calls."""
    around = [act("add"), act("numbers"), act("turn")]
    single = [[*around, [[], [frame]], act("turn")] for frame in messages_of(of)]
    return encoded([*conversations(target, generation), *single])


FROM_CHILD, FROM_HOST = ChildFrame, HostFrame
