"""The plugin's methods as calls: arguments checked against annotations, results encoded, errors as text."""

from __future__ import annotations

import inspect
import os
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from ..ipc.datagram import Datagram
from ..ipc.messages import MAX_INLINE, Call, CallFailed, Reply, Shutdown, shorten
from ..ipc.payload import make_sealed, read_sealed
from .errors_as_text import describe
from .link import Link
from .refused import RefusedImports


class Method:
    """One public method: its function, and the types that its arguments must fit."""

    def __init__(self, name: str, function: Callable[..., object]) -> None:
        self.name = name
        self.function = function
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"method {name!r} is asynchronous; a plugin's methods are plain functions")
        self.signature = inspect.signature(function)
        self.parameters = [p for p in self.signature.parameters.values() if _is_positional(name, p)]
        hints = typing.get_type_hints(function, include_extras=True)
        self.kinds = tuple(hints.get(parameter.name, Any) for parameter in self.parameters)
        self.required = sum(parameter.default is parameter.empty for parameter in self.parameters)
        self.decoders = {len(self.kinds): _decoder(self.kinds)}  # one now, so that a bad annotation fails the load

    def __call__(self, payload: bytes) -> object:
        """Call the method with the arguments in *payload*; `ArgumentsUnfit` if they do not fit."""
        count = _array_length(payload)
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


class ArgumentsUnfit(Exception):
    """The arguments of a call do not fit the method."""


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


class Dispatcher:
    """Answers calls one after the other until the host says shutdown or is gone."""

    def __init__(self, link: Link, methods: dict[str, Method], refused: RefusedImports, max_payload: int) -> None:
        self.link = link
        self.methods = methods
        self.refused = refused
        self.max_payload = max_payload
        self.encoder = msgspec.msgpack.Encoder()

    def run(self) -> None:
        """Serve. Raises `HostGone` at end of file."""
        while True:
            message, received = self.link.receive()
            if isinstance(message, Call):
                self._answer(message, received)
            elif isinstance(message, Shutdown):
                return

    def _answer(self, call: Call, received: Datagram) -> None:
        try:
            method = self.methods.get(call.method)
            if method is None:
                self._fail(call, "unknown-method", "", f"it has {', '.join(self.methods) or 'no public methods'}")
                return
            result = self._call(method, call, received)
        except ArgumentsUnfit as error:
            self._fail(call, "argument", "", str(error))
        except BaseException as error:  # noqa: BLE001 - the edge of foreign code: whatever it raises is its answer
            self._fail_with(call, error)
        else:
            self._reply(call, result)
        finally:
            received.close()

    def _call(self, method: Method, call: Call, received: Datagram) -> object:
        if call.payload is not None:
            return method(call.payload)
        return method(read_sealed(received.take_fd(), self.max_payload))

    def _reply(self, call: Call, result: object) -> None:
        try:
            payload = self.encoder.encode(result)
        except (TypeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
            self._fail(call, "result", type(error).__name__, str(error))
            return
        if len(payload) > self.max_payload:
            self._fail(call, "result", "", f"it has {len(payload)} bytes, more than max_payload = {self.max_payload}")
        elif len(payload) <= MAX_INLINE:
            self._send(Reply(call.call_id, payload, self.refused.take()))
        else:
            self._send_large(call, payload)

    def _send_large(self, call: Call, payload: bytes) -> None:
        try:
            fd = make_sealed(payload)
        except OSError as error:
            self._fail(
                call, "result", type(error).__name__, f"could not make a payload of {len(payload)} bytes: {error}"
            )
            return
        try:
            self._send(Reply(call.call_id, None, self.refused.take()), [fd])
        except OSError as error:  # ETOOMANYREFS: this user has too many fds on their way
            self._fail(call, "result", type(error).__name__, f"could not send {len(payload)} bytes: {error}")
        finally:
            os.close(fd)

    def _send(self, message: Reply, fds: typing.Sequence[int] = ()) -> None:
        if len(message.payload or b"") + sum(map(len, message.refused)) > MAX_INLINE:
            message = msgspec.structs.replace(message, refused=())
        self.link.send(message, fds)

    def _fail(self, call: Call, kind: Any, error: str, text: str, trace: str = "") -> None:
        refused = self.refused.take()
        self.link.send(
            CallFailed(call.call_id, kind, shorten(error, 256), shorten(text, 4096), shorten(trace, 8192), refused)
        )

    def _fail_with(self, call: Call, error: BaseException) -> None:
        text, trace = describe(error, own_frames=3, without_files=self.refused.is_watching)
        self._fail(call, "exception", type(error).__name__, text, trace)
