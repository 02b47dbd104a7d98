"""The fields of a struct that is made in Python, which checks no type of them: the first that is wrong, in words.

Reading TOML checks types as it goes. A value of the wrong type in Python would else be found far from where it was
written, by whatever first compares or iterates it; and text where several texts are meant would be taken letter by
letter. Literals and tokens count as text here: that it is one of the known words is for the checks of values.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin

import msgspec

from ..ipc.errors import printable

Bytes: TypeAlias = Annotated[
    int, msgspec.Meta(description="a number of bytes such as 64 << 20 (text such as '64MiB' is for TOML)")
]
Seconds: TypeAlias = Annotated[
    float, msgspec.Meta(description="a number of seconds such as 2.5 (text such as '2.5s' is for TOML)")
]

_KINDS: Final[dict[Any, tuple[type, ...]]] = {float: (int, float)}
_WORDS: Final[dict[Any, str]] = {
    str: "a str",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    dict: "a dict",
    NoneType: "None",
}

_REPR: Final = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80


class Misfit(NamedTuple):
    """A field whose value has the wrong type: its keys, one inside of the other, and the rest of the sentence."""

    keys: tuple[str, ...]
    text: str

    def path(self) -> str:
        """Return the keys as one: ``files[2]``."""
        return "".join(key if key.startswith("[") else f".{key}" for key in self.keys).removeprefix(".")


def misfit(struct: msgspec.Struct, *, inside: bool = True) -> Misfit | None:
    """Return the first field of *struct* whose value is of none of its types, or None if there is none.

    Without *inside*, what a tuple or dict holds does not count.
    """
    for name, wanted in _types(type(struct)):
        for keys, inner, value in _misfits(getattr(struct, name), wanted):
            if keys and not inside:
                break
            return Misfit((name, *keys), f"expected {_expected(inner, value)}, got {shown(value)}")
    return None


@cache
def _types(kind: type[msgspec.Struct]) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.type) for field in msgspec.structs.fields(kind))


def _misfits(value: Any, wanted: Any) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield the keys within *value*, the type that is wanted there, and what stands there, where that is no such."""
    plain, arguments = _plain(wanted)
    if plain is Any:
        return
    if plain in (Union, UnionType):
        found = [next(_misfits(value, each), None) for each in arguments]
        if None not in found:  # none of them fits; one that fits but for something inside of it says more
            yield next((each for each in found if each is not None and each[0]), ((), wanted, value))
    elif plain is bool or not isinstance(value, bool):
        if not isinstance(value, _KINDS.get(plain, plain)):
            yield (), wanted, value
        elif plain is tuple:
            for index, each in enumerate(value):
                yield from _inside(f"[{index}]", _misfits(each, arguments[0]))
        elif plain is dict and arguments:
            for name, each in value.items():
                yield from _inside(str(name), _misfits(name, arguments[0]))
                yield from _inside(str(name), _misfits(each, arguments[1]))
    else:
        yield (), wanted, value


def _inside(key: str, found: Iterator[tuple[tuple[str, ...], Any, Any]]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    yield from (((key, *keys), wanted, value) for keys, wanted, value in found)


def _plain(wanted: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the class or the kind of union that *wanted* is, and its arguments."""
    while get_origin(wanted) is Annotated:
        wanted = get_args(wanted)[0]
    origin = get_origin(wanted)
    if origin is Literal or (isinstance(wanted, type) and issubclass(wanted, str)):
        return str, ()
    return (wanted, ()) if origin is None else (origin, get_args(wanted))


def _expected(wanted: Any, value: Any) -> str:
    if get_origin(wanted) is Annotated:
        return str(next(meta for meta in wanted.__metadata__ if isinstance(meta, msgspec.Meta)).description)
    plain, arguments = _plain(wanted)
    if plain in (Union, UnionType):
        return " or ".join(_expected(each, value) for each in arguments)
    if plain is tuple:
        inside = _expected(arguments[0], value).removeprefix("a ")
        example = f" such as ({shown(value)},)" if isinstance(value, str) else ""
        return f"a tuple of {inside}{example}"
    return _WORDS.get(plain) or f"a {plain.__name__}"


def shown(value: object) -> str:
    """Return *value* as an error shows it: short, on one line, and named for what it is if it was not called."""
    name = getattr(value, "__qualname__", "")
    if isinstance(value, type):
        return f"the class {name}"
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if callable(value) and name:
        return f"the function {name}, which is not called"
    return printable(_REPR.repr(value))
