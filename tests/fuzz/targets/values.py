"""Payloads with their attachments, as what an interface declares: arguments, results and items.

An input is an array: which of the types, the payload, and its parts, inline or of an arena.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypedDict

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from belljar.ipc.datagram import Datagram
from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.frames import Parts
from belljar.ipc.interface import ArgumentsUnfit, ValueUnfit, codec, declared
from belljar.ipc.interface.fd import Fd
from belljar.ipc.memory.arena import Arena
from belljar.ipc.memory.buffer import Buffer, SealedBuffer, SharedBuffer
from belljar.ipc.messages import UNDECODABLE
from belljar.ipc.peer.attachments import Inbound
from belljar.ipc.peer.store import Store

from ..everything import Everything
from ..target import Target


class Colour(enum.Enum):
    """Travels by its value."""

    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    """Travels as a map."""

    x: int
    near: list[Point] | None = None


class Row(NamedTuple):
    """Travels as an array."""

    name: str
    size: float = 0.0


class Loose(TypedDict, total=False):
    """Travels as a map of which all may lack."""

    when: datetime.datetime
    length: datetime.timedelta


class Shape(msgspec.Struct, tag="shape", forbid_unknown_fields=True):
    """Has buffers within."""

    data: Buffer
    others: list[Buffer]


TYPES: tuple[Any, ...] = (
    int, Any, bytes, str, Annotated[str, msgspec.Meta(max_length=8)], list[int], dict[str, float], Colour, Point, Row,
    Loose, Literal["a", 3], int | str | None, tuple[int, ...], set[str], datetime.date, Buffer, SharedBuffer,
    SealedBuffer, Shape, list[Buffer], NDArray[np.float32], NDArray[Any], list[NDArray[np.uint8]], Image,
    dict[str, Image], Fd[Literal["file-read"]],
)  # fmt: skip

CODECS = [codec(kind) for kind in TYPES]


class Wide(Protocol):
    """One method with all of these."""

    def many(
        self, points: list[Point], shape: Shape, array: NDArray[np.float32], image: Image | None = None
    ) -> None: ...


METHODS = [*declared(Everything).values(), *declared(Wide).values()]


class Input(msgspec.Struct, array_like=True):
    """Which of `TAKERS`, what it takes, and what is attached."""

    which: int
    payload: bytes
    parts: Parts = ()


_decode = msgspec.msgpack.Decoder(Input).decode
_arena = Arena.create(1 << 20, written_by="child", generation=1)

TAKERS: list[Callable[[bytes, Inbound], object]] = [
    *(each.decode for each in CODECS),
    *(each.decode_arguments for each in METHODS),
    *((lambda payload, inbound, each=each: each.decode_many(payload, 2, inbound)) for each in CODECS),
    *(each.decode_many for each in METHODS),
]


def take(data: bytes) -> None:
    """Decode it, look at what came of it, and close all."""
    try:
        given = _decode(data)
    except UNDECODABLE:
        return
    store = Store(1 << 20)
    store._add_reading(_arena)
    inbound = Inbound(store, given.parts, Datagram(b"", [], (), None), lambda interface, number: object(), lent=False)
    try:
        _look(TAKERS[given.which % len(TAKERS)](given.payload, inbound))
    finally:
        inbound.close()
        store.releases()


def _look(value: Any) -> None:
    """Touch what may lie in memory of the other side's."""
    if isinstance(value, (list, tuple)):
        for each in value[:8]:
            _look(each)
    elif isinstance(value, dict):
        _look(list(value.values()))
    elif isinstance(value, Buffer):
        with value:
            assert len(bytes(value)) == len(value)
    elif isinstance(value, np.ndarray):
        assert value.size * value.itemsize <= 1 << 21
        value.tobytes()
    elif isinstance(value, Image):
        value.tobytes()
    elif isinstance(value, Shape):
        _look([value.data, *value.others])


def examples() -> list[bytes]:
    encode = msgspec.msgpack.encode
    piece = ["piece", 1, 0, 4096]
    wires: list[Any] = [
        7, [1, {"a": None}], b"x" * 9, "text", "short", [1, 2], {"a": 1.5}, "red", {"x": 1, "near": [{"x": 2}]},
        ["a", 1.0], {"when": "2026-11-28T00:00:00Z", "length": "PT1S"}, "a", None, [1], ["a"], "2026-11-28", 0, 0, 0,
        {"type": "shape", "data": 0, "others": [1]}, [0, 1], ["<f4", [2, 3], 0], ["<i8", [3], 0], [["|u1", [24], 0]],
        ["RGB", 2, 4, 0], {"a": ["L", 24, 1, 0]}, 0,
    ]  # fmt: skip
    parts = [b"x" * 24, piece]
    arguments: list[Any] = [[1, 2], [0], [0], [[["a", 0]], 1.0], ["x"]]
    arguments += [[[{"x": 1}], wires[19], ["<f4", [2, 3], 0], None]]
    found = [[number, encode(wire), parts] for number, wire in enumerate(wires)]
    found += [[number + len(wires) + len(METHODS), encode([wire, wire]), parts] for number, wire in enumerate(wires)]
    found += [[len(wires) + number, encode(each), parts] for number in range(len(METHODS)) for each in arguments]
    return [encode(each) for each in found]


TARGET = Target(examples, take, (PeerProtocolError, ValueUnfit, ArgumentsUnfit))
