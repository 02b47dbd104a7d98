"""One method as both sides see it: how its arguments bind and travel, and its result; all read from annotations.

`declared` reads an interface, `declared_by` an object that answers. An interface is a Protocol, an ABC or any class
whose public methods have annotations; ``def`` or ``async def`` makes no difference. A method that returns an iterator,
asynchronous or not, is a stream; a parameter that is one is an upload.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Any, Literal

from .arguments import Arguments
from .closed import is_closed
from .codec import Codec, codec
from .generics import bound_base, hints_of
from .markers import declared_errors, is_notify
from .parameters import parameters_of, stream_item
from .reference import is_interface
from .shapes import shape

Kind = Literal["call", "stream", "notify"]

_NO_METHODS = (type, property, cached_property)  # what a class may have beside them
_METHODS: Any = (types.FunctionType, staticmethod, classmethod)


class Declared(Arguments):
    """One method of an interface or of a plugin.

    Attributes:
        kind: ``"stream"`` if it returns an iterator, ``"notify"`` if it is marked so, else ``"call"``.
        raises: the errors that were declared with `raises`, by name.
        result: the codec of the result of a call; of None for another kind.
        item: the codec of what a stream yields, else None.
        codecs: all of these: of result, items and uploads.
        plain: nothing in it needs an attachment.
        is_simple: it is a plain call, with a result and without streams.
    """

    def __init__(self, name: str, function: Callable[..., Any], promised: Declared | None = None) -> None:
        """Read *function*, bound; *promised* is its declaration in an interface, which it need not repeat."""
        hints = hints_of(name, function)
        super().__init__(name, parameters_of(function, hints))
        self.raises: dict[str, type[Exception]] = declared_errors(function) or (promised.raises if promised else {})
        self.item = _item(function, hints.get("return", Any))
        one_way = is_notify(function) or (promised is not None and promised.kind == "notify")
        self.kind: Kind = "stream" if self.item else "notify" if one_way else "call"
        self.result = codec(hints.get("return", Any) if self.kind == "call" else None)
        self.codecs = (self.result, *filter(None, [self.item]), *self.upload.values())
        self.plain = self._plain and all(each.plain for each in self.codecs)
        self._check_lent()
        self.is_simple = self.plain and self.kind == "call" and not self.uploads

    def _check_lent(self) -> None:
        """What is passed by reference is offered as long as a call lasts: nothing else says when that ends."""
        shapes = [shape(each.kind) for each in self.codecs]
        if self.kind == "notify":
            shapes += [each.shape for each in self.parameters]
        if lent := next((each.lent for each in shapes if each.lent), None):
            raise TypeError(f"{lent.__name__} is an interface; it can be an argument of a call, and nothing else")


@lru_cache(maxsize=256)
def declared(interface: type) -> Mapping[str, Declared]:
    """Return the public methods of *interface*, which may be generic and bound, as in ``Source[int]``, by name.

    Raises:
        TypeError: it has none, or one cannot be called so; the text names the method.
    """
    if not isinstance(typing.get_origin(interface) or interface, type):
        raise TypeError(f"{interface!r} is no class, and so no interface")
    found = {name: _declare(f"{interface.__name__}.{name}", bound) for name, bound in _methods(interface)}
    if not found:
        raise TypeError(f"{interface.__name__} has no public methods to call")
    for method in found.values():
        _check_known(f"{interface.__name__}.{method.name}", method)
    return types.MappingProxyType(found)


def declared_by(plugin: object) -> dict[str, tuple[Declared, Callable[..., Any]]]:
    """Return the public methods of *plugin* by name, each with the bound function that answers.

    A method without annotations has those of the interface, Protocol or ABC, among the bases of its class.

    Raises:
        TypeError: an annotation or a parameter cannot be used for calls; the text names the method.
    """
    kind = type(plugin)
    interfaces = [bound_base(kind, base) for base in kind.__mro__[1:] if is_interface(base)]
    found: dict[str, tuple[Declared, Callable[..., Any]]] = {}
    for name in dir(kind):
        if name.startswith("_") or isinstance(inspect.getattr_static(kind, name), _NO_METHODS):
            continue
        if callable(function := getattr(plugin, name)):
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
                text = f"give the parameter {parameter.name!r} a type, all of it, such as list[int] and not list"
                raise TypeError(f"{interface.__name__}.{name}: {text}; as it is, anything fits")


def _methods(interface: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield each method, bound to the interface itself: it is never called, and so its hints are those of that."""
    kind = typing.get_origin(interface) or interface
    for name in dir(kind):
        if not name.startswith("_") and isinstance(method := inspect.getattr_static(kind, name), _METHODS):
            yield name, method.__get__(interface, kind)


def _check_known(name: str, method: Declared) -> None:
    for kind in (*(each.kind for each in method.parameters), *(each.kind for each in method.codecs)):
        unknown = shape(kind).unknown
        if unknown is not None:
            raise TypeError(f"method {name!r} cannot be called: {unknown.__name__} cannot travel without an adapter")


def _declared_so(name: str, function: Callable[..., Any], promised: Declared | None) -> Declared:
    if promised is None or getattr(function, "__annotations__", None):
        return _declare(name, function, promised)
    return promised


def _declare(name: str, function: Callable[..., Any], promised: Declared | None = None) -> Declared:
    try:
        return Declared(name.rpartition(".")[2], function, promised)
    except NameError as error:
        raise TypeError(f"the annotations of method {name!r} cannot be resolved: {error}") from error
    except (TypeError, ValueError) as error:  # the latter for a method without self
        raise TypeError(f"method {name!r} cannot be called: {error}") from error


def _item(function: Callable[..., Any], returns: Any) -> Codec | None:
    """Return the codec of what the method yields; None if it yields nothing."""
    item = stream_item(returns)
    if item is not None and inspect.iscoroutinefunction(function):
        raise TypeError("it is a coroutine that returns a stream; declare it with def, without async")
    if item is None and (inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)):
        item = Any
    return None if item is None else codec(item)
