"""A typed view of a plugin, or of an object that it passed: the methods of an interface, each a checked call."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Protocol, cast

from ..ipc.errors import ArgumentError, UnknownMethod
from ..ipc.interface import ArgumentsUnfit, Declared, declared
from ..ipc.interface.generics import hints_of
from ..ipc.peer.asynchronous import AsyncPeer


class Checker(Protocol):
    """What knows the plugin; its repr is that of the host."""

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

    def __repr__(self) -> str:
        what = f"object {self._target}" if self._target else "the plugin"
        return f"<{self._interface.__name__}, {what} of {self._checker!r}>"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = self._methods.get(name)
        if method is None:
            raise no_method(self._interface, name)
        if self._target == 0:
            self._checker.check(self._interface)
        made = self.__dict__[name] = _described(self._make(method), self._interface, name)
        return made


def _described(made: Any, interface: type, name: str) -> Callable[..., Any]:
    """Give the function *made* the name, signature and text of the method, for `help`; a call takes no longer."""
    made.__name__, made.__qualname__ = name, f"{interface.__name__}.{name}"
    made.__signature__, made.__doc__ = _signature(interface, name)
    return cast("Callable[..., Any]", made)


@lru_cache(maxsize=256)
def _signature(interface: type, name: str) -> tuple[inspect.Signature, str | None]:
    """Return signature, without ``self`` and with types instead of their names, and text of a method as declared."""
    kind = typing.get_origin(interface) or interface
    function = inspect.getattr_static(kind, name).__get__(interface, kind)
    hints = hints_of(name, function)
    signature = inspect.signature(function)
    parameters = [each.replace(annotation=hints.get(each.name, each.empty)) for each in signature.parameters.values()]
    returned = hints.get("return", signature.empty)
    return signature.replace(parameters=parameters, return_annotation=returned), function.__doc__


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
