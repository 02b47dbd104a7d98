"""A plugin that finds the control channel of its own process and says on it what it likes."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Callable
from types import FrameType

from belljar.ipc import datagram
from belljar.ipc.messages import VERSION, Hello, Ready, Reply, Sealed, encode
from belljar.ipc.payload import make_sealed

NIL = b"\xc0"


def find_channel() -> tuple[socket.socket, int]:
    """Return the channel and the id of the call that is answered now, from the frames below this one."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        link = getattr(frame.f_locals.get("self"), "link", None)
        if link is not None and "call" in frame.f_locals:
            return link.sock, frame.f_locals["call"].call_id
        frame = frame.f_back
    raise LookupError("no channel")


def unsealed(size: int, seals: int) -> int:
    fd = os.memfd_create("payload", os.MFD_ALLOW_SEALING)
    os.write(fd, NIL * size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def send(data: bytes, *fds: int) -> None:
    sock, _ = find_channel()
    datagram.send(sock, data, fds)


def answer(payload: bytes | None, *fds: int, offset: int = 0) -> None:
    _, call_id = find_channel()
    send(encode(Reply(call_id + offset, payload)), *fds)


ABUSES: dict[str, Callable[[], None]] = {
    "answer to another call": lambda: answer(NIL, offset=1),
    "garbage": lambda: send(b"\xff\x00garbage"),
    "empty message": lambda: send(b""),
    "text that is not UTF-8": lambda: send(b"\x94\xa5reply\x01\xc4\x01\xc0\x91\xa2\xc3\x28"),
    "second hello": lambda: send(encode(Hello(VERSION, 1))),
    "second seal": lambda: send(encode(Sealed({}))),
    "second ready": lambda: send(encode(Ready((), {}))),
    "message of the host": lambda: send(b"\x91\xa8shutdown"),
    "oversized message": lambda: send(b"\x90" * (datagram.MAX_DATAGRAM + 1)),
    "stuffed with fds": lambda: answer(NIL, *[2] * 250),
    "one fd too many": lambda: answer(NIL, 2),
    "payload without its fd": lambda: answer(None),
    "payload of two fds": lambda: answer(None, 2, 2),
    "payload that is no memfd": lambda: answer(None, 2),
    "payload without seals": lambda: answer(None, unsealed(100, 0)),
    "payload that can be written": lambda: answer(None, unsealed(100, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)),
    "payload of nothing": lambda: answer(None, make_sealed(b"")),
    "payload over the limit": lambda: answer(None, make_sealed(NIL * (2 << 20))),
}


class Abuser:
    """One method for all abuses, which then answers properly as well."""

    def abuse(self, name: str) -> None:
        ABUSES[name]()

    def answer_twice(self) -> None:
        answer(NIL)

    def answer_from_a_fork(self) -> None:
        pid = os.fork()
        if pid == 0:
            answer(NIL)
            os._exit(0)
        os.waitpid(pid, 0)
