"""Messages: whatever bytes come, they are a valid message or one kind of error."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.ipc.datagram import MAX_DATAGRAM
from belljar.ipc.errors import LocalProtocolError, PeerProtocolError
from belljar.ipc.messages import (
    MAX_STEPS,
    Configure,
    Fd,
    FromChild,
    FromHost,
    Hello,
    Left,
    Load,
    Plugin,
    Ready,
    RunStep,
    Sealed,
    StageFailed,
    StepBegan,
    StepEnded,
    decode_from_child,
    decode_from_host,
    encode,
    shorten,
)

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
naturals = st.integers(0, 2**53)
millis = st.floats(0, 1e12)
timings = st.dictionaries(names, millis, max_size=8)
many = st.lists(names, max_size=8).map(tuple)
plugins = st.builds(Plugin, names, names)
option = st.one_of(names, naturals, st.booleans(), st.floats(allow_nan=False), many)
steps = st.builds(RunStep, names, names, st.lists(st.tuples(names, option), max_size=8).map(tuple), st.booleans())
numbers = st.integers(0, MAX_STEPS - 1)
counts = st.dictionaries(names, naturals, max_size=8)
lefts = st.builds(Left, counts, st.lists(st.builds(Fd, names, names), max_size=8).map(tuple), naturals, many, many)

from_child: st.SearchStrategy[FromChild] = st.one_of(
    st.builds(Hello, naturals, naturals, st.integers(-(2**31), 2**31), timings),
    st.builds(StageFailed, st.integers(1, 10), st.integers(0, 4095), names, many),
    st.builds(StepBegan, numbers, st.sampled_from(["run", "load", "quiesce", "resume"])),
    st.builds(StepEnded, numbers, millis, lefts, names),
    st.builds(Sealed, timings),
    st.builds(Ready, many, timings),
)
from_host: st.SearchStrategy[FromHost] = st.one_of(
    st.builds(
        Configure,
        version=naturals,
        outer_pid=naturals,
        bpf=st.binary(max_size=4096),
        listener=st.booleans(),
        steps=st.lists(steps, max_size=4).map(tuple),
        early=st.none() | plugins,
        max_payload=naturals,
    ),
    st.builds(Load, st.none() | plugins, many),
)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=40) | names,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=5),
    max_leaves=20,
)
TAGS = ["hello", "stage-failed", "step-began", "sealed", "ready", "configure", "load"]
near_messages = st.builds(lambda tag, rest: [tag, *rest], st.sampled_from(TAGS), st.lists(values, max_size=8))


def check_either(data: bytes) -> None:
    for decode in (decode_from_child, decode_from_host):
        try:
            message: Any = decode(data)
        except PeerProtocolError:
            continue
        assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_protocol_error(data: bytes) -> None:
    """Bytes of a hostile child decode to a message or raise PeerProtocolError, and nothing else."""
    check_either(data)


@given(near_messages.map(msgspec.msgpack.encode))
def test_any_fields_are_a_message_or_a_protocol_error(data: bytes) -> None:
    """A known tag with arbitrary fields decodes to a message or raises PeerProtocolError."""
    check_either(data)


@given(st.one_of(from_child, from_host).map(encode), st.data())
def test_any_damage_to_a_message_is_a_protocol_error_at_worst(data: bytes, draw: st.DataObject) -> None:
    """A valid message with bytes changed, cut or added decodes to a message or raises PeerProtocolError."""
    begin = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(begin, min(len(data), begin + 4)))
    check_either(data[:begin] + draw.draw(st.binary(max_size=4)) + data[end:])


@pytest.mark.parametrize(
    "data",
    [
        b"\x91\xa1\xff",
        b"\x93\xa5ready\x91\xa2\xc3\x28\x80",
        b"\x91" * 60_000,
        b"\x92\xa5hello" + b"\x81\x01" * 20_000,
        b"\x97\xa5hello\x01\x01\x01\x80\xc0" + b"\x91" * 60_000,
        b"\x97\xa5hello\x01\x01\x01\x80\xc0\xdd\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x93\xa5ready\xdd\xff\xff\xff\xff",
        b"\xc7\x0c\xff" + b"\xff" * 12,
        b"",
    ],
    ids=[
        "tag",
        "text",
        "lists",
        "maps",
        "lists in what is skipped",
        "huge list in what is skipped",
        "huge list",
        "huge map",
        "huge field",
        "timestamp",
        "nothing",
    ],
)
def test_pathological_bytes_are_a_protocol_error(data: bytes) -> None:
    """Text that is not UTF-8, endless nesting, and sizes that lie are protocol errors on both sides."""
    for decode in (decode_from_child, decode_from_host):
        with pytest.raises(PeerProtocolError):
            decode(data)


@given(from_child)
def test_messages_of_the_child_come_back_equal(message: FromChild) -> None:
    """What a child encodes, the host decodes to an equal message that fits one datagram."""
    data = encode(message)
    assert len(data) <= MAX_DATAGRAM
    assert decode_from_child(data) == message


@given(from_host)
def test_messages_of_the_host_come_back_equal(message: FromHost) -> None:
    """What the host encodes, a child decodes to an equal message."""
    assert decode_from_host(encode(message)) == message


@given(from_child | from_host, st.lists(values, min_size=1, max_size=3))
def test_fields_of_a_younger_program_are_skipped(message: FromChild | FromHost, more: list[Any]) -> None:
    """Before a version is agreed on, what stands behind the fields that are known changes nothing."""
    decode: Any = decode_from_child if isinstance(message, FromChild) else decode_from_host
    fields = msgspec.msgpack.decode(encode(message))
    assert decode(msgspec.msgpack.encode([*fields, *more])) == message


@given(from_child)
def test_the_child_cannot_speak_for_the_host(message: FromChild) -> None:
    """A message of the child is none of the host's."""
    with pytest.raises(PeerProtocolError):
        decode_from_host(encode(message))


@given(from_host)
def test_the_host_cannot_be_echoed_back(message: FromHost) -> None:
    """A message of the host is none of the child's."""
    with pytest.raises(PeerProtocolError):
        decode_from_child(encode(message))


@pytest.mark.parametrize(
    "message",
    [
        Hello(-1, 1, 1),
        Hello(1, -1, 1),
        Hello(1, 1, 1, {"stage": -1.0}),
        Hello(1, 1, 1, {str(number): 1.0 for number in range(129)}),
        StageFailed(0, 0, ""),
        StageFailed(11, 0, ""),
        StageFailed(1, 4096, ""),
        StageFailed(1, 0, "x" * 4097),
        StageFailed(1, 0, "", ("x" * 129,)),
        StageFailed(1, 0, "", ("x",) * 65),
        StepBegan(-1),
        StepBegan(MAX_STEPS),
        StepEnded(MAX_STEPS, 1.0, Left()),
        StepEnded(0, -1.0, Left()),
        StepEnded(0, 1.0, Left({str(number): 1 for number in range(65)})),
        StepEnded(0, 1.0, Left(fds=(Fd("file", "x"),) * 65)),
        StepEnded(0, 1.0, Left(), "x" * 4097),
        Ready(("x",) * 65, {}),
    ],
    ids=repr,
)
def test_fields_over_their_bound_are_a_protocol_error(message: FromChild) -> None:
    """A field that is too long, too many or out of range makes the whole message invalid."""
    with pytest.raises(PeerProtocolError):
        decode_from_child(encode(message))


def test_a_message_that_does_not_fit_is_the_senders_error() -> None:
    """A message over the datagram's size raises LocalProtocolError before anything is sent."""
    with pytest.raises(LocalProtocolError, match=r"Configure: 7[0-9]{4} bytes are over the limit of 65536"):
        encode(Configure(version=1, outer_pid=1, bpf=b"x" * 70_000, listener=False))


@given(st.text(st.characters(), max_size=400), st.integers(16, 300))
def test_a_shortened_text_fits_its_field(text: str, limit: int) -> None:
    """A shortened text has at most the limit's characters, can be sent, and is unchanged if it fitted and could."""
    short = shorten(text, limit)
    assert len(short) <= limit
    short.encode()
    if len(text) <= limit and not any("\ud800" <= char <= "\udfff" for char in text):
        assert short == text
