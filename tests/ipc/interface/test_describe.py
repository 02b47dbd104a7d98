"""Descriptions of interfaces and plugins, and the first difference between two."""

from __future__ import annotations

import enum
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypedDict

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from belljar.ipc.interface import ValueUnfit, declared_by, notify
from belljar.ipc.interface.compare import Sides, first_difference
from belljar.ipc.interface.describe import (
    MAX_DESCRIPTION,
    MAX_FIELDS,
    Description,
    Member,
    Type,
    check,
    describe,
    described,
)
from belljar.ipc.interface.fd import Fd
from belljar.ipc.interface.fitting import misfit, pack
from belljar.ipc.memory.buffer import Buffer


class Size(msgspec.Struct):
    width: int
    height: int = 0


class Wider(msgspec.Struct):
    width: int
    depth: int
    height: int = 0


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    width: int


class Omits(msgspec.Struct, omit_defaults=True):
    width: int = 0


class Row(msgspec.Struct, array_like=True):
    width: int
    height: int = 0


class TaggedRow(msgspec.Struct, array_like=True, tag="row"):
    width: int


class Level(enum.IntEnum):
    LOW = 1


class Pair(NamedTuple):
    width: int
    height: int


class Triple(NamedTuple):
    width: int
    height: int
    depth: int = 0


class Nan(msgspec.Struct, tag="nan"):
    x: int


@dataclass
class SizeAsDataclass:
    width: int


class SizeAsDict(TypedDict):
    width: int
    height: int


class Node(msgspec.Struct):
    value: int
    next: Node | None = None


class OtherNode(msgspec.Struct):
    value: str
    next: OtherNode | None = None


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class A(msgspec.Struct, tag="a"):
    x: int


class B(msgspec.Struct, tag="b"):
    x: int


class Untagged(msgspec.Struct):
    x: int


class Progress(Protocol):
    def done(self, part: float) -> None: ...


class MoreProgress(Protocol):
    def done(self, part: float) -> None: ...

    def total(self, size: int) -> None: ...


class TextProgress(Protocol):
    def done(self, part: str) -> None: ...


class Again(Protocol):
    def again(self, other: Again) -> None: ...


def argument(kind: Any) -> Description:
    def call(self, argument): ...  # type: ignore[no-untyped-def]

    call.__annotations__ = {"argument": kind}
    return describe(type("I", (), {"call": call}))


def result(kind: Any) -> Description:
    def call(self): ...  # type: ignore[no-untyped-def]

    call.__annotations__ = {"return": kind}
    return describe(type("I", (), {"call": call}))


LENT = (Progress, MoreProgress, TextProgress, Again)
"""They are no results."""

ALL = [
    int, str, bytes, list[Size], tuple[int, str], dict[str, Row], Size, Strict, Row, Pair, SizeAsDataclass, SizeAsDict,
    Nan, Annotated[str, msgspec.Meta(pattern="nan")],
    Node, Color, Literal["a", 1], A | B, int | None, Progress, Again, Buffer, NDArray[np.uint8], Fd[Literal["socket"]],
    Any, AsyncIterator[bytes], Annotated[int, msgspec.Meta(ge=1, le=5)], list[Fd[Literal["socket"]]],
]  # fmt: skip


@pytest.mark.parametrize("kind", ALL, ids=str)
def test_what_is_declared_alike_fits(kind: Any) -> None:
    """A description travels, refers to nothing that it lacks, and fits itself."""
    for one in (argument(kind),) if kind in LENT else (argument(kind), result(kind)):
        other = msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Description)
        check(other)
        assert one == other
        assert first_difference(one, other) == ""


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (int, float),
        (int, Any),
        (Any, int),
        (int, int | None),
        (list[int], tuple[int, ...]),
        (bytes, bytearray),
        (Size, SizeAsDataclass),
        (Wider, Size),
        (Row, Row),
        (Literal["a"], str),
        (Color, Literal["red", "blue", "green"]),
        (Literal["a"] | None, Literal["a", None]),
        (Literal["a", None], Literal["a"] | None),
        (Literal["a", 1, None], str | int | None),
        (Literal["a", 1], Literal["a", "b"] | int),
        (Level, float),
        (Pair, tuple[int, int]),
        (Pair, list[int]),
        (tuple[int, int], Pair),
        (tuple[int, int], Triple),
        (tuple[int, str], list[int | str]),
        (Pair | None, tuple[int, int] | None),
        (A, A | B),
        (A, Untagged),
        (int, Annotated[int, msgspec.Meta(ge=1)]),
        (Annotated[int, msgspec.Meta(ge=2)], Annotated[int, msgspec.Meta(ge=1)]),
        (NDArray[np.uint8], np.ndarray),
        (NDArray[np.float32], NDArray[np.floating]),
        (NDArray[np.number], NDArray[np.uint8]),
        (np.ndarray[tuple[int, int], np.dtype[np.uint8]], np.ndarray[tuple[int, ...], np.dtype[np.uint8]]),
        (Pair, Triple),
        (MoreProgress, Progress),
        (Node, Node),
    ],
    ids=str,
)
def test_what_takes_more_fits_as_an_argument(wanted: Any, found: Any) -> None:
    """A parameter that takes all that the interface lets a caller give fits; as a result, the other way round."""
    assert first_difference(argument(wanted), argument(found)) == ""
    assert wanted in LENT or first_difference(result(found), result(wanted)) == ""


@pytest.mark.parametrize(
    ("wanted", "found", "text"),
    [
        (int, str, "argument 'argument' is int in the interface and str in the plugin"),
        (int | None, int, "argument 'argument' is int | None in the interface and int in the plugin"),
        (float, int, "argument 'argument' is float in the interface and int in the plugin"),
        (list[int], list[str], "argument 'argument[]' is int in the interface and str in the plugin"),
        (dict[str, Size], dict[str, bytes], "argument 'argument[]' is Size in the interface and bytes in the plugin"),
        (Size, Wider, "argument 'argument.depth' is missing in the interface and required in the plugin"),
        (Size, Strict, "argument 'argument.height' is sent by the interface and forbidden in the plugin"),
        (Omits, SizeAsDataclass, "argument 'argument.width' is optional in the interface and required in the plugin"),
        (Size, Row, "argument 'argument' is Size in the interface and Row in the plugin"),
        (tuple[int, int], tuple[int], "'argument' is tuple[int, int] in the interface and tuple[int] in the plugin"),
        (Pair, tuple[int, str], "argument 'argument.1' is int in the interface and str in the plugin"),
        (Pair, tuple[int], "argument 'argument.height' is sent by the interface and forbidden in the plugin"),
        (tuple[int], Pair, "argument 'argument.height' is missing in the interface and required in the plugin"),
        (tuple[int, str], list[int], "argument 'argument[1]' is str in the interface and int in the plugin"),
        (list[int], tuple[int, int], "argument 'argument' is list[int] in the interface and tuple[int, int] in"),
        (TaggedRow, Row, "argument 'argument' is TaggedRow in the interface and Row in the plugin"),
        (TaggedRow, tuple[int], "argument 'argument' is TaggedRow in the interface and tuple[int] in the plugin"),
        (Literal["a", None], Literal["a", 1], "Literal['a'] | None in the interface and Literal['a'] | Literal[1] in"),
        (Literal["a", 1], str, "argument 'argument' is Literal['a'] | Literal[1] in the interface and str in the"),
        (Triple, Pair, "argument 'argument.depth' is sent by the interface and forbidden in the plugin"),
        (Annotated[str, msgspec.Meta(pattern="1")], Annotated[str, msgspec.Meta(pattern="1.0")], "str (pattern 1) in"),
        (Node, OtherNode, "argument 'argument.value' is int in the interface and str in the plugin"),
        (str, Literal["a"], "argument 'argument' is str in the interface and Literal['a'] in the plugin"),
        (Literal["a", "c"], Color, "argument 'argument' is Literal['a', 'c'] in the interface and Color in the plugin"),
        (A | B, A, "argument 'argument' is A | B in the interface and A in the plugin"),
        (Untagged, A, "argument 'argument' is Untagged in the interface and A in the plugin"),
        (
            Annotated[int, msgspec.Meta(le=9)],
            Annotated[int, msgspec.Meta(le=5)],
            "argument 'argument' is int (le 9) in the interface and int (le 5) in the plugin",
        ),
        (Buffer, bytes, "argument 'argument' is Buffer in the interface and bytes in the plugin"),
        (Buffer, Any, "argument 'argument' is Buffer in the interface and Any in the plugin"),
        (NDArray[np.uint8], NDArray[np.float32], "argument 'argument' is ndarray (argument 1 uint8)"),
        (Fd[Literal["socket"]], Fd[Literal["pipe-read"]], "argument 'argument' is Fd (argument 0 socket)"),
        (Progress, MoreProgress, "argument 'argument': MoreProgress.total is missing in the interface"),
        (Progress, TextProgress, "argument 'part' is float in the interface and str in the plugin"),
        (AsyncIterator[bytes], AsyncIterator[str], "argument 'argument[]' is bytes in the interface and str"),
        (AsyncIterator[bytes], Any, "argument 'argument' is upload[bytes] in the interface and Any in the plugin"),
        (Any, AsyncIterator[bytes], "argument 'argument' is Any in the interface and upload[bytes] in the plugin"),
        (AsyncIterator[bytes], bytes, "argument 'argument' is upload[bytes] in the interface and bytes in the plugin"),
    ],
    ids=str,
)  # fmt: skip
def test_the_first_difference_is_named(wanted: Any, found: Any, text: str) -> None:
    """A parameter that would not take what the interface lets a caller give is named, with both types."""
    assert text in first_difference(argument(wanted), argument(found))
    assert first_difference(argument(wanted), argument(found)).startswith("I.call: ")
    if (
        not text.startswith("argument 'argument[]' is bytes")
        and AsyncIterator[bytes] not in (wanted, found)
        and wanted not in LENT
    ):
        assert first_difference(result(found), result(wanted)) != ""


class Thumbnailer(Protocol):
    async def thumbnail(self, data: bytes, size: int = 64) -> Size: ...

    def frames(self, count: int) -> AsyncIterator[Size]: ...

    @notify
    async def hint(self, text: str) -> None: ...


class Good:
    """Fits: more methods, more parameters, no async, no types."""

    def thumbnail(self, data: bytes, size: int = 1, more: str = "") -> Size: ...  # type: ignore[empty-body]

    def frames(self, count): ...  # type: ignore[no-untyped-def]

    @notify
    def hint(self, text: str) -> None: ...

    def more(self) -> None: ...


def plugin(**methods: Any) -> Description:
    kind = type("Plugin", (Good,), methods)
    return described("Plugin", {name: method for name, (method, _) in declared_by(kind()).items()})


def _frames(self: object, count: int) -> Iterator[Size]:
    raise AssertionError


def _result(self: object, data: bytes, size: int = 1) -> tuple[int, int]:
    raise AssertionError


def _required(self: object, data: bytes, size: int) -> Size:
    raise AssertionError


def _fewer(self: object, data: bytes) -> Size:
    raise AssertionError


def _more(self: object, data: bytes, size: int, more: int) -> Size:
    raise AssertionError


def _swapped(self: object, size: bytes, data: int = 1) -> Size:
    raise AssertionError


def _hint(self: object, text: str) -> None: ...


@pytest.mark.parametrize(
    ("methods", "text"),
    [
        ({"frames": _frames}, ""),
        ({}, "frames: it is a stream in the interface and a call in the plugin"),
        ({"frames": _frames, "thumbnail": 5}, "thumbnail is missing in the plugin"),
        ({"frames": _frames, "hint": _hint}, "hint: it is a notify in the interface and a call in the plugin"),
        (
            {"frames": _frames, "thumbnail": _result},
            "thumbnail: the result is Size in the interface and tuple[",
        ),
        ({"frames": _frames, "thumbnail": _required}, "argument 'size' is optional in the interface and required in"),
        ({"frames": _frames, "thumbnail": _fewer}, "thumbnail: argument 'size' is missing in the plugin"),
        ({"frames": _frames, "thumbnail": _more}, "argument 'size' is optional"),
        ({"frames": _frames, "thumbnail": _swapped}, "argument 1 is 'data' in the interface and 'size' in the plugin"),
    ],
)
def test_methods_are_compared(methods: dict[str, Any], text: str) -> None:
    """Kind, parameters, defaults and result of each method of the interface are compared; what is more is not."""
    found = first_difference(describe(Thumbnailer), plugin(**methods))
    assert text in found
    assert bool(text) == bool(found)


def test_the_sides_have_names() -> None:
    """Where a child asks and the host answers, the text says so."""
    text = first_difference(argument(int), argument(str), Sides("the child", "the host"))
    assert text == "I.call: argument 'argument' is int in the child and str in the host"


def test_a_plugin_with_too_many_types_is_known_by_its_methods() -> None:
    """What would not fit into a message is described by names; its calls are checked one by one."""
    large = msgspec.defstruct("Large", [(f"field_{'x' * 100}_{i}", int) for i in range(300)])
    found = argument(large)
    assert len(msgspec.msgpack.encode(found)) < MAX_DESCRIPTION
    assert first_difference(argument(int), found) == ""
    assert first_difference(describe(Thumbnailer), found) == "Thumbnailer.frames is missing in the plugin"


def test_more_methods_than_fit_are_not_described() -> None:
    """A plugin with more methods than a description can name sends none; each call is checked as it comes."""

    def call(self: object) -> int:
        return 1

    many = type("Many", (), {f"call_{i:03}": call for i in range(MAX_FIELDS + 1)})
    last = type("Last", (), {f"call_{MAX_FIELDS}": call})
    methods = {name: method for name, (method, _) in declared_by(many()).items()}
    assert misfit(last, pack("Many", methods), Sides()) == ""
    del methods["call_000"]
    assert misfit(last, pack("Many", methods), Sides()) == ""
    del methods[f"call_{MAX_FIELDS}"]
    assert misfit(last, pack("Many", methods), Sides()) == "Last.call_256 is missing in the plugin"


def test_texts_are_short_and_printable() -> None:
    """No name in a description is long or has control characters, whatever the classes are called."""
    odd = msgspec.defstruct("Odd", [("odd", int)], rename={"odd": "ü" * 400})
    names = [member.name for each in argument(odd).types for member in each.members]
    assert all(name.isascii() and name.isprintable() and len(name) <= 128 for name in names)
    hostile = msgspec.to_builtins(argument(odd))
    hostile[0][0][1] = "\x1b[31m"
    with pytest.raises(msgspec.ValidationError, match="regex"):
        msgspec.convert(hostile, Description)


def test_a_reference_to_nothing_is_refused() -> None:
    """A hostile description cannot name a type that it does not have."""
    for each in (Type("list", parts=(1,)), Type("interface", members=(Member("call", 5),))):
        with pytest.raises(ValueUnfit, match="of 1 types refers to one that it does not have"):
            check(Description((each,)))


def test_a_hostile_description_costs_little() -> None:
    """Types that nest without end, or that all refer to all, end the comparison and not the host."""
    chain = Description(
        (
            Type("interface", "I", members=(Member("call", 1),)),
            Type("call", members=(Member("argument", 3),), parts=(2,)),
            Type("any"),
            *(Type("struct", "N", members=(Member("value", 2), Member("next", 4 + i))) for i in range(1000)),
            Type("any"),
        )
    )
    check(chain)
    assert "too many to be compared" in first_difference(argument(Node), chain)
    everything = tuple(range(3, 253))
    dense = Description((*chain.types[:3], *(Type("union", parts=everything) for _ in range(250))))
    before = time.process_time()
    first_difference(dense, dense)
    first_difference(argument(Node), dense)
    assert time.process_time() - before < 5


def layered(parts: int, rules: int) -> Description:
    """Return 11 layers of 5 structs, all of whose fields are unions with a struct of the next layer.

    Each union names one type *parts* times, which has 256 rules, and each struct has so many *rules*.
    """
    last = 4 + 2 * 55
    many = tuple(("", "") for _ in range(256))
    types = [Type("interface", "I", members=(Member("call", 1),)), Type("call", parts=(5,)), Type("none"), Type("any")]
    for i in range(55):
        below = 4 + 2 * 5 * (i // 5 + 1)
        fields = [Member(f"f{j}", below + (i + j) % 5 * 2, False, False) for j in range(24)] if i < 50 else []
        types += [
            Type("union", parts=(last,) * parts + (5 + 2 * i,)),
            Type("struct", members=tuple(fields), rules=many[:rules]),
        ]
    return Description((*types, Type("int", rules=many)))


@pytest.mark.parametrize(("parts", "rules"), [(240, 0), (1, 256)])
def test_a_comparison_looks_at_a_bounded_number_of_parts(parts: int, rules: int) -> None:
    """Not only many pairs end the comparison, but also a few thousand that each have many parts or rules."""
    names = [f"K{i}" for i in range(100)]
    unions = [Type("union", parts=(5 + 2 * i, 3, 2)) for i in range(100)]
    structs = [
        Type("struct", name, members=tuple(Member(f"f{j}", 4 + 2 * ((24 * i + j) % 100), False) for j in range(24)))
        for i, name in enumerate(names)
    ]
    start = (Type("interface", "I", members=(Member("call", 1),)), Type("call", parts=(5,)), Type("none"), Type("int"))
    wanted = Description((*start, *(each for pair in zip(unions, structs, strict=True) for each in pair)))
    hostile = layered(parts, rules)
    check(wanted)
    check(hostile)
    before = time.process_time()
    assert first_difference(wanted, hostile) == "the types of the interface and the plugin are too many to be compared"
    assert time.process_time() - before < 1


_indices = st.integers(0, 6)
_texts = st.sampled_from(
    ["any", "int", "call", "stream", "struct", "row", "union", "literal", "interface", "array", "a"]
)
_members = st.lists(st.builds(Member, _texts, _indices, st.booleans(), st.booleans()), max_size=4).map(tuple)
_types = st.builds(
    Type,
    _texts,
    _texts,
    st.lists(_indices, max_size=4).map(tuple),
    _members,
    st.lists(st.tuples(_texts, _texts), max_size=3).map(tuple),
)


@given(
    st.lists(_types, min_size=7, max_size=7), st.sampled_from([describe(Thumbnailer), argument(Node), argument(Again)])
)
def test_any_description_fits_or_differs(types: list[Type], wanted: Description) -> None:
    """Whatever a child says that it is, the answer is a text of bounded length."""
    found = Description(tuple(types))
    check(found)
    for one, other in ((wanted, found), (found, wanted)):
        assert len(first_difference(one, other)) < 2000
