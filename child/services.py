"""What a plugin asks of the host: services that the application chose to offer to this child.

    from belljar import service

    class Codec:
        def decode(self, packet: bytes) -> bytes:
            key = service(Records).read("key")

In a child with an event loop (the step ``asyncio``) services are awaited, ``await service(Records).read("key")``, and
their streams are read with ``async for``: an interface declares them so.

While a call waits for the answer, the host may call the plugin in turn; that call is answered first, within this one.
So a service can call back, and nothing waits for something that waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast

from ..ipc.errors import CallError, ServiceError
from ..ipc.interface import ArgumentsUnfit, Declared, ValueUnfit, declared
from ..ipc.interface.compare import Sides
from ..ipc.interface.fitting import misfit

T = TypeVar("T")

_SIDES = Sides("the child", "the host")


class Asking(Protocol):
    """A peer as a plugin needs it."""

    def ask(self, target: int, method: Declared, arguments: tuple[Any, ...]) -> Any:
        """Call *method* of the host's *target*; return what comes of it, to be awaited if the peer has a loop."""
        ...

    def checkpoint(self) -> None:
        """See `checkpoint`."""
        ...


class Services:
    """The services that the host offers to this child, by name; there is a *peer* once the plugin is loaded."""

    def __init__(self, offered: tuple[str, ...], descriptions: tuple[bytes, ...] = ()) -> None:
        self.offered = offered
        self.descriptions = descriptions
        self.peer: Asking | None = None

    def proxy(self, interface: type, number: int) -> ServiceProxy:
        """Return an object whose methods are calls of the host's target *number*."""
        return ServiceProxy(self, interface, number)

    def call(self, target: int, interface: str, method: Declared, arguments: tuple[Any, ...]) -> Any:
        """Ask the host, and wait for its answer if there will be one; on a loop, return what to await.

        Raises:
            ServiceError: there is no answer. On a loop, it may be raised by what is awaited.
        """
        where = f"{interface}.{method.name}"
        if self.peer is None:
            raise ServiceError(f"{where} can be called once the plugin is loaded, and not before")
        try:
            return self.peer.ask(target, method, arguments)
        except CallError as error:
            raise ServiceError(str(error)) from None
        except ArgumentsUnfit as error:
            raise ServiceError(f"could not call {where}: {error}") from None
        except ValueUnfit as error:
            raise ServiceError(f"the answer of {where} does not fit: {error}") from None


_services: Services | None = None
_services_here: ContextVar[Services | None] = ContextVar("_services_here", default=None)


def offer(services: Services) -> None:
    """Make *services* those of this child."""
    global _services  # noqa: PLW0603 - one host a child
    _services = services


def offer_here(services: Services) -> None:
    """Make *services* those of this thread, in a process with children that are threads (`in_memory`)."""
    _services_here.set(services)


def _offered() -> Services | None:
    return _services_here.get() or _services


def service(interface: Callable[..., T]) -> T:
    """Return the host's service, the class *interface*: an object with its methods. Call them in a plugin.

    Any thread may. (It is not ``type[T]``, of which mypy would take no Protocol and no abstract class.)

    With the step ``asyncio`` they are awaited, in the loop; from another thread, by `asyncio.run_coroutine_threadsafe`
    with the loop that ``handed("asyncio")`` returns.

    Raises:
        ServiceError: the application does not offer it to this child.
    """
    wanted = cast(type, interface)
    services = _offered()
    offered = services.offered if services is not None else ()
    if services is None or wanted.__name__ not in offered:
        names = ", ".join(offered) or "no service"
        raise ServiceError(f"the host does not offer {wanted.__name__} to this child; it offers {names}")
    number = offered.index(wanted.__name__)
    description = services.descriptions[number] if number < len(services.descriptions) else b""
    if difference := misfit(wanted, description, _SIDES):
        raise ServiceError(f"the host means another {wanted.__name__}: {difference}")
    return cast(T, services.proxy(wanted, number + 1))


def checkpoint() -> None:
    """Look around in a long computation: if the caller has given up the call that runs, this raises `Cancelled`.

    One system call. What waits anyway, for a service or an item of a stream, needs none. With the step ``asyncio`` it
    is for plain code in the loop or in `asyncio.to_thread`; asynchronous code is cancelled where it awaits something.
    """
    services = _offered()
    if services is not None and services.peer is not None:
        services.peer.checkpoint()


class ServiceProxy:
    """The methods of one service, or of an object that the host passed, as calls to the host."""

    def __init__(self, services: Services, interface: type, number: int) -> None:
        self._services = services
        self._interface = interface.__name__
        self._number = number
        self._methods = declared(interface)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = self._methods.get(name)
        if method is None:
            raise AttributeError(f"{self._interface} has no method {name!r}")
        call = _method(self._services, self._interface, self._number, method)
        self.__dict__[name] = call
        return call


def _method(services: Services, interface: str, number: int, method: Declared) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        try:
            bound = method.bind(arguments, keywords)
        except ArgumentsUnfit as error:
            raise ServiceError(f"could not call {interface}.{method.name}: {error}") from None
        return services.call(number, interface, method, bound)

    return call
