"""A typed view of a plugin: the methods of an interface, each a checked call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ..ipc.interface import ArgumentsUnfit, signatures
from .errors import ArgumentError, UnknownMethod


class Caller(Protocol):
    """What a proxy needs of a host."""

    async def call(self, method: str, *arguments: Any, returns: Any = ..., timeout: float | None = None) -> Any:
        """Call *method* of the plugin."""
        ...


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
            try:
                bound = signature.bind(arguments, keywords)
            except ArgumentsUnfit as error:
                raise ArgumentError(f"could not call {name}: {error}") from None
            return await self._caller.call(name, *bound, returns=signature.returns)

        self.__dict__[name] = call
        return call
