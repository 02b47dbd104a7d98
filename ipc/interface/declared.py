"""One method as both sides see it: how its arguments bind and travel, and its result; all read from annotations.

`declared` reads an interface, `declared_by` an object that answers. An interface is a Protocol, an ABC or any class
whose public methods have annotations; ``def`` or ``async def`` makes no difference. A method that returns an iterator,
asynchronous or not, is a stream; a parameter that is one is an upload.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec

from .attachments import Attached, Attaching
from .closed import is_closed
from .codec import UNDECODABLE, UNENCODABLE, Codec, array_length, codec, encode
from .errors import ArgumentsUnfit
from .markers import declared_errors, is_notify
from .parameters import Parameter, parameters_of, stream_item

Kind = Literal["call", "stream", "notify"]

_NOBODY = object()  # what a method is bound to when only its declaration is wanted
_PLACE = re.compile(r" - at `\$\[(\d+)\](.*)`")
_PLACE_OF_MANY = re.compile(r" - at `\$\[\d+\]\[(\d+)\](.*)`")
_METHODS: Any = (types.FunctionType, staticmethod, classmethod)


class Declared:
    """One method of an interface or of a plugin.

    Attributes:
        kind: ``"stream"`` if it returns an iterator, ``"notify"`` if it is marked so, else ``"call"``.
        parameters: what a call fills, in order.
        signature: the same for texts, without types.
        uploads: the positions of parameters that are streams; ``upload`` has the codec of each.
        raises: the errors that were declared with `raises`, by name.
        result: the codec of the result of a call; of None for another kind.
        item: the codec of what a stream yields, else None.
        plain: nothing in it needs an attachment.
    """

    def __init__(self, name: str, function: Callable[..., Any], promised: Declared | None = None) -> None:
        hints = typing.get_type_hints(function, include_extras=True)
        self.name = name
        self.parameters = parameters_of(function, hints)
        self.signature = _signature(self.parameters)
        self.required = sum(parameter.is_required for parameter in self.parameters)
        self.upload = {i: each.item for i, each in enumerate(self.parameters) if each.item is not None}
        self.uploads = tuple(self.upload)
        self.raises: dict[str, type[Exception]] = declared_errors(function) or (promised.raises if promised else {})
        self.item = _item(function, hints.get("return", Any))
        self.kind: Kind = "stream" if self.item else "notify" if is_notify(function) else "call"
        self.result = codec(hints.get("return", Any) if self.kind == "call" else None)
        if promised is not None and promised.kind == "notify" and not self.item:
            self.kind = "notify"
        self.plain = True
        self._wire = tuple(None if each.item else each.kind for each in self.parameters)
        self._decoders = {0x90 | len(self._wire): self._decoder(len(self._wire))}  # a bad annotation is an error now
        self._many: dict[int, Callable[[bytes | memoryview], list[tuple[Any, ...]]]] = {}

    def bind(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, ...]:
        """Return the arguments in order; `ArgumentsUnfit` if they do not fit. What an upload yields is checked later.

        What the caller left out at the end stays out: its default is the receiver's affair.
        """
        if keywords or len(arguments) != len(self.parameters):  # inspect binds slowly, and most calls are plain
            arguments = self._arranged(arguments, keywords)
        for parameter, value in zip(self.parameters, arguments, strict=False):
            if type(value) is not parameter.exact:
                parameter.check(value)
        return arguments

    def _arranged(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, ...]:
        try:
            given = self.signature.bind(*arguments, **keywords).arguments
        except TypeError as error:
            raise ArgumentsUnfit(str(error)) from None
        last = max((i for i, each in enumerate(self.parameters) if each.name in given), default=-1)
        arranged = tuple(given.get(each.name, each.default) for each in self.parameters[: last + 1])
        for parameter, value in zip(self.parameters, arranged, strict=False):
            if value is ... and parameter.name not in given:
                raise ArgumentsUnfit(
                    f"argument {parameter.name!r}: give it too, the interface does not say its default"
                )
        return arranged

    def encode_arguments(self, bound: tuple[Any, ...], attaching: Attaching | None = None) -> bytes:
        """Return what `bind` returned as msgpack, uploads as None; `ArgumentsUnfit` if it cannot be encoded."""
        if self.uploads:
            bound = tuple(None if i in self.upload else value for i, value in enumerate(bound))
        try:
            return encode(bound)
        except UNENCODABLE as error:
            raise ArgumentsUnfit(str(error)) from None

    def decode_arguments(self, payload: bytes | memoryview, attached: Attached | None = None) -> tuple[Any, ...]:
        """Return the arguments in *payload*, uploads as None; `ArgumentsUnfit` if they do not fit the method."""
        decode = self._decoders.get(payload[0] if payload else 0) or self._decoder_for(payload)
        try:
            return decode(payload)
        except UNDECODABLE as error:
            raise ArgumentsUnfit(self._explain(str(error), _PLACE)) from None

    def encode_many(self, calls: Sequence[tuple[Any, ...]], attaching: Attaching | None = None) -> bytes:
        """Return the arguments of several calls, all with as many, as one array of arrays.

        `ArgumentsUnfit` if the methods has uploads, or if the arguments cannot be encoded.
        """
        if self.uploads or len(set(map(len, calls))) > 1:
            raise ArgumentsUnfit("calls that go together have equally many arguments, and none of them is a stream")
        try:
            return encode(calls)
        except UNENCODABLE as error:
            raise ArgumentsUnfit(str(error)) from None

    def decode_many(self, payload: bytes | memoryview, attached: Attached | None = None) -> list[tuple[Any, ...]]:
        """Return the arguments of several calls, each with as many as the first; `ArgumentsUnfit` otherwise."""
        begin = {0xDC: 3, 0xDD: 5}.get(payload[0] if payload else 0, 1)
        count = array_length(payload[begin : begin + 5])
        decode = self._many.get(count) or self._many.setdefault(count, self._decoder(count, list))
        try:
            return decode(payload)
        except UNDECODABLE as error:
            raise ArgumentsUnfit(self._explain(str(error), _PLACE_OF_MANY)) from None

    def _decoder_for(self, payload: bytes | memoryview) -> Any:
        count = array_length(payload)
        return self._decoders.setdefault(0x90 | count, self._decoder(count))

    def _decoder(self, count: int, several: Any = None) -> Any:
        if not self.required <= count <= len(self.parameters):
            raise ArgumentsUnfit(f"{count} arguments do not fit {self.name}{self.signature}")
        kinds: Any = tuple.__class_getitem__(self._wire[:count])  # tuple[A, B], of types that are known only now
        return msgspec.msgpack.Decoder(kinds if several is None else several[kinds]).decode

    def _explain(self, text: str, place: re.Pattern[str]) -> str:
        """Name the parameter instead of its index: ``$[1]`` becomes ``size``."""
        found = place.search(text)
        if found is None or int(found[1]) >= len(self.parameters):
            return f"{text} ({self.name}{self.signature})"
        return f"{text[: found.start()]} - at argument `{self.parameters[int(found[1])].name}{found[2]}`"


@lru_cache(maxsize=256)
def declared(interface: type) -> Mapping[str, Declared]:
    """Return the public methods of *interface* by name.

    Raises:
        TypeError: it has none, or one cannot be called so; the text names the method.
    """
    found = {name: _declare(f"{interface.__name__}.{name}", bound) for name, bound in _methods(interface)}
    if not found:
        raise TypeError(f"{interface.__name__} has no public methods to call")
    return types.MappingProxyType(found)


def declared_by(plugin: object) -> dict[str, tuple[Declared, Callable[..., Any]]]:
    """Return the public methods of *plugin* by name, each with the bound function that answers.

    A method without annotations has those of the interface, Protocol or ABC, among the bases of its class.

    Raises:
        TypeError: an annotation or a parameter cannot be used for calls; the text names the method.
    """
    interfaces = [base for base in type(plugin).__mro__[1:] if is_interface(base)]
    found: dict[str, tuple[Declared, Callable[..., Any]]] = {}
    for name in dir(type(plugin)):
        if not name.startswith("_") and callable(function := getattr(plugin, name)):
            promised = next((declared(each).get(name) for each in interfaces if hasattr(each, name)), None)
            found[name] = (_declared_so(name, function, promised), function)
    return found


def check_closed(interface: type) -> None:
    """Raise `TypeError` unless every parameter of *interface* has a type, all of it.

    Of a hostile caller, such as a child that asks for a service, a method would else take anything.
    """
    for name, method in declared(interface).items():
        for parameter in method.parameters:
            if not is_closed(parameter.item.kind if parameter.item else parameter.kind):
                text = "give the parameter {!r} a type, all of it: as it is, anything fits"
                raise TypeError(f"{interface.__name__}.{name}: {text.format(parameter.name)}")


def is_interface(kind: Any) -> bool:
    """Whether *kind* is a Protocol or an abstract class."""
    return isinstance(kind, type) and (bool(kind.__dict__.get("_is_protocol")) or inspect.isabstract(kind))


def _methods(interface: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in dir(interface):
        method = inspect.getattr_static(interface, name)
        if not name.startswith("_") and isinstance(method, _METHODS):
            yield name, method.__get__(_NOBODY, interface)


def _declared_so(name: str, function: Callable[..., Any], promised: Declared | None) -> Declared:
    if promised is None or getattr(function, "__annotations__", None):
        return _declare(name, function, promised)
    return promised


def _declare(name: str, function: Callable[..., Any], promised: Declared | None = None) -> Declared:
    try:
        return Declared(name.rpartition(".")[2], function, promised)
    except NameError as error:
        raise TypeError(f"the annotations of method {name!r} cannot be resolved: {error}") from error
    except TypeError as error:
        raise TypeError(f"method {name!r} cannot be called: {error}") from error


def _signature(parameters: tuple[Parameter, ...]) -> inspect.Signature:
    return inspect.Signature(
        [inspect.Parameter(each.name, each.sort, default=each.default, annotation=Any) for each in parameters]
    )


def _item(function: Callable[..., Any], returns: Any) -> Codec | None:
    """Return the codec of what the method yields; None if it yields nothing."""
    item = stream_item(returns)
    if item is not None and inspect.iscoroutinefunction(function):
        raise TypeError("it is a coroutine that returns a stream; declare it with def, without async")
    if item is None and (inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)):
        item = Any
    return None if item is None else codec(item)
