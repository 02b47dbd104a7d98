"""A plugin that finds the control channel of its own process and says on it what it likes."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType

from belljar.ipc import datagram
from belljar.ipc.messages import VERSION, Call, Hello, Ready, Reply, Sealed, ServiceCall, decode_from_host, encode
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


def ask(call_id: int = 1, payload: bytes | None = b"\x91\xa5first") -> bytes:
    """Return the message that asks for the service `Shelf.read`."""
    return encode(ServiceCall(call_id, "Shelf", "read", payload))


def answer_within(offset: int) -> None:
    """Ask for a service that calls back, and answer that call with the id of another one."""
    sock, _ = find_channel()
    send(encode(ServiceCall(1, "Shelf", "ask_back", b"\x91\x03")))
    received = datagram.receive(sock)
    assert received is not None
    call = decode_from_host(received.data)
    assert isinstance(call, Call)
    send(encode(Reply(call.call_id + offset, NIL)))


SERVICE_ABUSES: dict[str, Callable[[], None]] = {
    "fd beside what is asked": lambda: send(ask(), 2),
    "asked without its fd": lambda: send(ask(payload=None)),
    "asked with two fds": lambda: send(ask(payload=None), 2, 2),
    "asked with no memfd": lambda: send(ask(payload=None), 2),
    "asked without seals": lambda: send(ask(payload=None), unsealed(100, 0)),
    "asked beyond the limit": lambda: send(ask(payload=None), make_sealed(NIL * (2 << 20))),
    "answer to the call around": lambda: answer_within(-1),
    "answer to a call to come": lambda: answer_within(1),
    "answer of the host": lambda: send(b"\x93\xadservice-reply\x01\xc4\x01\xc0"),
}


class Abuser:
    """One method for all abuses, which then answers properly as well."""

    def abuse(self, name: str) -> None:
        (ABUSES | SERVICE_ABUSES)[name]()

    def ask_and_leave(self) -> None:
        """Ask, and do not wait for the answer, so that the call is answered before it comes."""
        send(ask())
        send(ask(2))

    def flood(self, seconds: float) -> int:
        """Keep the host busy with service calls, one always waiting; return how many it has answered."""
        sock, _ = find_channel()
        question, count, until = ask(), 0, time.monotonic() + seconds
        sock.setblocking(False)
        poll = select.poll()
        poll.register(sock, select.POLLIN | select.POLLOUT)
        while time.monotonic() < until:
            ((_, events),) = poll.poll()
            try:
                while events & select.POLLIN:
                    sock.recv(1 << 16)
                    count += 1
            except BlockingIOError:
                pass
            try:
                while events & select.POLLOUT:
                    sock.send(question)
            except BlockingIOError:
                continue
        return count

    def answer_twice(self) -> None:
        answer(NIL)

    def answer_from_a_fork(self) -> None:
        pid = os.fork()
        if pid == 0:
            answer(NIL)
            os._exit(0)
        os.waitpid(pid, 0)
