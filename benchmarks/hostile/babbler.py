"""The hostile plugin: it says whatever a seed makes it say, until it is killed.

The same seed makes the same datagrams (`speech`), so that the host can tell how many messages it was sent. Six kinds:

* ignored: valid frames that cross something that is over, in batches
* valid: calls, notifications, log records and items that are taken, in batches
* random: frames of the right types with whatever numbers and names
* damaged: valid frames with some bytes changed
* breach: what no rule allows, such as a second answer or memory without seals
* garbage: bytes
"""

from __future__ import annotations

import fcntl
import functools
import os
import socket
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.datagram import MAX_DATAGRAM, send
from belljar.ipc.frames import (
    Attached,
    Call,
    Cancel,
    Credit,
    End,
    Failed,
    Frame,
    Handle,
    Items,
    Log,
    Notify,
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

BABBLE, GIVEN_UP, STREAM = 1, 2, 3
"""The host's calls: the one that never ends, a stream that it has given up, and one that it reads."""

SERVICE = 1
MOST_ITEMS = 200
NIL = b"\xc0"
TWO = b"\x92\x01\x02"

WEIGHTS = {"ignored": 52, "valid": 36, "random": 4, "damaged": 4, "breach": 2, "garbage": 2}
"""How often each kind of datagram comes."""

BATCHES = {"ignored": 128, "valid": 48, "random": 2, "damaged": 4, "breach": 1, "garbage": 1}
"""The most messages in a datagram of each kind."""


class Said(NamedTuple):
    """One datagram: its bytes, what `FDS` go with it, and how many messages it has."""

    kind: str
    data: bytes
    fds: tuple[str, ...]
    messages: int


def _unsealed() -> int:
    fd = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.truncate(fd, 4096)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


FDS: dict[str, Callable[[], int]] = {
    "sealed": lambda: make_sealed(TWO),
    "unsealed": _unsealed,
    "stderr": lambda: os.dup(2),
}


class Speech:
    """What is said so far: calls have ascending numbers, and a stream has room for so many items."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.calls = 1
        self.items = 0

    def __iter__(self) -> Iterator[Said]:
        yield Said("valid", encode([Call(1, 99, "not offered", TWO)]), (), 1)
        kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
        while True:
            (kind,) = self.chance.choices(kinds, weights)
            yield self._breach() if kind == "breach" else self._plain(kind)

    def _plain(self, kind: str) -> Said:
        if kind == "garbage":
            return Said(kind, self.chance.randbytes(self.chance.choice((1, 8, 64, 512, MAX_DATAGRAM))), (), 1)
        make = {"ignored": self._ignored, "random": self._random}.get(kind, self._valid)
        frames = [make() for _ in range(self.chance.randint(1, BATCHES[kind]))]
        data = encode(frames)
        return Said(kind, self._damaged(data) if kind == "damaged" else data, (), len(frames))

    def _number(self) -> int:
        return self.chance.choice((0, 1, 2, 3, 4, 64, 1 << 20, 2**53)) or 1

    def _name(self) -> str:
        return self.chance.choice(("add", "note", "missing", "", "x" * 256, "\x1b[2J", "__class__"))

    def _ignored(self) -> Frame:
        past = self.chance.randint(1, max(1, self.calls - 64))
        return self.chance.choice(
            (
                Cancel(past),
                Credit(past, 0, 7),
                End(past, 1, "over"),
                Items(past, 2, (NIL, NIL)),
                Items(GIVEN_UP, 0, (NIL,)),
                Notify(77, self._name(), TWO),
                Notify(SERVICE, "add", TWO),
            )
        )

    def _valid(self) -> Frame:
        how = self.chance.randrange(10)
        if how < 3:
            self.calls += 1
            target, payload = self.chance.choice(((SERVICE, TWO), (SERVICE, NIL), (SERVICE, b"\x90"), (78, TWO)))
            return Call(self.calls, target, "add", payload)
        if how < 6:
            return Log("child", self.chance.choice((10, 30, 50)), "\x1b[2Jsaid\nso", 1.7e9, "module", 7)
        if how < 8 and self.items < MOST_ITEMS:
            self.items += 1
            return Items(STREAM, 0, (b"\x07",))
        return Notify(SERVICE, "note", b"\x91\xa4text")

    def _random(self) -> Frame:
        number, other, name = self._number(), self.chance.randint(0, 64), self._name()
        payload = self.chance.randbytes(self.chance.randrange(20))
        part = self.chance.choice((Piece(number, 8 * other, 64), Sealed(number), Handle(name), payload))
        return self.chance.choice(
            (
                Call(number, other, name, payload, (part,) * (other % 3)),
                Notify(other % 3, name, payload, (part,)),
                Reply(number, payload, (part,) * (other % 2)),
                Failed(number, "exception", name, name),
                Cancel(number),
                Items(number, other, (payload,) * (other % 4)),
                Credit(number, other, number % (1 << 20) or 1),
                End(number, other, name),
                Release(number, (other,)),
                Unshare(number),
                Attached(number),
                Log(name, other, name, -1.0, name, number, name, number),
            )
        )

    def _damaged(self, data: bytes) -> bytes:
        chance = self.chance
        begin = chance.randrange(len(data))
        return data[:begin] + chance.randbytes(chance.randrange(1, 4)) + data[begin + chance.randrange(3) :]

    def _breach(self) -> Said:
        frame, fds = self.chance.choice(BREACHES)
        return Said("breach", frame if isinstance(frame, bytes) else encode([frame]), fds, 1)


BREACHES: tuple[tuple[Frame | bytes, tuple[str, ...]], ...] = (
    (Reply(STREAM + 1, NIL), ()),
    (Failed(2**53, "exception"), ()),
    (Reply(BABBLE, None), ()),
    (Reply(BABBLE, None, (Sealed(3),)), ("unsealed",)),
    (Reply(BABBLE, None, (Sealed(3),)), ("stderr",)),
    (Reply(BABBLE, None, (Sealed(3),)), ("sealed", "sealed")),
    (Reply(BABBLE, None, (Sealed(3),)), ()),
    (Reply(BABBLE, None, (Piece(1, 0, 4096),)), ()),
    (Reply(BABBLE, NIL), ("stderr",)),
    (Cancel(1), ("stderr",) * 8),
    (Call(2**52, SERVICE, "add", None), ()),
    (Call(2**52, SERVICE, "add", None, (Handle("file"),)), ("stderr",)),
    (Call(1, SERVICE, "add", TWO), ()),
    (Cancel(2**53), ()),
    (Credit(2**53, 0, 1), ()),
    (Credit(STREAM, 1, 1), ()),
    (Items(BABBLE, 0, (NIL,)), ()),
    (Items(STREAM, 0, (NIL,) * 256), ()),
    (Items(STREAM, 0, ()), ()),
    (End(STREAM, 0), ()),
    (Release(1, (0,)), ()),
    (Attached(77), ()),
    (Unshare(1), ()),
    (encode([Shutdown()]), ()),
    (encode([Share(1, 4096, "child")]), ("unsealed",)),
    (encode([Cancel(1)] * 256)[:-1], ()),
    (b"\xdd\xff\xff\xff\xff", ()),
    (b"\x91" * 60_000, ()),
)
"""What ends a child whenever it comes."""


class Babbler:
    """The plugin."""

    def babble(self, seed: int) -> None:
        """Say what *seed* makes it say, as fast as the host takes it, and never answer."""
        channel = SocketChannel(_socket())
        _await_calls(channel)
        for said in Speech(seed):
            fds = [FDS[name]() for name in said.fds]
            while not _is_sent(channel.sock, said.data, fds):
                channel.wait_receive(0.001)
            for fd in fds:
                os.close(fd)
            while (received := channel.receive()) is not None:
                received.close()

    def numbers(self) -> Iterator[int]:
        """Yield nothing that the host would ever hear of."""
        yield from ()


def _is_sent(sock: socket.socket, data: bytes, fds: list[int]) -> bool:
    try:
        send(sock, data, fds, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return True


def _await_calls(channel: SocketChannel) -> None:
    """Wait until the host has made the last of its calls."""
    newest = BABBLE
    while newest < STREAM:
        received = channel.wait_receive(None)
        assert received is not None
        newest = max([newest, *(each.call_id for each in decode_from_host(received.data) if isinstance(each, Call))])


@functools.cache
def _socket() -> socket.socket:
    """Return the channel of this process: the one socket that keeps messages apart."""
    for fd in range(256):
        try:
            sock = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if sock.type == socket.SOCK_SEQPACKET:
            return sock
    raise LookupError("no channel")
