"""A typed view of a plugin: the methods of an interface, each a checked call."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from .errors import ArgumentError, UnknownMethod


class Caller(Protocol):
    """What a proxy needs of a host."""

    async def call(self, method: str, *arguments: Any, returns: Any = ..., timeout: float | None = None) -> Any:
        """Call *method* of the plugin."""
        ...


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
        """Return the arguments in order; `ArgumentError` if they do not fit the interface."""
        if keywords or len(arguments) != len(self.kinds):  # inspect binds slowly, and most calls are plain
            try:
                bound = self.signature.bind(*arguments, **keywords)
            except TypeError as error:
                raise ArgumentError(f"could not call {self.name}: {error}") from None
            arguments = (*bound.args, *bound.kwargs.values())
        for (name, kind), value in zip(self.kinds.items(), arguments, strict=False):
            self._check(name, kind, value)
        return arguments

    def _check(self, name: str, kind: Any, value: Any) -> None:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise ArgumentError(f"could not call {self.name}: argument {name!r}: {error}") from None


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


class Proxy:
    """The methods of an interface as calls of one child."""

    def __init__(self, caller: Caller, interface: type) -> None:
        self._caller = caller
        self._interface = interface
        self._signatures = signatures(interface)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        signature = self._signatures.get(name)
        if signature is None:
            raise UnknownMethod(f"{self._interface.__name__} has no method {name!r}")

        async def call(*arguments: Any, **keywords: Any) -> Any:
            return await self._caller.call(name, *signature.bind(arguments, keywords), returns=signature.returns)

        self.__dict__[name] = call
        return call
