"""A typed view of a plugin, or of an object that it passed: the methods of an interface, each a checked call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ..ipc.errors import ArgumentError, UnknownMethod
from ..ipc.interface import ArgumentsUnfit, Declared, declared
from ..ipc.peer.asynchronous import AsyncPeer


class Checker(Protocol):
    """What knows the plugin."""

    def check(self, interface: type) -> None:
        """Raise `InterfaceMismatch` if the plugin does not fit *interface*, as far as it is known by now."""
        ...


class Caller(Checker, Protocol):
    """What a proxy needs of a host."""

    def ready_peer(self, method: str) -> AsyncPeer:
        """Return the peer to call through. `BelljarError` if there is none now."""
        ...


def no_method(interface: type, name: str) -> UnknownMethod:
    """Return the error that *interface* has no method *name*."""
    return UnknownMethod(f"{interface.__name__} has no method {name!r}; it has {', '.join(declared(interface))}")


class Methods:
    """The methods of *interface* as attributes, each made by *make* when it is first asked for.

    *target* is what of the child they call: 0 is the plugin, which must fit the interface.
    """

    def __init__(
        self, checker: Checker, interface: type, target: int, make: Callable[[Declared], Callable[..., Any]]
    ) -> None:
        self._checker = checker
        self._interface = interface
        self._target = target
        self._make = make
        self._methods = declared(interface)

    def __dir__(self) -> Iterable[str]:
        return list(self._methods)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = self._methods.get(name)
        if method is None:
            raise no_method(self._interface, name)
        if self._target == 0:
            self._checker.check(self._interface)
        made = self.__dict__[name] = self._make(method)
        return made


class Proxy(Methods):
    """The methods of *interface* as calls of *target* of one child; *timeout* in seconds for each call."""

    def __init__(self, caller: Caller, interface: type, target: int, timeout: float | None) -> None:
        super().__init__(
            caller, interface, target, lambda method: _MAKERS[method.kind](caller, method, target, timeout)
        )


def _call(caller: Caller, method: Declared, target: int, timeout: float | None) -> Callable[..., Any]:
    async def call(*arguments: Any, **keywords: Any) -> Any:
        bound = bind(method, arguments, keywords)
        return await caller.ready_peer(method.name).call(target, method, bound, timeout)

    return call


def _stream(caller: Caller, method: Declared, target: int, timeout: float | None) -> Callable[..., Any]:
    def stream(*arguments: Any, **keywords: Any) -> Any:
        bound = bind(method, arguments, keywords)
        return caller.ready_peer(method.name).stream(target, method, bound, timeout)

    return stream


def _notify(caller: Caller, method: Declared, target: int, timeout: float | None) -> Callable[..., Any]:
    async def notify(*arguments: Any, **keywords: Any) -> None:
        bound = bind(method, arguments, keywords)
        await caller.ready_peer(method.name).notify(target, method, bound, timeout)

    return notify


_MAKERS = {"call": _call, "stream": _stream, "notify": _notify}


def bind(method: Declared, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, ...]:
    """Return the arguments in order; `ArgumentError` if they do not fit the interface."""
    try:
        return method.bind(arguments, keywords)
    except ArgumentsUnfit as error:
        raise ArgumentError(f"could not call {method.name!r}: {error}") from None
