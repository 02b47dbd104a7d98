"""The parameters of one method: read from its annotations, and how one value is checked against each."""

from __future__ import annotations

import enum
import inspect
import typing
from collections import abc
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from .attachments import Attached, Attaching
from .codec import Codec, codec
from .errors import ArgumentsUnfit, ValueUnfit
from .shapes import shape

_STREAMS = (
    abc.AsyncIterator,
    abc.AsyncGenerator,
    abc.AsyncIterable,
    abc.Iterator,
    abc.Generator,
    abc.Iterable,
)
_IN_MSGPACK = (bytes, bytearray, memoryview, datetime)  # else msgspec takes text for them, as JSON has it
_CHECKED_BY_CLASS = (int, str, bytes, float, bool)


class Parameter:
    """One parameter that a call fills, by position.

    ``item`` is the codec of what flows if the parameter is a stream. ``exact`` is the class whose instances need no
    further look, which most values are: asking msgspec takes as long as all the rest.
    """

    def __init__(self, parameter: inspect.Parameter, kind: Any) -> None:
        self.name = parameter.name
        self._sort = parameter.kind
        self.default = parameter.default
        streamed = stream_item(kind)
        self.item: Codec | None = None if streamed is None else codec(streamed)
        self.kind = None if self.item else kind
        self.shape = shape(self.kind)
        self.exact = _class_that_fits(self.kind)

    @property
    def is_required(self) -> bool:
        """Whether a call must give it."""
        return self.default is inspect.Parameter.empty

    def check(self, value: object) -> None:
        """Raise `ArgumentsUnfit` if *value* is not of the type.

        What flows in a stream is checked when it does, and what an adapter takes is checked by that.
        """
        if self.item is not None or self.kind is Any or self.shape.adapter is not None:
            return
        try:
            msgspec.convert(value, self.kind, builtin_types=_IN_MSGPACK)
        except msgspec.ValidationError as error:
            raise ArgumentsUnfit(f"argument {self.name!r}: {error}") from None

    def to_wire(self, value: object, attaching: Attaching | None) -> Any:
        """Return what stands in the message for *value*. `ArgumentsUnfit`."""
        try:
            return self.shape.to_wire(value, attaching)
        except ValueUnfit as error:
            raise ArgumentsUnfit(f"argument {self.name!r}: {error}") from None

    def from_wire(self, wire: Any, attached: Attached | None) -> Any:
        """Return the value of what stood in the message. `ArgumentsUnfit`."""
        try:
            return self.shape.from_wire(wire, attached)
        except ValueUnfit as error:
            raise ArgumentsUnfit(f"{error} - at argument `{self.name}`") from None

    def as_inspected(self) -> inspect.Parameter:
        """Return it as `inspect` has it, without its type."""
        return inspect.Parameter(self.name, self._sort, default=self.default)


def stream_item(kind: Any) -> Any:
    """Return the type of what *kind* yields if it is one of the iterators of `collections.abc`, else None."""
    origin = typing.get_origin(kind) or kind
    if not any(origin is stream for stream in _STREAMS):
        return None
    return next(iter(typing.get_args(kind)), Any)


def parameters_of(function: Callable[..., Any], hints: dict[str, Any]) -> tuple[Parameter, ...]:
    """Return what a call of *function* fills. `TypeError` if it could not be called by position.

    A parameter by keyword that has a default is the function's own affair: no call reaches it.
    """
    return tuple(Parameter(each, hints.get(each.name, Any)) for each in _positional(inspect.signature(function)))


def _positional(signature: inspect.Signature) -> Iterator[inspect.Parameter]:
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            yield parameter
        elif parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty:
            raise TypeError(f"it has the parameter {parameter}, which a call cannot fill; make it positional")


def _class_that_fits(kind: Any) -> type | None:
    if isinstance(kind, type) and (kind in _CHECKED_BY_CLASS or issubclass(kind, (msgspec.Struct, enum.Enum))):
        return kind
    return None
