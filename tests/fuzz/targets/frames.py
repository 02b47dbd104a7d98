"""All that comes after ready: frames of a child, and those of a host."""

from __future__ import annotations

from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.frames import (
    FRAME_SPACE,
    ChildFrame,
    HostFrame,
    decode_from_child,
    decode_from_host,
    encode,
    weight,
)

from ..examples import encoded, messages_of
from ..target import Target


def take(data: bytes) -> None:
    """Decode *data* as either side does. What fits one must come back equal, and be no larger than is reckoned."""
    refusal: PeerProtocolError | None = None
    for decode in (decode_from_child, decode_from_host):
        try:
            frames = decode(data)
        except PeerProtocolError as error:
            refusal = error
            continue
        refusal = None
        assert decode(encode(frames)) == frames or b"\xcb\x7f\xf8" in encode(frames)  # not a number is never equal
        for frame in frames:
            assert getattr(frame, "parts", ()) or len(encode([frame])) <= 1 + FRAME_SPACE + weight(frame)
    if refusal is not None:
        raise refusal


def examples() -> list[bytes]:
    single = [*messages_of(ChildFrame), *messages_of(HostFrame)]
    return encoded([[each] for each in single] + [single[:20]])


TARGET = Target(examples, take, (PeerProtocolError,))
