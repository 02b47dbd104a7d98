"""The arguments of one method: how they bind, are checked, and travel."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from ..errors import reason
from .attachments import Attached, Attaching
from .codec import array_length
from .errors import ArgumentsUnfit, ValueUnfit
from .parameters import Parameter
from .shapes import UNDECODABLE, UNENCODABLE, decode_nested, decode_other, encode_nested, encode_plain

_PLACE = re.compile(r" - at `\$\[(\d+)\](.*)`")
_PLACE_OF_MANY = re.compile(r" - at `\$\[\d+\]\[(\d+)\](.*)`")
_UNDECODABLE = (*UNDECODABLE, ValueUnfit)


class Arguments:
    """The parameters of the method *name*, as both sides see them.

    Attributes:
        name: of the method.
        parameters: what a call fills, in order; the first ``required`` ones have no default.
        signature: the same for texts, without types.
        uploads: the positions of parameters that are streams; ``upload`` has the codec of each.
    """

    def __init__(self, name: str, parameters: tuple[Parameter, ...]) -> None:
        self.name = name
        self.parameters = parameters
        self.signature = inspect.Signature([each.as_inspected() for each in parameters])
        self.required = sum(each.is_required for each in parameters)
        self.upload = {i: each.item for i, each in enumerate(parameters) if each.item is not None}
        self.uploads = tuple(self.upload)
        self._plain = all(each.shape.plain for each in parameters)
        self._nested = any(each.shape.nested for each in parameters)
        # By the first byte of an array of so many, or by how many, so that most are found at a look.
        self._decoders: dict[int, Any] = {}
        self._decoders_of_many: dict[int, Any] = {}
        self._decoder(len(parameters), self._decoders)  # now, so that a bad annotation is found

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

    def uploads_of(self, arguments: Sequence[Any]) -> tuple[int, ...]:
        """Return the positions of the streams among *arguments*, which may lack the last ones."""
        return tuple(position for position in self.uploads if position < len(arguments))

    def encode_arguments(self, bound: tuple[Any, ...], attaching: Attaching | None = None) -> bytes:
        """Return what `bind` returned as msgpack, uploads as None; `ArgumentsUnfit` if it cannot be encoded."""
        if self.uploads:
            bound = tuple(None if i in self.upload else value for i, value in enumerate(bound))
        try:
            if self._plain:
                return encode_plain(bound)
            return self._encode(self._to_wire(bound, attaching), attaching)
        except UNENCODABLE as error:
            raise ArgumentsUnfit(f"{self._place_of_unencodable(bound)}{error}") from None

    def _place_of_unencodable(self, bound: tuple[Any, ...]) -> str:
        """Return which of the arguments it is that cannot be encoded, if that can be told."""
        for parameter, value in zip(self.parameters, bound, strict=False) if self._plain else ():
            try:
                encode_plain(value)
            except UNENCODABLE:
                return f"argument {parameter.name!r}: "
        return ""

    def decode_arguments(self, payload: bytes | memoryview, attached: Attached | None = None) -> tuple[Any, ...]:
        """Return the arguments in *payload*, uploads as None; `ArgumentsUnfit` if they do not fit the method."""
        decode = self._decoders.get(payload[0] if payload else 0)
        if decode is None:
            decode = self._decoder(array_length(payload), self._decoders)
        try:
            arguments: tuple[Any, ...] = decode_nested(decode, payload, attached) if self._nested else decode(payload)
            return arguments if self._plain else self._from_wire(arguments, attached)
        except _UNDECODABLE as error:
            raise ArgumentsUnfit(self._explain(error, _PLACE)) from None

    def encode_many(self, calls: Sequence[tuple[Any, ...]], attaching: Attaching | None = None) -> bytes:
        """Return the arguments of several calls, all with as many, as one array of arrays.

        `ArgumentsUnfit` if the method has uploads, or if the arguments cannot be encoded.
        """
        if self.uploads or len(set(map(len, calls))) > 1:
            raise ArgumentsUnfit("calls that go together have equally many arguments, and none of them is a stream")
        try:
            if self._plain:
                return encode_plain(calls)
            return self._encode([self._to_wire(bound, attaching) for bound in calls], attaching)
        except UNENCODABLE as error:
            raise ArgumentsUnfit(str(error)) from None

    def decode_many(self, payload: bytes | memoryview, attached: Attached | None = None) -> list[tuple[Any, ...]]:
        """Return the arguments of several calls, each with as many as the first; `ArgumentsUnfit` otherwise."""
        if payload == b"\x90":
            return []
        begin = {0xDC: 3, 0xDD: 5}.get(payload[0] if payload else 0, 1)
        count = array_length(payload[begin : begin + 5])
        decode = self._decoders_of_many.get(_key(count))
        if decode is None:
            decode = self._decoder(count, self._decoders_of_many, list)
        try:
            calls: list[tuple[Any, ...]] = decode_nested(decode, payload, attached) if self._nested else decode(payload)
            return calls if self._plain else [self._from_wire(each, attached) for each in calls]
        except _UNDECODABLE as error:
            raise ArgumentsUnfit(self._explain(error, _PLACE_OF_MANY)) from None

    def _decoder(self, count: int, known: dict[int, Any], several: Any = None) -> Any:
        if count < 0:
            raise ArgumentsUnfit("the arguments of a call are an array")
        if not self.required <= count <= len(self.parameters):
            raise ArgumentsUnfit(f"{count} arguments do not fit {self.name}{self.signature}")
        wires = tuple(each.shape.wire for each in self.parameters[:count])
        kinds: Any = tuple.__class_getitem__(wires)  # tuple[A, B], of types that are known only now
        hook = decode_other if self._nested else None
        decode = msgspec.msgpack.Decoder(several[kinds] if several else kinds, dec_hook=hook).decode
        return known.setdefault(_key(count), decode)

    def _to_wire(self, bound: tuple[Any, ...], attaching: Attaching | None) -> tuple[Any, ...]:
        return tuple(each.to_wire(value, attaching) for each, value in zip(self.parameters, bound, strict=False))

    def _from_wire(self, wires: tuple[Any, ...], attached: Attached | None) -> tuple[Any, ...]:
        return tuple(each.from_wire(wire, attached) for each, wire in zip(self.parameters, wires, strict=False))

    def _encode(self, wires: object, attaching: Attaching | None) -> bytes:
        return encode_nested(wires, attaching) if self._nested else encode_plain(wires)

    def _explain(self, error: Exception, place: re.Pattern[str]) -> str:
        """Name the parameter instead of its index: ``$[1]`` becomes ``size``."""
        text = reason(error)
        found = place.search(text)
        if found is None or int(found[1]) >= len(self.parameters):
            return f"{text} ({self.name}{self.signature})"
        parameter = self.parameters[int(found[1])]
        text = f"{text[: found.start()]} - at argument `{parameter.name}{found[2]}`"
        if parameter.shape.adapter is not None and isinstance(error, msgspec.ValidationError):
            text += ", which is an attachment: call it by an interface"  # and not by name, as this caller did
        return text


def _key(count: int) -> int:
    return 0x90 | count if count < 16 else 0x100 + count
