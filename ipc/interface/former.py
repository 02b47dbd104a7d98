"""What host/ and child/ use until they have moved to `declared`: calls by their types, from annotations.

`Signature` is a method as its caller sees it, in an interface; `Method` is one as its receiver has it, an object.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from .errors import ArgumentsUnfit


class Signature:
    """One method of an interface: how its arguments bind, and the types of arguments and result."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        hints = typing.get_type_hints(function, include_extras=True)
        parameters = list(inspect.signature(function).parameters.values())[1:]
        self.name = name
        self.signature = inspect.Signature([parameter.replace(annotation=Any) for parameter in parameters])
        self.kinds = {parameter.name: hints.get(parameter.name, Any) for parameter in parameters}
        self.returns = hints.get("return", Any)

    def bind(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, ...]:
        """Return the arguments in order; `ArgumentsUnfit` if they do not fit the interface."""
        if keywords or len(arguments) != len(self.kinds):  # inspect binds slowly, and most calls are plain
            try:
                bound = self.signature.bind(*arguments, **keywords)
            except TypeError as error:
                raise ArgumentsUnfit(str(error)) from None
            arguments = (*bound.args, *bound.kwargs.values())
        for (name, kind), value in zip(self.kinds.items(), arguments, strict=False):
            self._check(name, kind, value)
        return arguments

    def _check(self, name: str, kind: Any, value: Any) -> None:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise ArgumentsUnfit(f"argument {name!r}: {error}") from None


@lru_cache(maxsize=256)
def signatures(interface: type) -> dict[str, Signature]:
    """Return the public methods of *interface*."""
    found = {
        name: Signature(name, function)
        for name, function in inspect.getmembers(interface, inspect.isfunction)
        if not name.startswith("_")
    }
    if not found:
        raise TypeError(f"{interface.__name__} has no public methods to call")
    return found


class Method:
    """One public method: its function, and the types that its arguments must fit.

    The types are those of *declared*, a method of an interface, else the function's own. Only the former may be
    asynchronous: a child has no event loop.
    """

    def __init__(self, name: str, function: Callable[..., object], declared: Signature | None = None) -> None:
        self.name = name
        self.function = function
        if declared is None and (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
            raise TypeError(f"method {name!r} is asynchronous; a plugin's methods are plain functions")
        self.signature = inspect.signature(function) if declared is None else declared.signature
        self.parameters = [p for p in self.signature.parameters.values() if _is_positional(name, p)]
        hints = typing.get_type_hints(function, include_extras=True) if declared is None else declared.kinds
        self.kinds = tuple(hints.get(parameter.name, Any) for parameter in self.parameters)
        self.required = sum(parameter.default is parameter.empty for parameter in self.parameters)
        self.decoders = {len(self.kinds): _decoder(self.kinds)}  # one now, so that a bad annotation fails the load

    def __call__(self, payload: bytes) -> object:
        """Call the method with the arguments in *payload*; `ArgumentsUnfit` if they do not fit."""
        count = _array_length(payload) if payload else -1
        if not self.required <= count <= len(self.kinds):
            raise ArgumentsUnfit(f"{count} arguments do not fit {self.name}{self.signature}")
        decoder = self.decoders.get(count) or self.decoders.setdefault(count, _decoder(self.kinds[:count]))
        try:
            arguments = decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ArgumentsUnfit(self._explain(str(error))) from None
        return self.function(*arguments)

    def _explain(self, text: str) -> str:
        """Name the parameter instead of its index: ``$[1]`` becomes ``size``."""
        what, _, where = text.partition(" - at `$[")
        index, _, rest = where.partition("]")
        if not index.isdigit() or int(index) >= len(self.parameters):
            return f"{what} ({self.name}{self.signature})"
        return f"{what} - at argument `{self.parameters[int(index)].name}{rest.rstrip('`')}`"


def _decoder(kinds: tuple[Any, ...]) -> msgspec.msgpack.Decoder[tuple[Any, ...]]:
    declared: Any = tuple.__class_getitem__(kinds)  # tuple[A, B], of types that are known only now
    return msgspec.msgpack.Decoder(declared)


def _array_length(payload: bytes) -> int:
    """Return how many elements the msgpack array *payload* has: fixarray holds the count in its first byte."""
    first = payload[0]
    return first & 0x0F if first & 0xF0 == 0x90 else int.from_bytes(payload[1 : 3 if first == 0xDC else 5])


def _is_positional(method: str, parameter: inspect.Parameter) -> bool:
    if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
        return True
    if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty:
        return False
    raise TypeError(f"method {method!r} has the parameter {parameter}, which a call cannot fill; make it positional")


def methods_of(plugin: object) -> dict[str, Method]:
    """Return the public methods of *plugin* by name.

    Raises:
        TypeError: an annotation or a parameter cannot be used for calls; the text names the method.
    """
    found: dict[str, Method] = {}
    for name in dir(type(plugin)):
        if name.startswith("_"):
            continue
        function = getattr(plugin, name)
        if callable(function):
            found[name] = _method(name, function)
    return found


def _method(name: str, function: Callable[..., object]) -> Method:
    try:
        return Method(name, function)
    except NameError as error:
        raise TypeError(f"the annotations of method {name!r} cannot be resolved: {error}") from error
