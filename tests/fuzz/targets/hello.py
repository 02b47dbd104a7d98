"""The first message, with all that the kernel may say of it: an array of the message and five facts."""

from __future__ import annotations

from typing import Annotated

import msgspec

from belljar.ipc.credentials import Credentials
from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.hello import Expected, Facts, choose_version, judge_hello, judge_sender
from belljar.ipc.messages import UNDECODABLE, FromChild, Hello, decode_from_child

from ..examples import encoded, messages_of
from ..target import Target

Pid = Annotated[int, msgspec.Meta(ge=-1, lt=2**31)]

EXPECTED = Expected(uid=0, outer_pid=7)
BEHIND_HELPER = Expected(uid=0, outer_pid=7, related=True)


class Input(msgspec.Struct, array_like=True):
    """What came, and the facts."""

    message: bytes
    credentials: list[tuple[Pid, int, int]]
    fd_count: int
    pidfd_pid: int | None
    ancestors: list[Pid]


_decode = msgspec.msgpack.Decoder(Input).decode


def take(data: bytes) -> None:
    """Judge it as stage 4 does. Whoever is believed is the launched process, or one below it."""
    try:
        given = _decode(data)
    except UNDECODABLE:
        return
    message: FromChild = decode_from_child(given.message)
    credentials = [Credentials(*each) for each in given.credentials]
    facts = Facts(message, credentials, given.fd_count, given.pidfd_pid, given.ancestors)
    for expected in (EXPECTED, BEHIND_HELPER):
        sender = judge_sender(facts, expected)
        assert sender.uid == 0
        assert sender.sender_pid > 0
        assert (sender.sender_pid == 7) != expected.related
        assert choose_version(judge_hello(facts)) == 1


def examples() -> list[bytes]:
    hellos = encoded([each for each in messages_of(Hello)] + [["hello", 1, 1, 7, {}], ["hello", 1, 9, 7, {}, "more"]])
    launched, below = [[7, 0, 0]], [[8, 0, 0]]
    return encoded([[each, launched, 0, 7, []] for each in hellos] + [[each, below, 0, 8, [7, 1]] for each in hellos])


TARGET = Target(examples, take, (PeerProtocolError,))
