"""What the type variables in a method's annotations stand for, where its class is generic.

msgspec takes one that nothing binds for Any, so that it would be a type that is none.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar


def hints_of(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of *function*, bound as the method *name*. `TypeError` if one has an unbound variable."""
    hints = typing.get_type_hints(function, include_extras=True)
    if not any(map(_variables, hints.values())):
        return hints
    owner = getattr(function, "__self__", None)
    kind = owner if isinstance(typing.get_origin(owner) or owner, type) else type(owner)
    home = next((each for each in _origin(kind).__mro__ if name in each.__dict__), object)
    bound = _bindings(kind, home)
    places = {*inspect.signature(function).parameters, "return"}  # not self, which may have an annotation as well
    return {place: _closed(hint, bound, place) for place, hint in hints.items() if place in places}


def bound_base(kind: type, base: type) -> Any:
    """Return *base*, one of the bases of the class *kind*, with what *kind* binds its type variables to."""
    arguments = tuple(_bindings(kind, base).values())
    return base[arguments] if arguments else base  # type: ignore[index]  # it is generic


def _origin(kind: Any) -> Any:
    return typing.get_origin(kind) or kind


def _variables(kind: Any) -> tuple[Any, ...]:
    """Return the type variables in *kind*. Those of a class are its own affair."""
    if isinstance(kind, TypeVar):
        return (kind,)
    return () if isinstance(kind, type) else getattr(kind, "__parameters__", ())


def _parameters(kind: type) -> tuple[Any, ...]:
    """Return the type variables of *kind* in the order of Protocol[T, K], which Python heeds only of the first base."""
    for each in kind.__dict__.get("__orig_bases__", ()):
        if typing.get_origin(each) in (Generic, Protocol):
            return typing.get_args(each)
    return getattr(kind, "__parameters__", ())


def _bindings(kind: Any, base: type) -> dict[Any, Any]:
    """Return what the type variables of *base* stand for in *kind*, which may have variables itself."""
    origin = _origin(kind)
    variables = _parameters(origin)
    given = dict(zip(variables, typing.get_args(kind), strict=False))
    if origin is base:
        return {each: given.get(each, each) for each in variables}
    for each in origin.__dict__.get("__orig_bases__", origin.__bases__):
        if base in getattr(_origin(each), "__mro__", ()):
            return {variable: _replaced(value, given) for variable, value in _bindings(each, base).items()}
    return {}


def _replaced(kind: Any, bound: dict[Any, Any]) -> Any:
    if isinstance(kind, TypeVar):
        return bound.get(kind, kind)
    variables = _variables(kind)
    return kind[tuple(bound.get(each, each) for each in variables)] if variables else kind


def _closed(kind: Any, bound: dict[Any, Any], place: str) -> Any:
    """Return *kind* without type variables: as *bound*, or else what they are declared to be at most."""
    kind = _replaced(kind, bound)
    limits = {each: getattr(each, "__bound__", None) for each in _variables(kind)}
    for variable, limit in limits.items():
        if limit is None:
            where = "the result" if place == "return" else f"the parameter {place!r}"
            raise TypeError(f"nothing says what {variable} is in {where}; bind it, as in Base[int]")
    return _replaced(kind, limits)
