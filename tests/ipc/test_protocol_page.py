"""docs/protocol.md says what the code says: fields, limits, bytes, who sends what, kinds of failures, fds and types."""

from __future__ import annotations

import datetime
import decimal
import enum
import re
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal, NamedTuple, Protocol, get_args

import msgspec
import numpy as np
from PIL import Image

from belljar.ipc import frames, messages
from belljar.ipc.interface import adapt, notify
from belljar.ipc.interface.describe import describe
from belljar.ipc.interface.fd import Fd, FdKind
from belljar.ipc.memory.buffer import Buffer

from .protocol_tables import FRAME_EXAMPLES, FRAMES, LAUNCH, MESSAGE_EXAMPLES, PAGE, tag_of, written

TEXT = PAGE.read_text()


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table below *heading*, without its head."""
    below = TEXT[TEXT.index(f"{heading}\n") :]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in table[0].splitlines()[2:]]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_its_tables_and_bytes_are_those_of_the_code() -> None:
    """What is written from the code is as the code is now; else write it anew: python -m tests.ipc.protocol_tables."""
    assert written(TEXT) == TEXT


def test_each_example_can_be_read() -> None:
    """There is one of each message and frame, and whoever is to get it reads what was meant."""
    assert {type(example) for _, example in MESSAGE_EXAMPLES} == set(LAUNCH)
    assert {type(example) for _, example in FRAME_EXAMPLES} == set(FRAMES)
    for _, example in MESSAGE_EXAMPLES:
        from_child = isinstance(example, messages.FromChild)
        decode: Any = messages.decode_from_child if from_child else messages.decode_from_host
        assert decode(messages.encode(example)) == example
    for _, frame in FRAME_EXAMPLES:
        if isinstance(frame, frames.ChildFrame):
            assert frames.decode_from_child(frames.encode([frame])) == [frame]
        if isinstance(frame, frames.HostFrame):
            assert frames.decode_from_host(frames.encode([frame])) == [frame]


def test_it_says_who_may_send_what() -> None:
    """Each message and frame stands in its table once, with the side that may send it."""
    said = {named(name)[0]: sender for name, sender, *_ in rows("## Launch messages")}
    from_child = {tag_of(kind) for kind in get_args(messages.FromChild)}
    assert said == {tag_of(kind): "child" if tag_of(kind) in from_child else "host" for kind in LAUNCH}
    said = {named(name)[0]: sender for name, sender, *_ in rows("## Frames")}
    child, host = ({tag_of(kind) for kind in get_args(each)} for each in (frames.ChildFrame, frames.HostFrame))
    assert {tag for tag, sender in said.items() if sender in ("child", "both")} == child
    assert {tag for tag, sender in said.items() if sender in ("host", "both")} == host


def test_it_knows_the_kinds_of_failures_and_fds() -> None:
    """No kind is missing and none is made up."""
    assert {named(kind)[0] for kind, *_ in rows("### Failures")} == set(get_args(frames.FailureKind))
    fds = TEXT[TEXT.index("### Fds by kind") : TEXT.index("### Failures")]
    assert set(named(fds)) == set(get_args(FdKind))


def test_it_names_the_version() -> None:
    """The version on the page is the one that is spoken."""
    assert messages.LOWEST == messages.HIGHEST
    assert f"The version is {messages.HIGHEST}." in TEXT


class Colour(enum.Enum):
    RED = "red"


class Row(NamedTuple):
    x: int


class Record(msgspec.Struct, tag=True, forbid_unknown_fields=True):
    x: int = 0


class Own:
    """Travels by an adapter of its own."""


class Progress(Protocol):
    def at(self, step: int) -> None: ...


class Everything(Protocol):
    def plain(self, a: int, b: float, c: str, d: bool, e: bytes, f: Any = None) -> None: ...
    def times(
        self, a: datetime.datetime, b: datetime.date, c: datetime.time, d: datetime.timedelta, e: uuid.UUID
    ) -> decimal.Decimal: ...
    def made(self, a: list[int], b: tuple[int, str], c: dict[str, int], d: int | str | None, e: Colour) -> Row: ...
    def limited(self, a: Annotated[int, msgspec.Meta(gt=0, lt=9, multiple_of=2)], b: Record) -> None: ...
    def attached(self, a: Buffer, b: np.ndarray, c: Image.Image, d: Fd[Literal["socket"]], e: Progress) -> Own: ...
    def stream(self, items: AsyncIterator[int]) -> AsyncIterator[int]: ...
    @notify
    def hint(self) -> None: ...


adapt(Own, wire=int, encode=lambda value, kind, attaching: 0, decode=lambda wire, kind, attached: Own())


def test_it_knows_the_kinds_of_types() -> None:
    """What an interface with everything in it is described by stands in the table of types, rules too."""
    found = describe(Everything).types
    table = rows("### Kinds of types")
    assert {each.kind for each in found} | {"unknown"} == {kind for cells in table for kind in named(cells[0])}
    rules = {rule for cells in table for rule in named(cells[3])}
    assert {rule for each in found for rule, _ in each.rules} <= rules
