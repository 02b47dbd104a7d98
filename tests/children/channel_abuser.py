"""A plugin that finds the channel of its own process and says on it what it likes."""

from __future__ import annotations

import fcntl
import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import cast

from belljar.child import services
from belljar.ipc import datagram, messages
from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.frames import (
    MAX_FRAMES,
    Attached,
    Call,
    Cancel,
    Credit,
    End,
    Failed,
    Frame,
    Handle,
    Items,
    LogLevels,
    Notify,
    Part,
    Piece,
    Release,
    Reply,
    Sealed,
    Share,
    Shutdown,
    Unshare,
    decode_from_host,
    encode,
)
from belljar.ipc.payload import make_sealed
from belljar.ipc.peer.blocking import BlockingPeer
from belljar.ipc.peer.records import MAX_UNDER_WAY

NIL = b"\xc0"
FIRST = b"\x91\xa5first"
"""The arguments of a call of `Shelf.read`."""

SHELF = 1
"""The target that the host offers as `Shelf`."""


def peer() -> BlockingPeer:
    """Return what this process talks to its host through."""
    found = services._services
    assert found is not None
    return cast(BlockingPeer, found.peer)


def running() -> int:
    """Return the id of the call that is answered now."""
    return peer()._running[-1].call_id


def unsealed(size: int, seals: int) -> int:
    fd = os.memfd_create("payload", os.MFD_ALLOW_SEALING)
    os.write(fd, NIL * size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def send(data: bytes, *fds: int) -> None:
    channel = peer().channel
    assert isinstance(channel, SocketChannel)
    datagram.send(channel.sock, data, fds)


def say(*frames: Frame, fd: int | None = None) -> None:
    send(encode(frames), *(() if fd is None else (fd,)))


def answer(payload: bytes | None, *fds: int, parts: tuple[Part, ...] = (), offset: int = 0) -> None:
    send(encode([Reply(running() + offset, payload, parts)]), *fds)


def answer_large(*fds: int) -> None:
    """Answer with a payload that is said to be in a sealed memfd."""
    answer(None, *fds, parts=(Sealed(100),))


def count_down() -> None:
    """Make calls with falling numbers, and wait for what comes of it."""
    say(Call(8, 9, "m", NIL), Call(7, 9, "m", NIL))
    threading.Event().wait()


ABUSES: dict[str, Callable[[], object]] = {
    "answer to another call": lambda: answer(NIL, offset=1),
    "failure of another call": lambda: say(Failed(running() + 1, "exception")),
    "garbage": lambda: send(b"\xff\x00garbage"),
    "empty message": lambda: send(b""),
    "no frames": lambda: send(b"\x90"),
    "a frame without its array": lambda: send(encode([Cancel(1)])[1:]),
    "too many frames": lambda: say(*[Release(1, (0,))] * (MAX_FRAMES + 1)),
    "text that is not UTF-8": lambda: send(b"\x91\x95\xa5reply\x01\xc4\x01\xc0\x90\x91\xa2\xc3\x28"),
    "second hello": lambda: send(messages.encode(messages.Hello(messages.LOWEST, messages.HIGHEST, 1))),
    "second seal": lambda: send(messages.encode(messages.Sealed({}))),
    "second ready": lambda: send(messages.encode(messages.Ready((), {}))),
    "shutdown of the host": lambda: say(Shutdown()),
    "arena of its own": lambda: say(Share(1, 4096, "child"), fd=unsealed(4096, 0)),
    "log levels of the host": lambda: say(LogLevels({"": 10})),
    "oversized message": lambda: send(b"\x90" * (datagram.MAX_DATAGRAM + 1)),
    "stuffed with fds": lambda: answer(NIL, *[2] * 250),
    "one fd too many": lambda: answer(NIL, 2),
    "an fd with two frames": lambda: say(Cancel(1), Reply(running(), NIL, (Handle("file"),)), fd=2),
    "an fd with a frame that has no parts": lambda: say(Credit(1, 0, 1), fd=2),
    "more fds than parts": lambda: answer(NIL, 2, 2, parts=(Handle("file"),)),
    "payload without its fd": lambda: answer_large(),
    "payload that is not there at all": lambda: answer(None),
    "payload of two fds": lambda: answer_large(2, 2),
    "payload that is no memfd": lambda: answer_large(2),
    "payload that is said to be a file": lambda: answer(None, 2, parts=(Handle("file"),)),
    "payload in an arena that is not there": lambda: answer(None, parts=(Piece(77, 0, 100),)),
    "payload without seals": lambda: answer_large(unsealed(100, 0)),
    "payload that can be written": lambda: answer_large(unsealed(100, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)),
    "payload of nothing": lambda: answer_large(make_sealed(b"")),
    "payload over the limit": lambda: answer_large(make_sealed(NIL * (2 << 20))),
    "release of what it does not hold": lambda: say(Release(1, (0,))),
    "word of an arena that is not there": lambda: say(Attached(77)),
    "taking back an arena that is not there": lambda: say(Unshare(77)),
    "items of no stream": lambda: say(Items(running(), 0, (NIL,))),
    "items of a call to come": lambda: say(Items(running() + 1, 0, (NIL,))),
    "end of results": lambda: say(End(running(), 0)),
    "end of a stream of a call to come": lambda: say(End(999, 1)),
    "credit of a call to come": lambda: say(Credit(running() + 1, 1, 1)),
    "cancellation of a call to come": lambda: say(Cancel(999)),
    "calls that count down": lambda: count_down(),
}


def ask(call_id: int, payload: bytes | None = FIRST, parts: tuple[Part, ...] = ()) -> bytes:
    """Return the datagram that asks for the service `Shelf.read`."""
    return encode([Call(call_id, SHELF, "read", payload, parts)])


def ask_large(*fds: int) -> None:
    """Ask with arguments that are said to be in a sealed memfd."""
    send(ask(1, None, (Sealed(100),)), *fds)


def ask_to_wait(count: int) -> None:
    """Ask for *count* services that never answer."""
    for call_id in range(1, count + 1):
        say(Call(call_id, SHELF, "wait", b"\x90"))


def answer_within(offset: int) -> None:
    """Ask for a service that calls back, and answer that call with the id of another one."""
    say(Call(1, SHELF, "ask_back", b"\x91\x03", within=running()))
    received = peer().channel.wait_receive(None)
    assert received is not None
    (call,) = decode_from_host(received.data)
    assert isinstance(call, Call)
    say(Reply(call.call_id + offset, NIL))


SERVICE_ABUSES: dict[str, Callable[[], object]] = {
    "fd beside what is asked": lambda: send(ask(1), 2),
    "asked without its fd": lambda: ask_large(),
    "asked with two fds": lambda: ask_large(2, 2),
    "asked with no memfd": lambda: ask_large(2),
    "asked without seals": lambda: ask_large(unsealed(100, 0)),
    "asked beyond the limit": lambda: ask_large(make_sealed(NIL * (2 << 20))),
    "asked from an arena that is not there": lambda: send(ask(1, None, (Piece(77, 0, 100),))),
    "asked twice by one number": lambda: say(Call(1, SHELF, "read", FIRST), Call(1, SHELF, "read", FIRST)),
    "notified with a surplus fd": lambda: say(Notify(SHELF, "read", FIRST), fd=2),
    "more calls than may be under way": lambda: ask_to_wait(MAX_UNDER_WAY + 1),
    "answer to a call to come": lambda: answer_within(1),
}


class Abuser:
    """One method for all abuses, which then answers properly as well."""

    def abuse(self, name: str) -> None:
        (ABUSES | SERVICE_ABUSES)[name]()

    def asks(self, target: int, method: str, payload: bytes) -> str:
        """Make a call of the host and return the kind of its failure."""
        say(Call(next(peer()._call_numbers), target, method, payload))
        received = peer().channel.wait_receive(None)
        assert received is not None
        (answer,) = decode_from_host(received.data)
        assert isinstance(answer, Failed)
        return answer.kind

    def wait_for_nothing(self, count: int) -> None:
        """Ask for as many services that never answer."""
        ask_to_wait(count)

    def flood(self, seconds: float) -> int:
        """Keep the host busy with as many calls as may be under way; return how many it has answered."""
        channel, asked, answered, until = peer().channel, 0, 0, time.monotonic() + seconds
        while time.monotonic() < until:
            while asked - answered < MAX_UNDER_WAY and channel.send(ask(asked + 1)):
                asked += 1
            received = channel.wait_receive(None)
            assert received is not None
            answered += len(decode_from_host(received.data))
        return answered

    def flood_and_never_read(self, target: int, method: str, payload: bytes) -> None:
        """Call, and call again, without a look at the answers."""
        for call_id in itertools.count(1):
            say(Call(call_id, target, method, payload))

    def notify_for_ever(self, target: int, method: str, payload: bytes) -> None:
        """Send notifications as fast as the channel takes them."""
        while True:
            say(*[Notify(target, method, payload)] * MAX_FRAMES)

    def answer_twice(self) -> None:
        answer(NIL)

    def answer_from_a_fork(self) -> None:
        pid = os.fork()
        if pid == 0:
            answer(NIL)
            os._exit(0)
        os.waitpid(pid, 0)
