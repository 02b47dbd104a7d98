"""Methods of a plugin as calls: which can be called, and how arguments meet annotations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.ipc.interface import ArgumentsUnfit, Method, methods_of


@dataclass
class Point:
    """A typed argument."""

    x: int
    y: int = 0


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

    @staticmethod
    def static(first: int) -> int:
        return first

    @classmethod
    def of_class(cls, first: int) -> str:
        return cls.__name__ * first

    def _private(self) -> None:
        raise AssertionError


METHODS = methods_of(Plugin())


def call(name: str, *arguments: Any) -> Any:
    return METHODS[name](msgspec.msgpack.encode(arguments))


def test_public_methods_and_nothing_else() -> None:
    """Public callables are methods; attributes and private names are not."""
    assert set(METHODS) == {
        "plain", "untyped", "typed", "bounded", "positional", "none", "static", "of_class"
    }  # fmt: skip


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
        ("plain", (), "plain"),
        ("plain", (1, "x", 3), "plain"),
        ("plain", ("x",), "Expected `int`, got `str` - at argument `first`"),
        ("plain", (1, 2), "Expected `str`, got `int` - at argument `second`"),
        ("typed", ({"y": 1},), "missing required field `x` - at argument `point`"),
        ("typed", ({"x": "1"},), "Expected `int`, got `str` - at argument `point.x`"),
        ("typed", ({"x": 1}, "left"), "Invalid enum value 'left' - at argument `how`"),
        ("bounded", (11,), "Expected `int` <= 10 - at argument `size`"),
        ("none", (1,), "none"),
    ],
)
def test_arguments_that_do_not_fit_are_named(name: str, arguments: tuple[Any, ...], reason: str) -> None:
    """The first argument that does not fit is named with what was expected, and the method does not run."""
    with pytest.raises(ArgumentsUnfit, match=reason):
        call(name, *arguments)


@given(st.binary(max_size=100), st.sampled_from(sorted(METHODS)))
def test_any_payload_is_a_call_or_does_not_fit(payload: bytes, name: str) -> None:
    """Whatever the bytes, a method is called with arguments of its types or not at all."""
    payload = b"\x91" + payload
    try:
        METHODS[name](payload)
    except ArgumentsUnfit:
        return


async def coroutine() -> None: ...


async def stream() -> AsyncIterator[int]:
    yield 1


def many(*numbers: int) -> None: ...


def keywords(**names: int) -> None: ...


def demanding(*, needed: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (coroutine, "asynchronous"),
        (stream, "asynchronous"),
        (many, r"\*numbers: .*make it positional"),
        (keywords, r"\*\*names: .*make it positional"),
        (demanding, "needed: .*make it positional"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_methods_that_no_call_can_fill_are_refused(function: Callable[..., Any], reason: str) -> None:
    """A method whose parameters a call cannot fill is an error when the plugin is loaded, which names it."""
    with pytest.raises(TypeError, match=f"method 'it' .*{reason}"):
        Method("it", function)


def test_annotations_that_cannot_be_resolved_are_named() -> None:
    """A name in an annotation that does not exist is an error that names method and name."""

    class Broken:
        def call(self, value: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TypeError, match="annotations of method 'call' cannot be resolved: name 'Missing'"):
        methods_of(Broken())


@given(st.binary(max_size=64))
def test_no_bytes_are_anything_but_arguments_or_unfit(payload: bytes) -> None:
    """Whatever stands where arguments should, even nothing: the method runs, or ArgumentsUnfit is raised."""
    try:
        METHODS["plain"](payload)
    except ArgumentsUnfit:
        return
    assert msgspec.msgpack.decode(payload)[0] is not None
