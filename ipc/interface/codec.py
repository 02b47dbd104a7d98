"""Values of one declared type as msgpack, and back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Never, NoReturn

import msgspec

from ..errors import reason
from .attachments import Attached, Attaching
from .errors import ValueUnfit
from .shapes import UNDECODABLE, UNENCODABLE, decode_nested, decode_other, encode_nested, encode_plain, shape

MAX_UNTYPED = 64 << 10
"""Bytes of msgpack that are decoded without a declared type: a small message can hold a hundred times more objects."""


def array_length(payload: bytes | memoryview) -> int:
    """Return how many elements *payload* says that it has; -1 if it is no msgpack array."""
    first = payload[0] if payload else 0
    if first & 0xF0 == 0x90:
        return first & 0x0F
    return int.from_bytes(payload[1 : 3 if first == 0xDC else 5]) if first in (0xDC, 0xDD) else -1


class Codec:
    """How values of one type travel. *kind* is an annotation; `TypeError` if values of it cannot travel.

    Attributes:
        kind: the annotation.
        plain: no value needs an attachment.
        shares: a value has memory that is not to be copied.
    """

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self._shape = shape(kind)
        self.plain = self._shape.plain
        self.shares = self._shape.shares
        self._decode = self._decoder(self._shape.wire)
        self._decode_list: Any = None

    def encode(self, value: object, attaching: Attaching | None = None) -> bytes:
        """Return *value* as msgpack; `ValueUnfit` if it cannot be encoded."""
        try:
            if self.plain:
                return encode_plain(value)
            return self._encode(self._shape.to_wire(value, attaching), attaching)
        except UNENCODABLE as error:
            raise ValueUnfit(str(error)) from None

    def decode(self, payload: bytes | memoryview, attached: Attached | None = None) -> Any:
        """Return the value in *payload*; `ValueUnfit` if it is not of the type. Without a type it must be small."""
        if self._shape.untyped and len(payload) > MAX_UNTYPED:
            return _decode_large(payload, bytes, str)
        try:
            if self.plain:
                return self._decode(payload)
            return self._shape.from_wire(self._read(self._decode, payload, attached), attached)
        except UNDECODABLE as error:
            raise ValueUnfit(reason(error)) from None

    def encode_many(self, values: Sequence[object], attaching: Attaching | None = None) -> bytes:
        """Return *values* as one array; `ValueUnfit` if one cannot be encoded."""
        try:
            if self.plain:
                return encode_plain(values)
            return self._encode([self._shape.to_wire(value, attaching) for value in values], attaching)
        except UNENCODABLE as error:
            raise ValueUnfit(str(error)) from None

    def decode_many(self, payload: bytes | memoryview, count: int, attached: Attached | None = None) -> list[Any]:
        """Return the *count* values in *payload*; `ValueUnfit` if they are more or fewer, or one is not of the type."""
        if array_length(payload) != count:
            raise ValueUnfit(f"expected an array of {count} values")
        if self._shape.untyped and len(payload) > MAX_UNTYPED:
            return list(_decode_large(payload, list[bytes], list[str]))
        if self._decode_list is None:
            self._decode_list = self._decoder(list.__class_getitem__(self._shape.wire))  # a type known only now
        try:
            values: list[Any] = self._read(self._decode_list, payload, attached)
            return values if self.plain else [self._shape.from_wire(value, attached) for value in values]
        except UNDECODABLE as error:
            raise ValueUnfit(reason(error)) from None

    def _decoder(self, wire: Any) -> Any:
        return msgspec.msgpack.Decoder(wire, dec_hook=decode_other if self._shape.nested else None).decode

    def _encode(self, wire: object, attaching: Attaching | None) -> bytes:
        return encode_nested(wire, attaching) if self._shape.nested else encode_plain(wire)

    def _read(self, decode: Any, payload: bytes | memoryview, attached: Attached | None) -> Any:
        return decode_nested(decode, payload, attached) if self._shape.nested else decode(payload)


@lru_cache(maxsize=512)
def codec(kind: Any) -> Codec:
    """Return the codec of *kind*, always the same one. What never returns needs none, and gets that of Any."""
    return Codec(Any if kind in (NoReturn, Never) else kind)


def _decode_large(payload: bytes | memoryview, *kinds: Any) -> Any:
    """Decode a large value without a declared type as one of *kinds*, which take no more memory than on the way."""
    for kind in kinds:
        with suppress(*UNDECODABLE):
            return msgspec.msgpack.decode(payload, type=kind)
    raise ValueUnfit(f"it has {len(payload)} bytes and no declared type; use returns= or an interface")
