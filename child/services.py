"""What a plugin asks of the host: services that the application chose to offer to this child, called during a call.

    from belljar import service

    class Codec:
        def decode(self, packet: bytes) -> bytes:
            key = service(Records).read("key")

While the plugin waits for the answer, the host may call the plugin in turn; that call is answered first, within this
one. So a service can call back, and nothing waits for something that waits for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

import msgspec

from ..ipc.datagram import Datagram
from ..ipc.errors import PeerProtocolError
from ..ipc.interface import ArgumentsUnfit, Signature, signatures
from ..ipc.messages import MAX_INLINE, Call, ServiceCall, ServiceFailed, ServiceReply
from ..ipc.payload import make_sealed, read_sealed
from .link import Link

T = TypeVar("T")


class ServiceError(Exception):
    """A service gave no answer: it is not offered, was called wrongly or at the wrong time, refused, or failed."""


class Answerer(Protocol):
    """What answers the calls that come while a service is awaited."""

    def answer(self, call: Call, received: Datagram) -> None:
        """Answer *call*, within another one."""
        ...


class Services:
    """The services that the host offers to this child, and the one conversation over which they answer."""

    def __init__(self, link: Link, offered: tuple[str, ...], max_payload: int) -> None:
        self.link = link
        self.offered = offered
        self.max_payload = max_payload
        self.answerer: Answerer | None = None
        self.thread = threading.get_ident()
        self._last_id = 0

    def call(self, service: str, signature: Signature, arguments: tuple[Any, ...]) -> Any:
        """Ask the host and wait for its answer. Raises `ServiceError`."""
        if self.answerer is None or threading.get_ident() != self.thread:
            raise ServiceError(
                f"{service}.{signature.name} can be called during a call only, by the thread that runs it"
            )
        payload = msgspec.msgpack.encode(arguments)
        if len(payload) > self.max_payload:
            raise ServiceError(
                f"the arguments of {service}.{signature.name} have {len(payload)} bytes, "
                f"more than max_payload = {self.max_payload}"
            )
        self._last_id += 1
        call_id = self._last_id
        self._send(call_id, service, signature.name, payload)
        answer = self._await(call_id)
        try:
            return msgspec.msgpack.decode(answer, type=signature.returns)
        except msgspec.ValidationError as error:
            raise ServiceError(f"the answer of {service}.{signature.name} does not fit: {error}") from None

    def _send(self, call_id: int, service: str, method: str, payload: bytes) -> None:
        if len(payload) <= MAX_INLINE:
            self.link.send(ServiceCall(call_id, service, method, payload))
            return
        fd = make_sealed(payload)
        try:
            self.link.send(ServiceCall(call_id, service, method, None), [fd])
        finally:
            os.close(fd)

    def _await(self, call_id: int) -> bytes:
        """Return the answer's payload; calls that come before it are answered first."""
        while True:
            message, received = self.link.receive()
            if isinstance(message, Call) and self.answerer is not None:
                self.answerer.answer(message, received)
            elif isinstance(message, ServiceReply) and message.call_id == call_id:
                if message.payload is not None:
                    return message.payload
                return read_sealed(received.take_fd(), self.max_payload)
            elif isinstance(message, ServiceFailed) and message.call_id == call_id:
                raise ServiceError(message.text)
            else:
                raise PeerProtocolError(f"the host sent {type(message).__name__} instead of a service's answer")


_services: Services | None = None


def offer(services: Services) -> None:
    """Make *services* those of this child."""
    global _services  # noqa: PLW0603 - one host a child
    _services = services


def service(interface: type[T]) -> T:
    """Return the host's service *interface*: an object with its methods. Call it in a plugin.

    Raises:
        ServiceError: the application does not offer it to this child.
    """
    offered = _services.offered if _services is not None else ()
    if _services is None or interface.__name__ not in offered:
        names = ", ".join(offered) or "no service"
        raise ServiceError(f"the host does not offer {interface.__name__} to this child; it offers {names}")
    return cast(T, ServiceProxy(_services, interface))


class ServiceProxy:
    """The methods of one service as calls to the host."""

    def __init__(self, services: Services, interface: type) -> None:
        self._services = services
        self._interface = interface.__name__
        self._signatures = signatures(interface)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        signature = self._signatures.get(name)
        if signature is None:
            raise AttributeError(f"{self._interface} has no method {name!r}")

        def call(*arguments: Any, **keywords: Any) -> Any:
            try:
                bound = signature.bind(arguments, keywords)
            except ArgumentsUnfit as error:
                raise ServiceError(f"could not call {self._interface}.{name}: {error}") from None
            return self._services.call(self._interface, signature, bound)

        self.__dict__[name] = call
        return call
