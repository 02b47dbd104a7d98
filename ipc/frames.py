"""All frames of a ready child, in both directions: calls, streams, cancellation, memory (docs/protocol.md).

Host and child are equals here: each calls what the other offers. A datagram is a msgpack array of frames, so that many
small ones cost one system call; one that carries fds holds a single frame. A *call id* is drawn by the caller, counts
up from 1, and names the call in both directions. Every container has a longest length, and what does not fit its type
is a `PeerProtocolError`, before anything is made of it; so is a field too many, unlike in `messages`: by now both sides
have agreed on a version.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec

from .datagram import MAX_DATAGRAM, MAX_FDS
from .errors import LocalProtocolError, PeerProtocolError, reason
from .messages import MAX_INLINE, UNDECODABLE, Inline, Long, Name, Names, Natural, Text

MAX_FRAMES = 256
"""The most frames in one datagram."""

MAX_BATCH = 32 << 10
"""Bytes of payload from which on a datagram of several frames is full."""

FRAME_SPACE = 96
"""Bytes that a frame may take beside its payload, its parts and the names that the seal refused."""

CallId = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Target = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
StreamNumber = Annotated[int, msgspec.Meta(ge=0, le=64)]
Upload = Annotated[int, msgspec.Meta(ge=1, le=64)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**20)]

FailureKind: TypeAlias = Literal[
    "unknown-method", "not-offered", "argument", "result", "exception", "declared", "refused", "failed", "cancelled"
]


class _Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The shape of every frame and of every part of one."""


class Piece(_Frame, frozen=True, tag="piece"):
    """A range of the sender's arena (`belljar.ipc.memory`)."""

    generation: Natural
    offset: Natural
    length: Natural


class Sealed(_Frame, frozen=True, tag="sealed"):
    """A sealed memfd with *length* bytes (`belljar.ipc.payload`): the next fd of the datagram."""

    length: Natural


class Within(_Frame, frozen=True, tag="within"):
    """A range of a sealed memfd that holds several parts, and is itself the part with this number."""

    part: Natural
    offset: Natural
    length: Natural


class Handle(_Frame, frozen=True, tag="fd"):
    """An fd of a declared kind: the next one of the datagram."""

    kind: Name


Part: TypeAlias = Piece | Sealed | Within | Handle | Inline
MAX_PARTS = 64
"""Attachments of one message, beside the memfds that hold several of them."""

Parts = Annotated[tuple[Part, ...], msgspec.Meta(max_length=MAX_PARTS + MAX_FDS)]


class Call(_Frame, frozen=True, tag="call"):
    """Call a method of *target*: 0 is the plugin, 1 and above are what was offered or passed by reference.

    ``payload`` is the msgpack array of arguments; None: it is the first part. With ``many``, which only a host says, it
    is an array of such arrays, and the answer an array of results. ``timeout`` is in milliseconds, for the callee's
    information. ``credit`` is the number of items that the caller takes before it grants more. ``within`` is the
    callee's own call that waits for whoever makes this one; a callee that does one thing at a time answers it
    meanwhile. ``uploads`` are the streams that the caller will send.
    """

    call_id: CallId
    target: Target
    method: Name
    payload: Inline | None
    parts: Parts = ()
    timeout: Natural | None = None
    credit: Natural = 0
    within: Natural = 0
    many: bool = False
    uploads: Annotated[tuple[Upload, ...], msgspec.Meta(max_length=64)] = ()


class Notify(_Frame, frozen=True, tag="notify"):
    """A call without an answer."""

    target: Target
    method: Name
    payload: Inline | None
    parts: Parts = ()


class Reply(_Frame, frozen=True, tag="reply"):
    """The result of a call, or the end of its stream. ``refused`` names imports that the seal refused meanwhile."""

    call_id: CallId
    payload: Inline | None
    parts: Parts = ()
    refused: Names = ()


class Failed(_Frame, frozen=True, tag="failed"):
    """A call had no result. ``traceback`` is text; it never becomes an object."""

    call_id: CallId
    kind: FailureKind
    error: Name = ""
    text: Text = ""
    traceback: Long = ""
    refused: Names = ()


class Cancel(_Frame, frozen=True, tag="cancel"):
    """The caller has given the call up and wants it ended. It is answered like every call, soon."""

    call_id: CallId


class Items(_Frame, frozen=True, tag="items"):
    """Items of a stream: 0 is the callee's, n the n-th argument of the call, which the caller sends.

    Each item is a msgpack value. With ``parts`` there is one item, which is the first part if ``payloads`` is empty.
    """

    call_id: CallId
    stream: StreamNumber
    payloads: Annotated[tuple[Inline, ...], msgspec.Meta(max_length=MAX_FRAMES)]
    parts: Parts = ()


class Credit(_Frame, frozen=True, tag="credit"):
    """The reader of a stream takes *count* more items."""

    call_id: CallId
    stream: StreamNumber
    count: Count


class End(_Frame, frozen=True, tag="end"):
    """The caller's stream is over; with a text, because it broke."""

    call_id: CallId
    stream: StreamNumber
    text: Text = ""


class Release(_Frame, frozen=True, tag="release"):
    """Pieces of the receiver's arena, by their offsets, that the sender of this frame no longer looks at."""

    generation: Natural
    offsets: Annotated[tuple[Natural, ...], msgspec.Meta(min_length=1, max_length=1024)]


class Share(_Frame, frozen=True, tag="share"):
    """Host only: the fd is an arena of *size* bytes. What is sent from now on may lie in it, as *written_by* says."""

    generation: Natural
    size: Natural
    written_by: Literal["host", "child"]


class Attached(_Frame, frozen=True, tag="attached"):
    """Child only: it can read the arena that the host writes. Until it says so, nothing lies there."""

    generation: Natural


class Unshare(_Frame, frozen=True, tag="unshare"):
    """Nothing lies in this arena of the sender's any more, and nothing will."""

    generation: Natural


class Trim(_Frame, frozen=True, tag="trim"):
    """Host only: give memory back that is kept for later."""


class Log(_Frame, frozen=True, tag="log"):
    """Child only: one record of the child's ``logging``, all of it text and numbers. Level 0: only what was dropped."""

    logger: Name
    level: Annotated[int, msgspec.Meta(ge=0, le=100)]
    text: Text
    time: float
    module: Name = ""
    line: Natural = 0
    traceback: Long = ""
    dropped: Natural = 0


class LogLevels(_Frame, frozen=True, tag="log-levels"):
    """Host only: the levels of the child's loggers by name; "" is the root."""

    levels: Annotated[dict[Name, Annotated[int, msgspec.Meta(ge=0, le=100)]], msgspec.Meta(max_length=64)]


class Shutdown(_Frame, frozen=True, tag="shutdown"):
    """Host only: answer what was asked before, and exit with code 0."""


_Both: TypeAlias = Call | Notify | Reply | Failed | Cancel | Items | Credit | End | Release | Unshare
ChildFrame: TypeAlias = _Both | Log | Attached
HostFrame: TypeAlias = _Both | Share | Trim | LogLevels | Shutdown
Frame: TypeAlias = ChildFrame | HostFrame

_MANY = msgspec.Meta(min_length=1, max_length=MAX_FRAMES)
_encoder = msgspec.msgpack.Encoder()
_from_child: msgspec.msgpack.Decoder[list[Frame]] = msgspec.msgpack.Decoder(Annotated[list[ChildFrame], _MANY])
_from_host: msgspec.msgpack.Decoder[list[Frame]] = msgspec.msgpack.Decoder(Annotated[list[HostFrame], _MANY])
Decode: TypeAlias = Callable[[bytes | memoryview], Sequence[Frame]]


def weight(frame: Frame) -> int:
    """Return about how many bytes *frame* takes beyond `FRAME_SPACE`; never too few."""
    if type(frame) is Reply and frame.payload is not None and not (frame.refused or frame.parts):  # nearly all are
        return len(frame.payload)
    size = 0
    if isinstance(frame, (Call, Notify, Reply, Items)) and frame.parts:
        size = len(_encoder.encode(frame.parts))
    if isinstance(frame, Items):
        return size + sum(map(len, frame.payloads)) + 5 * len(frame.payloads)
    if isinstance(frame, (Call, Notify, Reply)) and frame.payload is not None:
        size += len(frame.payload)
    if isinstance(frame, (Reply, Failed)) and frame.refused:
        size += 4 * sum(map(len, frame.refused)) + 5 * len(frame.refused)
    if isinstance(frame, Failed):
        size += 4 * (len(frame.error) + len(frame.text) + len(frame.traceback))
    if isinstance(frame, (Call, Notify)):
        size += 4 * len(frame.method)
    if isinstance(frame, Call):
        size += len(frame.uploads)
    if isinstance(frame, (End, Release, Log, LogLevels)):
        size = len(_encoder.encode(frame))
    return size


def fit(frames: Sequence[Frame]) -> bool:
    """Whether *frames* surely go into one datagram."""
    return len(frames) <= MAX_FRAMES and sum(FRAME_SPACE + weight(frame) for frame in frames) <= MAX_DATAGRAM


def encode(frames: Sequence[Frame]) -> bytes:
    """Return *frames* as one datagram; `LocalProtocolError` if they do not fit."""
    data = _encoder.encode(frames)
    if len(data) > MAX_DATAGRAM:
        kinds = ", ".join(sorted({type(frame).__name__ for frame in frames}))
        raise LocalProtocolError(f"could not send {kinds}: {len(data)} bytes are over the limit of {MAX_DATAGRAM}")
    return data


def decode_from_child(data: bytes | memoryview) -> Sequence[Frame]:
    """Return the frames of a child's datagram; `PeerProtocolError` if it is anything but valid ones."""
    try:
        return _from_child.decode(data)
    except UNDECODABLE as error:
        raise PeerProtocolError(f"the child sent a frame that does not fit the protocol: {reason(error)}") from None


def decode_from_host(data: bytes | memoryview) -> Sequence[Frame]:
    """Return the frames of the host's datagram; `PeerProtocolError` if it is anything but valid ones."""
    try:
        return _from_host.decode(data)
    except UNDECODABLE as error:
        raise PeerProtocolError(f"the host sent a frame that does not fit the protocol: {reason(error)}") from None


__all__ = [
    "MAX_BATCH",
    "MAX_FDS",
    "MAX_FRAMES",
    "MAX_INLINE",
    "MAX_PARTS",
    "Call",
    "Cancel",
    "ChildFrame",
    "Credit",
    "End",
    "Failed",
    "Frame",
    "Handle",
    "HostFrame",
    "Items",
    "Log",
    "LogLevels",
    "Notify",
    "Part",
    "Piece",
    "Release",
    "Reply",
    "Sealed",
    "Share",
    "Shutdown",
    "Within",
    "decode_from_child",
    "decode_from_host",
    "encode",
    "fit",
]
