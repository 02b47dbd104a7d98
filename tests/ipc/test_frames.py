"""Frames: whatever bytes come after ready, they are valid frames or one kind of error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.ipc.datagram import MAX_DATAGRAM
from belljar.ipc.errors import LocalProtocolError, PeerProtocolError
from belljar.ipc.frames import (
    FRAME_SPACE,
    MAX_FRAMES,
    MAX_INLINE,
    Attached,
    Call,
    Cancel,
    ChildFrame,
    Credit,
    End,
    Failed,
    Frame,
    Handle,
    HostFrame,
    Items,
    Log,
    LogLevels,
    Notify,
    Piece,
    Release,
    Reply,
    Sealed,
    Share,
    Shutdown,
    Unshare,
    Within,
    decode_from_child,
    decode_from_host,
    encode,
    weight,
)

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
naturals = st.integers(0, 2**53)
call_ids = st.integers(1, 2**53)
targets = st.integers(0, 2**31)
streams = st.integers(0, 64)
many = st.lists(names, max_size=8).map(tuple)
inline = st.binary(max_size=256) | st.just(b"x" * MAX_INLINE)
levels = st.integers(0, 100)
parts = st.lists(
    st.builds(Piece, naturals, naturals, naturals)
    | st.builds(Sealed, naturals)
    | st.builds(Within, naturals, naturals, naturals)
    | st.builds(Handle, names)
    | st.binary(max_size=64),
    max_size=4,
).map(tuple)
offsets = st.lists(naturals, min_size=1, max_size=8).map(tuple)
kinds = st.sampled_from(["unknown-method", "not-offered", "argument", "result", "declared", "refused", "cancelled"])

from_both: st.SearchStrategy[Frame] = st.one_of(
    st.builds(
        Call,
        call_id=call_ids,
        target=targets,
        method=names,
        payload=st.none() | inline,
        parts=parts,
        timeout=st.none() | naturals,
        credit=naturals,
        within=naturals,
        many=st.booleans(),
        uploads=st.lists(st.integers(1, 64), max_size=4).map(tuple),
    ),
    st.builds(Notify, targets, names, st.none() | inline, parts),
    st.builds(Reply, call_ids, st.none() | inline, parts, many),
    st.builds(Failed, call_ids, kinds, names, names, names, many),
    st.builds(Cancel, call_ids),
    st.builds(Items, call_ids, streams, st.lists(st.binary(max_size=64), max_size=8).map(tuple), parts),
    st.builds(Credit, call_ids, streams, st.integers(1, 2**20)),
    st.builds(End, call_ids, streams, names),
    st.builds(Release, naturals, offsets),
    st.builds(Unshare, naturals),
)
only_child = st.one_of(
    st.builds(Attached, naturals),
    st.builds(
        Log,
        logger=names,
        level=levels,
        text=names,
        time=st.floats(allow_nan=False),
        module=names,
        line=naturals,
        traceback=names,
        dropped=naturals,
    ),
)
only_host = st.one_of(
    st.builds(Share, naturals, naturals, st.sampled_from(["host", "child"])),
    st.builds(LogLevels, st.dictionaries(names, levels, max_size=8)),
    st.just(Shutdown()),
)
from_child = st.one_of(from_both, only_child)
from_host = st.one_of(from_both, only_host)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=40) | names,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=5),
    max_leaves=20,
)
TAGS = [
    "attached", "unshare", "call", "notify", "reply", "failed", "cancel", "items", "credit", "end", "release", "share",
    "log", "log-levels", "shutdown", "piece", "sealed", "fd",
]  # fmt: skip
near_frames = st.builds(lambda tag, rest: [tag, *rest], st.sampled_from(TAGS), st.lists(values, max_size=9))


def check_either(data: bytes) -> None:
    for decode in (decode_from_child, decode_from_host):
        try:
            frames: Sequence[Any] = decode(data)
        except PeerProtocolError:
            continue
        assert 1 <= len(frames) <= MAX_FRAMES
        assert decode(encode(frames)) == frames


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_a_protocol_error(data: bytes) -> None:
    """Bytes of a hostile peer decode to 1 to 256 frames or raise PeerProtocolError, and nothing else."""
    check_either(data)


@given(st.lists(near_frames, max_size=3).map(msgspec.msgpack.encode))
def test_any_fields_are_frames_or_a_protocol_error(data: bytes) -> None:
    """Known tags with arbitrary fields decode to frames or raise PeerProtocolError."""
    check_either(data)


@given(st.lists(from_child | from_host, min_size=1, max_size=3), st.data())
def test_any_damage_to_frames_is_a_protocol_error_at_worst(frames: list[Frame], draw: st.DataObject) -> None:
    """Valid frames with bytes changed, cut or added decode to frames or raise PeerProtocolError."""
    data = msgspec.msgpack.encode(frames)
    begin = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(begin, min(len(data), begin + 4)))
    check_either((data[:begin] + draw.draw(st.binary(max_size=4)) + data[end:])[:MAX_DATAGRAM])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x90",
        b"\x91\x90",
        b"\x91\x91\xa1\xff",
        b"\x91\x96\xa6failed\x01\xa6failed\xa2\xc3\x28\xa0\xa0",
        b"\x91" * 60_000,
        b"\x91\x92\xaalog-levels" + b"\x81\x01" * 20_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x91\x92\xa7release\xdd\xff\xff\xff\xff",
        b"\xc7\x0c\xff" + b"\xff" * 12,
        b"\xa4call",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_pathological_bytes_are_a_protocol_error(data: bytes) -> None:
    """No frame at all, text that is not UTF-8, endless nesting, and sizes that lie are protocol errors."""
    for decode in (decode_from_child, decode_from_host):
        with pytest.raises(PeerProtocolError):
            decode(data)


def test_more_frames_than_a_datagram_may_have_are_a_protocol_error() -> None:
    """256 small frames share a datagram, and not one more."""
    assert len(decode_from_child(encode([Cancel(1)] * MAX_FRAMES))) == MAX_FRAMES
    with pytest.raises(PeerProtocolError):
        decode_from_child(encode([Cancel(1)] * (MAX_FRAMES + 1)))


@given(from_child)
def test_frames_of_the_child_come_back_equal(frame: Frame) -> None:
    """What a child encodes, the host decodes to an equal frame that fits one datagram."""
    data = encode([frame])
    assert len(data) <= MAX_DATAGRAM
    assert decode_from_child(data) == [frame]


@given(from_host)
def test_frames_of_the_host_come_back_equal(frame: Frame) -> None:
    """What the host encodes, a child decodes to an equal frame."""
    assert decode_from_host(encode([frame])) == [frame]


@given(from_both)
def test_a_field_too_many_is_a_protocol_error(frame: Frame) -> None:
    """Frames have the fields of the version that both sides chose, and no more."""
    fields = msgspec.msgpack.decode(encode([frame]))[0]
    for decode in (decode_from_child, decode_from_host):
        with pytest.raises(PeerProtocolError):
            decode(msgspec.msgpack.encode([[*fields, None]]))


@given(only_child)
def test_the_child_cannot_speak_for_the_host(frame: Frame) -> None:
    """A frame that only a child sends is none of the host's."""
    with pytest.raises(PeerProtocolError):
        decode_from_host(encode([frame]))


@given(only_host)
def test_the_host_cannot_be_echoed_back(frame: Frame) -> None:
    """A frame that only the host sends, such as a memfd to share, is none of a child's."""
    with pytest.raises(PeerProtocolError):
        decode_from_child(encode([frame]))


BELLS = "\U0001f514" * 256
"""The most bytes that a name can take."""

LARGE: list[Frame] = [
    Call(1, 0, BELLS, b"x" * 100),
    Notify(0, BELLS, b"x" * 100),
    Reply(1, b"x" * 100, (), (BELLS[:128],) * 64),
    Failed(1, "exception", BELLS, BELLS, BELLS, (BELLS[:128],) * 64),
    Items(1, 0, (b"x" * 300,) * 100),
    End(1, 1, BELLS),
    Release(2**53, (2**53,) * 1024),
    Log(BELLS, 50, BELLS, 1e300, BELLS, 2**53, BELLS, 2**53),
    LogLevels({f"{BELLS[:200]}{number}": 100 for number in range(64)}),
]


@given(from_both | only_child | only_host | st.sampled_from(LARGE))
def test_a_frame_is_never_larger_than_it_is_reckoned(frame: Frame) -> None:
    """What is collected for one datagram fits it, because no frame takes more than is reckoned for it."""
    assert len(encode([frame])) <= 1 + FRAME_SPACE + weight(frame)


LONG, SOME = "x" * 16_385, ("x",) * 65

TOO_MUCH: list[Frame] = [
    Call(0, 0, "m", b""),
    Call(2**53 + 1, 0, "m", b""),
    Call(1, -1, "m", b""),
    Call(1, 2**31 + 1, "m", b""),
    Call(1, 0, "x" * 257, b""),
    Call(1, 0, "m", b"x" * (MAX_INLINE + 1)),
    Call(1, 0, "m", b"", (b"",) * 69),
    Call(1, 0, "m", b"", timeout=-1),
    Call(1, 0, "m", b"", credit=-1),
    Call(1, 0, "m", b"", within=2**53 + 1),
    Call(1, 0, "m", b"", uploads=(0,)),
    Call(1, 0, "m", b"", uploads=(65,)),
    Call(1, 0, "m", b"", uploads=(1,) * 65),
    Call(1, 0, "m", b"", (Piece(-1, 0, 0),)),
    Call(1, 0, "m", b"", (Piece(0, -1, 0),)),
    Call(1, 0, "m", b"", (Piece(0, 0, -1),)),
    Call(1, 0, "m", b"", (Sealed(-1),)),
    Call(1, 0, "m", b"", (Within(-1, 0, 0),)),
    Call(1, 0, "m", b"", (Within(0, -1, 0),)),
    Call(1, 0, "m", b"", (Within(0, 0, -1),)),
    Call(1, 0, "m", b"", (Handle("x" * 257),)),
    Notify(0, "x" * 257, b""),
    Notify(0, "m", b"", (b"",) * 69),
    Reply(0, b""),
    Reply(1, b"x" * (MAX_INLINE + 1)),
    Reply(1, b"", (b"",) * 69),
    Reply(1, b"", (), SOME),
    Reply(1, b"", (), ("x" * 129,)),
    Failed(1, "exception", "x" * 257),
    Failed(1, "exception", "", "x" * 4097),
    Failed(1, "exception", "", "", LONG),
    Failed(1, "exception", "", "", "", SOME),
    Failed(1, "of another kind"),  # type: ignore[arg-type]  # what the type forbids, the decoder must too
    Cancel(0),
    Items(0, 0, ()),
    Items(1, 65, ()),
    Items(1, 0, (b"",) * (MAX_FRAMES + 1)),
    Items(1, 0, (), (b"",) * 69),
    Credit(1, 0, 0),
    Credit(1, 0, 2**20 + 1),
    Credit(1, 65, 1),
    End(1, 65),
    End(1, 1, "x" * 4097),
    Release(0, ()),
    Release(0, (0,) * 1025),
    Release(0, (-1,)),
    Release(-1, (0,)),
    Unshare(-1),
    Attached(-1),
    Log("x" * 257, 0, "", 0.0),
    Log("", 101, "", 0.0),
    Log("", 0, "x" * 4097, 0.0),
    Log("", 0, "", 0.0, traceback=LONG),
    Log("", 0, "", 0.0, dropped=-1),
]


@pytest.mark.parametrize("frame", TOO_MUCH, ids=lambda frame: repr(frame)[:60])
def test_fields_over_their_bound_are_a_protocol_error(frame: Frame) -> None:
    """A field that is too long, too many or out of range makes the whole datagram invalid."""
    with pytest.raises(PeerProtocolError):
        decode_from_child(encode([Cancel(1), frame]))


def containers(kind: msgspec.inspect.Type, path: str = "") -> Sequence[tuple[str, int | None]]:
    """Return each text, bytes, list and map in *kind*, with its place and its longest length."""
    found: list[tuple[str, int | None]] = []
    match kind:
        case msgspec.inspect.UnionType(types=within):
            inner = within
        case msgspec.inspect.StructType(cls=cls, fields=fields):
            return [each for field in fields for each in containers(field.type, f"{path}/{cls.__name__}.{field.name}")]
        case msgspec.inspect.VarTupleType(item_type=item) | msgspec.inspect.ListType(item_type=item):
            found, inner = [(path, kind.max_length)], (item,)
        case msgspec.inspect.DictType(key_type=key, value_type=value):
            found, inner = [(path, kind.max_length)], (key, value)
        case msgspec.inspect.TupleType(item_types=inner):
            pass
        case msgspec.inspect.StrType() | msgspec.inspect.BytesType():
            return [(path, kind.max_length)]
        case _:
            return []
    return [*found, *(each for one in inner for each in containers(one, path))]


def test_every_container_has_a_longest_length() -> None:
    """Whatever field of whatever frame a hostile peer fills, there is a limit to it."""
    for kind in (ChildFrame, HostFrame):
        found = containers(msgspec.inspect.type_info(kind))
        assert len(found) >= 30
        assert [path for path, most in found if most is None] == []


def test_frames_that_do_not_fit_are_the_senders_error() -> None:
    """Frames over the datagram's size raise LocalProtocolError before anything is sent."""
    with pytest.raises(LocalProtocolError, match=r"Cancel, Reply: 1290[0-9]{2} bytes are over the limit of 65536"):
        encode([Reply(1, b"x" * MAX_INLINE), Reply(2, b"x" * MAX_INLINE), Cancel(3)])
