"""A typed view of a plugin: arguments are checked before anything is sent, results against the declared type."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any, Generic, Protocol, TypeVar, cast

import pytest

from belljar import SyncHost, notify
from belljar.host.proxy import Proxy
from belljar.ipc.errors import ArgumentError, InterfaceMismatch, ResultError, UnknownMethod
from belljar.ipc.interface import declared

from ..children.plain import Size
from ..helpers import launch

T = TypeVar("T")


class Interface(Protocol):
    """What the tests say `Plain` can do."""

    async def add(self, first: int, second: int = 2) -> int: ...

    async def swap(self, size: Size) -> Size: ...

    async def blob(self, size: int) -> bytes: ...

    async def numbers(self, size: int) -> list[int]: ...

    async def _private(self) -> None: ...


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("arguments", "keywords", "reason"),
    [
        ((), {}, "could not call 'add': missing a required argument: 'first'"),
        ((1, 2, 3), {}, "could not call 'add': too many positional arguments"),
        ((1,), {"third": 3}, "could not call 'add': got an unexpected keyword argument 'third'"),
        (("one",), {}, "could not call 'add': argument 'first': Expected `int`, got `str`"),
    ],
)
async def test_arguments_that_do_not_fit_are_not_sent(
    arguments: tuple[Any, ...], keywords: dict[str, Any], reason: str
) -> None:
    """Arguments that do not fit the interface raise ArgumentError, which names method and argument."""
    with pytest.raises(ArgumentError, match=f"^{reason}$"):
        await launch().proxy(Interface).add(*arguments, **keywords)  # there is no child yet that they could be sent to


class Lies(Protocol):
    """What the plugin is not."""

    async def text(self, size: int) -> int: ...


class More(Protocol):
    """More than the plugin has."""

    async def absent(self) -> None: ...


@pytest.mark.anyio
async def test_an_interface_that_the_plugin_does_not_fit() -> None:
    """The first difference is named when the proxy is made, or, if that was before the launch, by its first method."""
    early = (host := launch()).proxy(Lies)
    async with host:
        with pytest.raises(InterfaceMismatch, match=r"Lies\.text: the result is int in the interface and str"):
            host.proxy(Lies)
        with pytest.raises(InterfaceMismatch, match=r"More\.absent is missing in the plugin"):
            host.proxy(More)
        with pytest.raises(InterfaceMismatch):
            await early.text(1)


def test_only_public_methods_are_there() -> None:
    """A method that the interface does not have, or that is private, is UnknownMethod at once."""
    proxy = launch().proxy(Interface)
    for name in ("missing", "_private"):
        with pytest.raises(UnknownMethod, match=f"Interface has no method '{name}'; it has .*swap"):
            getattr(proxy, name)
        assert not hasattr(proxy, name)
    assert "swap" in dir(proxy)


class Shown(Generic[T]):
    """Generic, with methods of each kind."""

    def plain(self, first: T, *, second: str = "x") -> list[T]:
        """Say something."""
        raise NotImplementedError

    @notify
    def hint(self, size: Size) -> None: ...

    def count(self, limit: int) -> AsyncIterator[T]:
        raise NotImplementedError


def test_a_proxy_shows_what_was_declared() -> None:
    """Its repr names interface and host; its methods have the name, signature and text of the interface's."""
    host = launch()
    proxy = host.proxy(Shown[int])
    assert repr(proxy) == f"<Shown, the plugin of {host!r}>"
    assert repr(SyncHost(host.process).proxy(Interface)) == (
        "<Interface, the plugin of <SyncHost plain created child_pid=None>>"
    )
    assert repr(Proxy(cast(Any, host), Interface, 3, None)) == f"<Interface, object 3 of {host!r}>"
    shown = str(inspect.signature(proxy.plain)), proxy.plain.__doc__, proxy.plain.__name__, proxy.plain.__qualname__
    assert shown == ("(first: int, *, second: str = 'x') -> list[int]", "Say something.", "plain", "Shown.plain")
    assert inspect.iscoroutinefunction(proxy.plain)
    assert inspect.signature(proxy.hint).parameters["size"].annotation is Size
    assert inspect.signature(proxy.count).return_annotation == AsyncIterator[int]


def test_an_interface_without_methods_is_an_error() -> None:
    """A class without public methods cannot be an interface."""
    with pytest.raises(TypeError, match="object has no public methods to call"):
        declared(object)


@pytest.mark.anyio
async def test_a_real_child_behind_an_interface() -> None:
    """Typed arguments, by position or keyword, and results go through a sealed child, large ones too."""
    async with launch() as host:
        plain = host.proxy(Interface)
        assert await plain.add(1) == 3
        assert await plain.add(second=5, first=1) == 6
        assert await plain.swap(size=Size(1, 2)) == Size(2, 1)
        assert len(await plain.blob(300_000)) == 300_000
        assert sum(await plain.numbers(200_000)) == 200_000
        with pytest.raises(ResultError, match="the result of 'text' does not fit: Expected `int`, got `str`"):
            await host.call("text", 3, returns=int)
        with pytest.raises(TypeError, match="is no class, and so no interface"):
            host.proxy(cast(Any, object()))
        with pytest.raises(UnknownMethod, match="the plugin has no method 'absent'"):
            await host.call("absent")
        assert await plain.add(2) == 4
