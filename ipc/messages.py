"""All messages of the control channel, each a tagged msgspec struct of bounded size (docs/protocol.md).

The tag is the first element of a msgpack array, so a message of one side cannot be read as one of the other, an
unknown tag is an error, and nothing is ever turned into an object by a name that it carries. Fields at the end that a
reader does not know are skipped: they come from a younger program, and it is well enough without them. Times are
milliseconds. Payloads are msgpack too, decoded later into the declared type of the call.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from .datagram import MAX_DATAGRAM
from .errors import LocalProtocolError, PeerProtocolError, reason

LOWEST, HIGHEST = 1, 1
"""The versions of the protocol that this program speaks. What a new one is for stands in docs/protocol.md."""

MAX_INLINE = MAX_DATAGRAM - 1024
"""The largest payload that travels in the message itself; a larger one is an attachment."""

MAX_STEPS = 128
"""How many early-init steps one child may have."""

Name = Annotated[str, msgspec.Meta(max_length=256)]
Text = Annotated[str, msgspec.Meta(max_length=4096)]
Long = Annotated[str, msgspec.Meta(max_length=16384)]
Names = Annotated[tuple[Annotated[str, msgspec.Meta(max_length=128)], ...], msgspec.Meta(max_length=64)]
Inline = Annotated[bytes, msgspec.Meta(max_length=MAX_INLINE)]
Described = Annotated[bytes, msgspec.Meta(max_length=32 << 10)]
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Millis = Annotated[float, msgspec.Meta(ge=0, le=2**53)]
StepNumber = Annotated[int, msgspec.Meta(ge=0, lt=MAX_STEPS)]
Phase: TypeAlias = Literal["run", "load", "quiesce", "resume"]
Option: TypeAlias = str | int | float | bool | tuple[Annotated[str, msgspec.Meta(max_length=4096)], ...]
Timings = Annotated[dict[Text, Millis], msgspec.Meta(max_length=128)]


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The shape of every message."""


class Hello(_Message, frozen=True, tag="hello"):
    """The child's first message. ``claimed_pid`` is for logs; the host never uses it.

    The child speaks the versions ``lowest`` to ``highest``. These two fields stay where they are in every version.
    """

    lowest: Natural
    highest: Natural
    claimed_pid: int
    took: Timings = {}


class StageFailed(_Message, frozen=True, tag="stage-failed"):
    """A stage of the child failed; the child exits after this."""

    stage: Annotated[int, msgspec.Meta(ge=1, le=10)]
    errno: Annotated[int, msgspec.Meta(ge=0, le=4095)]
    text: Text
    refused: Names = ()


class StepBegan(_Message, frozen=True, tag="step-began"):
    """The step with this number in `Configure.steps` runs from now on, or another *phase* of it does.

    The host's deadline for it runs from here.
    """

    number: StepNumber
    phase: Phase = "run"


class Fd(_Message, frozen=True):
    """An open fd: its kind (`sandbox.declaration.FdKind`) and what /proc calls it."""

    kind: Name
    what: Name


class Left(_Message, frozen=True):
    """What a step left behind, as the child itself saw it; each list is cut at its longest.

    ``threads`` counts new threads by name, ``executable_memory`` is in bytes that no file stands behind.
    """

    threads: Annotated[dict[Name, Natural], msgspec.Meta(max_length=64)] = {}
    fds: Annotated[tuple[Fd, ...], msgspec.Meta(max_length=64)] = ()
    executable_memory: Natural = 0
    environment: Names = ()
    signals: Names = ()


class StepEnded(_Message, frozen=True, tag="step-ended"):
    """A step is done, or another phase of it is; ``failure`` says why it failed if it was optional and did."""

    number: StepNumber
    took: Millis
    left: Left = Left()
    failure: Text = ""
    phase: Phase = "run"


class Listening(_Message, frozen=True, tag="listening"):
    """The filter is on, and the message carries its listener; sent only when the host asked for one."""


class Landlock(_Message, frozen=True):
    """What landlock granted a child at its seal; no file in /proc shows it (`sandbox.landlock.Granted`)."""

    abi: Natural
    granted: Names
    unknown: Names
    all_threads: bool


class Sealed(_Message, frozen=True, tag="sealed"):
    """The child has sealed itself and has closed its own copy of the listener."""

    took: Timings
    landlock: Landlock | None = None


class Ready(_Message, frozen=True, tag="ready"):
    """The plugin is loaded and calls may flow. ``concurrent``: it answers several at the same time, on a loop.

    ``description`` is what the plugin declares (`belljar.ipc.interface.describe`); empty if it does not say.
    """

    methods: Names
    took: Timings
    concurrent: bool = False
    description: Described = b""


class RunStep(_Message, frozen=True):
    """One early-init step: ``function`` of ``/path/file.py:name`` or ``module:name``, called with ``options``.

    ``late`` ones run after the seal. ``version`` differs once a file of it has changed, so that no zygote is taken that
    has run an older one.
    """

    name: Name
    function: Text
    options: Annotated[tuple[tuple[Name, Option], ...], msgspec.Meta(max_length=64)] = ()
    optional: bool = False
    late: bool = False
    version: Text = ""


class Plugin(_Message, frozen=True):
    """Which class of which module of the bundle is the plugin."""

    module: Name
    attribute: Name


class Configure(_Message, frozen=True, tag="configure"):
    """The host has accepted the hello. With ``early`` the message carries the bundle of a trusted plugin.

    ``version`` is the one that both speak from now on, and stays where it is in every version. ``endpoint`` is where
    the child connects for the channel zmq; empty for another channel.
    ``log_level`` is that of the child's root logger.
    """

    version: Natural
    outer_pid: Natural
    bpf: Annotated[bytes, msgspec.Meta(max_length=MAX_INLINE)]
    listener: bool
    steps: Annotated[tuple[RunStep, ...], msgspec.Meta(max_length=MAX_STEPS)] = ()
    early: Plugin | None = None
    max_payload: Natural = 64 << 20
    endpoint: Text = ""
    log_level: Annotated[int, msgspec.Meta(ge=0, le=100)] = 30


class Load(_Message, frozen=True, tag="load"):
    """The host has verified the seal. Carries the bundle, unless the plugin was loaded early (``plugin`` None).

    ``services`` are the names of the interfaces that the host offers to this child, and ``descriptions`` say what
    each declares.
    """

    plugin: Plugin | None
    services: Names = ()
    descriptions: Annotated[tuple[Described, ...], msgspec.Meta(max_length=64)] = ()


FromChild: TypeAlias = Hello | StageFailed | StepBegan | StepEnded | Listening | Sealed | Ready
FromHost: TypeAlias = Configure | Load

# A string that is not UTF-8 and nesting without end are not DecodeErrors of msgspec.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_encoder = msgspec.msgpack.Encoder()
_from_child: msgspec.msgpack.Decoder[FromChild] = msgspec.msgpack.Decoder(FromChild, strict=True)
_from_host: msgspec.msgpack.Decoder[FromHost] = msgspec.msgpack.Decoder(FromHost, strict=True)


def encode(message: FromChild | FromHost) -> bytes:
    """Return *message* as one datagram; `LocalProtocolError` if it does not fit."""
    data = _encoder.encode(message)
    if len(data) > MAX_DATAGRAM:
        kind = type(message).__name__
        raise LocalProtocolError(f"could not send {kind}: {len(data)} bytes are over the limit of {MAX_DATAGRAM}")
    return data


def decode_from_child(data: bytes | memoryview) -> FromChild:
    """Return the message of a child; `PeerProtocolError` if it is anything but a valid one."""
    try:
        return _from_child.decode(data)
    except UNDECODABLE as error:
        raise PeerProtocolError(f"the child sent a message that does not fit the protocol: {reason(error)}") from None


def decode_from_host(data: bytes | memoryview) -> FromHost:
    """Return the message of the host; `PeerProtocolError` if it is anything but a valid one."""
    try:
        return _from_host.decode(data)
    except UNDECODABLE as error:
        raise PeerProtocolError(f"the host sent a message that does not fit the protocol: {reason(error)}") from None


def shorten(text: str, limit: int) -> str:
    """Return *text* cut in its middle to at most *limit* characters, so that it fits its field.

    Lone surrogates, which the names of undecodable files have, become escapes: msgpack has none.
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
