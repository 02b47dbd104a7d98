"""Methods as both sides see them: which there are, how arguments bind and travel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Generic, Literal, NewType, Protocol, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.ipc.interface import (
    ArgumentsUnfit,
    ValueUnfit,
    check_closed,
    codec,
    declared,
    declared_by,
    notify,
    raises,
)

encode = msgspec.msgpack.encode


@dataclass
class Point:
    """A typed argument."""

    x: int
    y: int = 0


class Size(msgspec.Struct, frozen=True):
    """A typed result."""

    width: int
    height: int


class BadPicture(Exception):
    """A declared error."""


class Decoder(Protocol):
    """Methods of every kind."""

    async def size(self, data: bytes, scale: int = 1, turn: int = 0) -> Size: ...

    async def unsaid(self, data: bytes, scale: int = ..., turn: int = ...) -> Size: ...

    def frames(self, data: bytes) -> AsyncIterator[Size]: ...

    async def store(self, name: str, chunks: AsyncIterator[bytes]) -> int: ...

    @notify
    async def hint(self, text: str) -> None: ...

    @raises(BadPicture, ValueError)
    async def decode(self, point: Point) -> Size: ...

    async def _private(self) -> None: ...


class Plugin:
    """Methods of every shape that a call can fill."""

    attribute = 3

    def plain(self, first: int, second: str = "two", *, hidden: int = 4) -> tuple[int, str, int]:
        return first, second, hidden

    def untyped(self, first, second=None):  # type: ignore[no-untyped-def]
        return first, second

    def typed(self, point: Point, how: Literal["up", "down"] = "up", size: int | None = None) -> Any:
        return point, how, size

    def bounded(self, size: Annotated[int, msgspec.Meta(ge=1, le=10)]) -> int:
        return size

    def positional(self, first: int, /) -> int:
        return first

    def none(self) -> None:
        return None

    def untyped_stream(self, count):  # type: ignore[no-untyped-def]
        yield from range(count)

    async def coroutine(self, first: int) -> int:
        return first

    async def stream(self) -> AsyncIterator[int]:
        yield 1

    @staticmethod
    def static(first: int) -> int:
        return first

    @classmethod
    def of_class(cls, first: int) -> str:
        return cls.__name__ * first

    class Nested(Exception):
        """What a class may have beside methods."""

    made_of = dict

    @property
    def fails(self) -> int:
        raise AssertionError

    @cached_property
    def fails_later(self) -> int:
        raise AssertionError

    def _private(self) -> None:
        raise AssertionError


METHODS = declared_by(Plugin())
INTERFACE = declared(Decoder)


def call(name: str, *arguments: Any) -> Any:
    method, function = METHODS[name]
    return function(*method.decode_arguments(encode(arguments)))


def test_public_methods_and_nothing_else() -> None:
    """Public callables are methods; attributes, classes, properties and private names are not."""
    assert set(INTERFACE) == {"size", "unsaid", "frames", "store", "hint", "decode"}
    assert set(METHODS) == {
        "plain", "untyped", "typed", "bounded", "positional", "none", "untyped_stream", "coroutine", "stream",
        "static", "of_class",
    }  # fmt: skip


def test_annotations_and_marks_say_what_a_method_is() -> None:
    """A returned iterator is a stream, one among the parameters an upload, and decorators say the rest."""
    kinds = {name: method.kind for name, method in INTERFACE.items()}
    assert kinds == {
        "size": "call", "unsaid": "call", "frames": "stream", "store": "call", "hint": "notify", "decode": "call"
    }  # fmt: skip
    item = INTERFACE["frames"].item
    assert item is not None
    assert item.kind is Size
    assert INTERFACE["store"].uploads == (1,)
    assert INTERFACE["store"].upload[1].kind is bytes
    assert INTERFACE["decode"].raises == {"BadPicture": BadPicture, "ValueError": ValueError}
    assert all(method.plain for method in INTERFACE.values())
    assert METHODS["untyped_stream"][0].kind == METHODS["stream"][0].kind == "stream"


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("plain", (1,), (1, "two", 4)),
        ("plain", (1, "x"), (1, "x", 4)),
        ("untyped", ([1], {"a": 2}), ([1], {"a": 2})),
        ("untyped", (1,), (1, None)),
        ("typed", ({"x": 1},), (Point(1), "up", None)),
        ("typed", ({"x": 1, "y": 2}, "down", 3), (Point(1, 2), "down", 3)),
        ("typed", ({"x": 1}, "down", None), (Point(1), "down", None)),
        ("bounded", (10,), 10),
        ("positional", (1,), 1),
        ("none", (), None),
        ("static", (1,), 1),
        ("of_class", (2,), "PluginPlugin"),
    ],
)
def test_arguments_take_the_declared_types(name: str, arguments: tuple[Any, ...], result: Any) -> None:
    """Arguments arrive as what the annotations say; what is left out takes its default."""
    assert call(name, *arguments) == result


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("plain", (), "0 arguments do not fit plain"),
        ("plain", (1, "x", 3), "3 arguments do not fit plain"),
        ("plain", ("x",), "Expected `int`, got `str` - at argument `first`"),
        ("plain", (1, 2), "Expected `str`, got `int` - at argument `second`"),
        ("typed", ({"y": 1},), "missing required field `x` - at argument `point`"),
        ("typed", ({"x": "1"},), "Expected `int`, got `str` - at argument `point.x`"),
        ("typed", ({"x": 1}, "left"), "Invalid enum value 'left' - at argument `how`"),
        ("bounded", (11,), "Expected `int` <= 10 - at argument `size`"),
        ("none", (1,), "1 arguments do not fit none"),
    ],
)
def test_arguments_that_do_not_fit_are_named(name: str, arguments: tuple[Any, ...], reason: str) -> None:
    """The first argument that does not fit is named with what was expected."""
    with pytest.raises(ArgumentsUnfit, match=reason):
        call(name, *arguments)


@given(st.one_of(st.binary(max_size=64), st.binary(max_size=64).map(b"\x91".__add__)), st.sampled_from(sorted(METHODS)))
def test_any_payload_is_arguments_or_does_not_fit(payload: bytes, name: str) -> None:
    """Whatever the bytes, they are arguments of the types, as many as the method takes, or unfit."""
    method, _ = METHODS[name]
    for decode in (method.decode_arguments, lambda data: method.decode_many(data)[0]):
        try:
            assert method.required <= len(decode(payload)) <= len(method.parameters)
        except (ArgumentsUnfit, IndexError):
            continue


@pytest.mark.parametrize(
    ("name", "arguments", "keywords", "bound"),
    [
        ("size", (b"", 2, 3), {}, (b"", 2, 3)),
        ("size", (b"",), {}, (b"",)),
        ("size", (b"",), {"turn": 3}, (b"", 1, 3)),
        ("size", (), {"scale": 2, "data": b""}, (b"", 2)),
        ("store", ("name", iter(())), {}, None),
    ],
)
def test_keywords_become_positions(
    name: str, arguments: tuple[Any, ...], keywords: dict[str, Any], bound: tuple[Any, ...] | None
) -> None:
    """Arguments come in the order of the interface; one that was left out before another has its default."""
    assert INTERFACE[name].bind(arguments, keywords) == (bound or arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "keywords", "reason"),
    [
        ("size", (), {}, "missing a required argument: 'data'"),
        ("size", (b"", 1, 2, 3), {}, "too many positional arguments"),
        ("size", (b"",), {"third": 3}, "got an unexpected keyword argument 'third'"),
        ("size", ("text",), {}, "argument 'data': Expected `bytes`, got `str`"),
        ("size", (b"", True), {}, "argument 'scale': Expected `int`, got `bool`"),
        ("unsaid", (b"",), {"turn": 1}, "argument 'scale': give it too"),
    ],
)
def test_a_caller_learns_what_does_not_fit(
    name: str, arguments: tuple[Any, ...], keywords: dict[str, Any], reason: str
) -> None:
    """Arguments are checked against the interface before anything is encoded."""
    with pytest.raises(ArgumentsUnfit, match=reason):
        INTERFACE[name].bind(arguments, keywords)


def test_uploads_leave_a_place_in_the_arguments() -> None:
    """What a stream yields travels on its own; among the arguments stands nothing for it."""
    store = INTERFACE["store"]
    assert store.decode_arguments(store.encode_arguments(("name", object()))) == ("name", None)


@pytest.mark.parametrize("arguments", [(2**64,), ("\ud800",), (object(),)])
def test_what_cannot_be_encoded_is_unfit(arguments: tuple[Any, ...]) -> None:
    """An argument or a value that msgpack cannot hold is the caller's error, as text that names it."""
    with pytest.raises(ArgumentsUnfit, match="argument 'second': "):
        METHODS["untyped"][0].encode_arguments((1, *arguments))
    with pytest.raises(ValueUnfit):
        codec(Any).encode(arguments[0])


@pytest.mark.parametrize("count", [0, 1, 15, 16, 300, 70_000])
def test_many_calls_travel_as_one_array(count: int) -> None:
    """The arguments of many calls, or their results, are decoded at once, however many they are."""
    size = INTERFACE["size"]
    calls = [(bytes([i % 256]), i) for i in range(count)]
    assert size.decode_many(size.encode_many(calls)) == calls
    results = [Size(i, i) for i in range(count)]
    assert size.result.decode_many(size.result.encode_many(results), count) == results
    with pytest.raises(ValueUnfit, match=f"array of {count + 1} values"):
        size.result.decode_many(size.result.encode_many(results), count + 1)


def test_calls_that_go_together_are_alike() -> None:
    """Calls that travel as one have equally many arguments, and no uploads; one that does not fit is named."""
    size = INTERFACE["size"]
    with pytest.raises(ArgumentsUnfit, match="equally many arguments"):
        size.encode_many([(b"",), (b"", 1)])
    with pytest.raises(ArgumentsUnfit, match="none of them is a stream"):
        INTERFACE["store"].encode_many([("a", None)])
    with pytest.raises(ArgumentsUnfit, match="Expected `bytes`, got `int` - at argument `data`"):
        size.decode_many(encode([(b"",), (1,)]))
    with pytest.raises(ArgumentsUnfit):
        size.decode_many(encode([(b"",), (b"", 1)]))


def test_more_parameters_than_one_byte_can_count() -> None:
    """A method with more than fifteen parameters is called with all of them, or with fewer."""

    class Wide:
        def many(self, a=0, b=0, c=0, d=0, e=0, f=0, g=0, h=0, i=0, j=0, k=0, l=0, m=0, n=0, o=0, p=0, q=0) -> Any: ...  # type: ignore[no-untyped-def]  # noqa: E741

    many, _ = declared_by(Wide())["many"]
    for count in (17, 1, 16, 17, 1):
        assert many.decode_arguments(encode([*range(count)])) == tuple(range(count))


def many(*numbers: int) -> None: ...


def keywords(**names: int) -> None: ...


def demanding(*, needed: int) -> None: ...


async def late(data: bytes) -> AsyncIterator[bytes]:
    raise AssertionError


def unsupported(value: int | Point | dict[str, int]) -> None: ...


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (many, r"\*numbers: .*make it positional"),
        (keywords, r"\*\*names: .*make it positional"),
        (demanding, "needed: .*make it positional"),
        (late, "declare it with def, without async"),
        (unsupported, "Type unions may not contain more than one"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_methods_that_no_call_can_fill_are_refused(function: Callable[..., Any], reason: str) -> None:
    """A method that cannot be called so is an error when the plugin is loaded or the interface used; it is named."""
    owner = type("Owner", (), {"it": staticmethod(function)})
    with pytest.raises(TypeError, match=f"method 'it' .*{reason}"):
        declared_by(owner())
    with pytest.raises(TypeError, match=rf"method 'Owner\.it' .*{reason}"):
        declared(owner)


def test_annotations_that_cannot_be_used_are_named() -> None:
    """A name that does not exist is an error that names method and name; so is a class that nothing can send."""

    class Broken:
        def call(self, value: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    class Strange:
        def call(self, value: Plugin) -> None: ...

    with pytest.raises(TypeError, match="annotations of method 'call' cannot be resolved: name 'Missing'"):
        declared_by(Broken())
    with pytest.raises(TypeError, match=r"method 'Strange\.call' .* Plugin cannot travel without an adapter"):
        declared(Strange)
    with pytest.raises(TypeError, match="object has no public methods to call"):
        declared(object)


class Abstract(ABC):
    """An interface with a base in ABC."""

    @notify
    @abstractmethod
    def hint(self, text: str) -> None: ...

    @raises(BadPicture)
    @abstractmethod
    def size(self, data: bytes) -> Size: ...

    @abstractmethod
    def frames(self, count: int) -> Iterator[int]: ...


class Implements(Abstract):
    """Repeats some types of its interface, and no others."""

    def hint(self, text): ...  # type: ignore[no-untyped-def]

    def size(self, data: bytes, more: int = 0) -> Size:
        return Size(1, 2)

    def frames(self, count):  # type: ignore[no-untyped-def]
        return iter(range(count))


def test_a_plugin_need_not_repeat_what_its_interface_says() -> None:
    """Types that a method does not give are those of the interface it implements, and so are its marks."""
    methods = {name: method for name, (method, _) in declared_by(Implements()).items()}
    assert {name: method.kind for name, method in methods.items()} == {
        "hint": "notify", "size": "call", "frames": "stream"
    }  # fmt: skip
    assert methods["size"].raises == {"BadPicture": BadPicture}
    assert len(methods["size"].parameters) == 2
    with pytest.raises(ArgumentsUnfit):
        methods["hint"].decode_arguments(encode([1]))


def test_a_large_result_without_a_type_is_text_or_bytes() -> None:
    """What has no declared type is decoded freely only if it is small, because it could grow a hundredfold."""
    untyped = codec(Any)
    assert untyped.decode(encode([[], {}])) == [[], {}]
    for large in ("x" * 70_000, b"x" * 70_000):
        assert untyped.decode(encode(large)) == large
        assert untyped.decode_many(encode([large] * 2), 2) == [large] * 2
    for decode in (untyped.decode, lambda payload: untyped.decode_many(payload, 70_000)):
        with pytest.raises(ValueUnfit, match="no declared type"):
            decode(encode([[]] * 70_000))


@pytest.mark.parametrize(
    "kind",
    [
        object,
        Any | None,
        object | None,
        NewType("Named", Any),  # pyright: ignore[reportGeneralTypeIssues]
        Annotated[Any, msgspec.Meta(description="anything")],
        Annotated[Any, msgspec.Meta(description="anything")] | None,  # pyright: ignore[reportOperatorIssue]
    ],
    ids=str,
)
def test_whatever_is_as_good_as_no_type_is_decoded_only_if_small(kind: Any) -> None:
    """Other ways to write Any do not escape the limit of what has no declared type."""
    untyped = codec(kind)
    assert untyped.decode(encode([[], {}])) == [[], {}]
    assert untyped.decode(encode("x" * 70_000)) == "x" * 70_000
    for decode in (untyped.decode, lambda payload: untyped.decode_many(payload, 70_000)):
        with pytest.raises(ValueUnfit, match="no declared type"):
            decode(encode([[]] * 70_000))


T = TypeVar("T")
K = TypeVar("K")
Small = TypeVar("Small", bound=int)


class Source(Protocol[T]):
    """An interface that says what it gives only where it is bound."""

    def get(self) -> T: ...

    def put(self, value: Annotated[T, "more"], others: dict[str, list[T]]) -> None: ...

    def all(self) -> Iterator[T | None]: ...


class Twice(Source[tuple[K, T]], Protocol[T, K]):
    """Binds it to type variables of its own, in another order, one of the same name."""

    def one(self, value: T) -> K: ...


class Points(Twice[int, Point], Protocol): ...


class HasSource(Protocol):
    def use(self, source: Source[int]) -> None: ...


class BySource(Source[int]):
    """A plugin that leaves some types to its interface."""

    def get(self):  # type: ignore[no-untyped-def]
        return 1

    def put(self, value: int, others: dict[str, list[int]]) -> None: ...

    def all(self) -> Iterator[int]:
        return iter([1])


class Inherits(Generic[T]):
    def keep(self: K, value: T) -> T:  # pyright: ignore[reportInvalidTypeVarUse]
        return value


class Keeps(Inherits[bytes]): ...


def test_what_a_generic_interface_is_bound_to_is_its_type() -> None:
    """Type variables of a base stand for what the interface or the plugin binds them to."""
    found = declared(Points)
    assert found["get"].result.kind == tuple[Point, int]
    assert [each.kind for each in found["put"].parameters] == [
        Annotated[tuple[Point, int], "more"], dict[str, list[tuple[Point, int]]]
    ]  # fmt: skip
    assert found["all"].item is not None
    assert found["all"].item.kind == tuple[Point, int] | None
    assert (found["one"].parameters[0].kind, found["one"].result.kind) == (int, Point)
    assert declared(Source[int])["get"].result.kind is int
    assert declared(HasSource)["use"].parameters[0].shape.lent == Source[int]
    assert declared_by(BySource())["get"][0].result.kind is int
    assert declared_by(Keeps())["keep"][0].parameters[0].kind is bytes


def test_a_type_variable_that_nothing_binds_is_refused() -> None:
    """Anything would fit one; the error names the method and the parameter. One with a bound stands for that."""

    class Bounded:
        def call(self, value: list[Small]) -> Small: ...  # type: ignore[empty-body]

    class Result:
        def call(self) -> list[T]: ...  # type: ignore[empty-body]

    assert declared(Bounded)["call"].parameters[0].kind == list[int]
    for interface, text in [
        (Source, r"method 'Source\.\w+' cannot be called: nothing says what ~T is in"),
        (Inherits, r"method 'Inherits\.keep' cannot be called: nothing says what ~T is in the parameter 'value'"),
        (Result, r"method 'Result\.call' cannot be called: nothing says what ~T is in the result"),
    ]:
        with pytest.raises(TypeError, match=text):
            declared(interface)
    with pytest.raises(TypeError, match="method 'keep' cannot be called: nothing says what ~T is"):
        declared_by(Inherits())


def test_declared_errors_are_made_from_one_text() -> None:
    """What can be declared as an error is an exception that one text makes, and no two of a name."""

    class Needs(Exception):
        def __init__(self, one: str, two: str) -> None: ...

    for classes, reason in [
        ((Needs,), "Needs cannot be declared: it is not made from one text"),
        ((UnicodeDecodeError,), "UnicodeDecodeError cannot be declared: it is not made from one text"),
        ((int,), "int'> is not a class of exceptions"),
        ((BadPicture, type("BadPicture", (Exception,), {})), "two declared errors of one name"),
    ]:
        with pytest.raises(TypeError, match=reason):
            raises(*classes)


def test_an_open_type_is_refused_where_the_caller_is_hostile() -> None:
    """For a service, every parameter must say all of what fits, and so must what an upload yields."""

    class Untyped:
        def take(self, anything): ...  # type: ignore[no-untyped-def]

    class Items:
        def take(self, anything: list) -> None: ...  # type: ignore[type-arg]

    class Upload:
        def take(self, anything: AsyncIterator[dict[str, Any]]) -> None: ...

    check_closed(Decoder)
    for interface in (Untyped, Items, Upload):
        with pytest.raises(TypeError, match=rf"{interface.__name__}\.take: give the parameter 'anything' a type"):
            check_closed(interface)
