"""Services: what the host answers when a plugin asks during a call, and nothing else.

    class Records(Protocol):
        def read(self, name: str) -> bytes: ...

    async with ProcessHost(process, services={Records: FolderOfRecords(path)}) as host:
        ...

An application offers interfaces with objects behind them, child by child. What a child asks is hostile: the name must
be one that was offered, the arguments must fit the interface, which must give each a type, and the child waits for one
answer at a time. What the object raises is the host's own affair: the child learns only that it failed, but for
`ServiceRefused`, whose text is meant for it. An object's methods may be plain or ``async``, and may call the plugin.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
import msgspec.inspect as inspect_types

from ..ipc.errors import BelljarError
from ..ipc.interface import ArgumentsUnfit, Method, signatures
from ..ipc.messages import ServiceFailed, shorten

log = logging.getLogger("belljar.host")

MAX_LOGGED = 100
"""Failures of services that are logged for one child, which can have as many as it likes."""

_encoder = msgspec.msgpack.Encoder()


class ServiceRefused(BelljarError):
    """Raise it in a service to say no; the plugin gets the text."""


class Services:
    """What one host offers to its child: interfaces, each with the object that answers."""

    def __init__(self, offered: Mapping[type, object], max_payload: int) -> None:
        self.max_payload = max_payload
        self._failures = 0
        self._methods = {interface.__name__: _methods(interface, behind) for interface, behind in offered.items()}
        if len(self._methods) < len(offered):
            raise TypeError("two interfaces of one name cannot be told apart; rename one")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the interfaces."""
        return tuple(self._methods)

    async def answer(self, call_id: int, service: str, method: str, payload: bytes) -> bytes | ServiceFailed:
        """Return the encoded answer of one call, or how it failed. Runs in the task whose call the plugin works on."""
        found = self._methods.get(service, {}).get(method)
        if found is None:
            return _failed(call_id, "not-offered", f"the host does not offer {service}.{method}")
        try:
            result = found(payload)
            if inspect.isawaitable(result):
                result = await result
            return self._encoded(call_id, f"{service}.{method}", result)
        except ArgumentsUnfit as error:
            return _failed(call_id, "argument", str(error))
        except ServiceRefused as error:
            return _failed(call_id, "refused", str(error))
        except Exception:  # noqa: BLE001 - the edge of the application's code: the child must get an answer
            self._log(service, method)
            return _failed(call_id, "failed", f"{service}.{method} failed in the host")

    def _log(self, service: str, method: str) -> None:
        """Log the error that is handled now, unless there were too many: each has a traceback."""
        self._failures += 1
        if self._failures <= MAX_LOGGED:
            log.exception("the service %s.%s failed", service, method)
        elif self._failures == MAX_LOGGED + 1:
            log.error("services failed too often for one child; what else fails is not logged")

    def _encoded(self, call_id: int, name: str, result: object) -> bytes | ServiceFailed:
        payload = _encoder.encode(result)
        if len(payload) <= self.max_payload:
            return payload
        return _failed(call_id, "result", f"the answer of {name} has {len(payload)} bytes, more than max_payload")


def _failed(call_id: int, kind: Any, text: str) -> ServiceFailed:
    return ServiceFailed(call_id, kind, shorten(text, 4096))


def _methods(interface: type, behind: object) -> dict[str, Method]:
    """Return the methods of *behind* that *interface* declares, each with the types of the interface.

    Raises:
        TypeError: one is missing, or a parameter has no type, or no whole one, so that anything would be taken from a
            child.
    """
    found: dict[str, Method] = {}
    for name, signature in signatures(interface).items():
        function = getattr(behind, name, None)
        if not callable(function):
            raise TypeError(f"{type(behind).__name__} has no method {name!r}, which {interface.__name__} declares")
        found[name] = Method(name, function, declared=signature)
        for parameter, kind in signature.kinds.items():
            if _takes_anything(inspect_types.type_info(kind), set()):
                text = "give the parameter {!r} a type, all of it: as it is, anything fits"
                raise TypeError(f"{interface.__name__}.{name}: {text.format(parameter)}")
    return found


def _takes_anything(kind: object, seen: set[int]) -> bool:
    """Whether what msgspec says of a type leaves a place in it open, such as the items of a plain ``list``.

    A class that msgspec does not know fits its own instances: those of ``object`` are all that a message can hold.
    """
    if isinstance(kind, (inspect_types.AnyType, inspect_types.CustomType)):
        return True
    if isinstance(kind, tuple):
        return any(_takes_anything(each, seen) for each in kind)
    if not isinstance(kind, msgspec.Struct) or id(kind) in seen:
        return False
    seen.add(id(kind))  # a type may contain itself
    return any(_takes_anything(getattr(kind, name), seen) for name in kind.__struct_fields__)
