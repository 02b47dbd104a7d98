"""How values of one type travel: as msgpack alone, by an adapter, or as msgpack with adapted values within."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import msgspec
import msgspec.inspect as inspect_types

from .adapters import adapter_of, adapter_of_value, is_shared
from .attachments import NOTHING_ATTACHED, Attached, Attaching
from .errors import ValueUnfit
from .reference import decode_reference, is_interface

MAX_NESTED = 256 << 10
"""Bytes of msgpack beside the attachments, where those are within other values.

msgspec decodes what stands in such a place before it asks for the type, and a hostile message could hold a hundred
times more objects than it has bytes.
"""

# A string that is not UTF-8, nesting without end, and a set of what cannot be in one are not DecodeErrors of msgspec.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError)
UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError, MemoryError)

encode_plain = msgspec.msgpack.Encoder().encode

_attached: ContextVar[Attached] = ContextVar("attached")


class Shape:
    """The way of one type.

    Attributes:
        wire: the type of what stands in the message.
        adapter: what turns that into the value, if the value as a whole is adapted.
        nested: there may be adapted values within.
        shares: it is a `SharedBuffer`, or there may be one within.
        unknown: a class within that nothing knows how to send, or None.
        lent: the interface, if the value is passed by reference.
        untyped: all of it may be anything, however that is written.
    """

    def __init__(self, kind: Any) -> None:
        self.kind, self.is_optional = _without_none(kind)
        self.adapter = adapter_of(self.kind)
        classes = () if self.adapter else tuple(_custom_classes(info_of(kind), set()))
        self.shares = any(map(is_shared, (self.kind, *classes)))
        self.nested = any(adapter_of(each) for each in classes)
        self.unknown = next((each for each in classes if each is not object and not adapter_of(each)), None)
        self.lent = self.kind if self.adapter is not None and self.adapter.decode is decode_reference else None
        self.untyped = self.adapter is None and _is_anything(info_of(kind))
        self.wire = kind
        if self.adapter is not None:
            self.wire = self.adapter.wire | None if self.is_optional else self.adapter.wire
            self.adapter.check(self.kind)
        elif lent := next(filter(is_interface, classes), None):
            raise TypeError(f"{lent.__name__} is an interface; it can be an argument, but not a part of one")

    @property
    def plain(self) -> bool:
        """Whether msgpack is all that it takes."""
        return self.adapter is None and not self.nested

    def to_wire(self, value: Any, attaching: Attaching | None) -> Any:
        """Return what stands in the message for *value*. `ValueUnfit`."""
        if self.adapter is None or (value is None and self.is_optional):
            return value
        if attaching is None:
            raise ValueUnfit("nothing can be attached here")
        return self.adapter.encode(value, self.kind, attaching)

    def from_wire(self, value: Any, attached: Attached | None) -> Any:
        """Return the value of what stood in the message. `ValueUnfit`."""
        if self.adapter is None or value is None:
            return value
        return self.adapter.decode(value, self.kind, attached or NOTHING_ATTACHED)


@lru_cache(maxsize=512)
def shape(kind: Any) -> Shape:
    """Return the shape of *kind*, always the same one. `TypeError` if values of it cannot travel."""
    return Shape(kind)


@lru_cache(maxsize=512)
def info_of(kind: Any) -> Any:
    """Return what msgspec says of *kind*. `TypeError` if it does not support it."""
    try:
        return inspect_types.type_info(kind)
    except TypeError as error:
        if _mixes_bytes(kind):
            raise TypeError(f"{error}; within other values write Buffer, and not BufferLike") from None
        raise


def _mixes_bytes(kind: Any) -> bool:
    """Whether there is a union of a class of ours and bytes somewhere in an annotation."""
    members = typing.get_args(kind)
    is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    mixes = is_union and bytes in members and any(adapter_of(each) for each in members)
    return mixes or any(map(_mixes_bytes, members))


def encode_nested(value: object, attaching: Attaching | None) -> bytes:
    """Return *value* as msgpack, what msgspec does not know by its adapters. `ValueUnfit` if that is too much."""

    def encode_other(other: object) -> Any:
        kind, adapter = adapter_of_value(other)
        if attaching is None:
            raise ValueUnfit("nothing can be attached here")
        return adapter.encode(other, kind, attaching)

    payload = msgspec.msgpack.encode(value, enc_hook=encode_other)
    _check_size(payload)
    return payload


def decode_nested(decode: Callable[[Any], Any], payload: bytes | memoryview, attached: Attached | None) -> Any:
    """Return what *decode* makes of *payload*; its decoder has `decode_other` as its ``dec_hook``."""
    _check_size(payload)
    token = _attached.set(attached or NOTHING_ATTACHED)
    try:
        return decode(payload)
    finally:
        _attached.reset(token)


def decode_other(kind: Any, value: Any) -> Any:
    """Return the value of a class that msgspec does not know. `ValueError`, to which msgspec adds the place."""
    adapter = adapter_of(kind)
    if adapter is None:
        return value
    if type(value) is bytes and adapter.name == "buffer":
        raise ValueError(f"bytes stand where a {kind.__name__} is declared; within other values give Buffer(data)")
    try:
        return adapter.decode(msgspec.convert(value, adapter.wire), kind, _attached.get())
    except ValueUnfit as error:
        raise ValueError(str(error)) from None


def _check_size(payload: bytes | memoryview) -> None:
    if len(payload) > MAX_NESTED:
        text = (
            f"it has {len(payload)} bytes beside its attachments, more than {MAX_NESTED}; use a Buffer for large data"
        )
        raise ValueUnfit(text)


def _without_none(kind: Any) -> tuple[Any, bool]:
    """Return what is left of a union with None, and whether it was one. Of bytes or a buffer, the buffer is left."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind, False
    members = [each for each in typing.get_args(kind) if each is not types.NoneType]
    adapted = [each for each in members if adapter_of(each)]
    if len(adapted) == 1 and set(members) - {*adapted} <= {bytes, bytearray, memoryview}:
        return adapted[0], types.NoneType in typing.get_args(kind)
    return kind, False


def _custom_classes(kind: Any, seen: set[int]) -> Iterator[type]:
    """Yield the classes in what msgspec says of a type that it does not know."""
    if isinstance(kind, inspect_types.CustomType):
        yield kind.cls
    elif id(kind) not in seen:  # a type may contain itself
        seen.add(id(kind))
        for each in parts_of(kind):
            yield from _custom_classes(each, seen)


def _is_anything(kind: Any) -> bool:
    """Whether what msgspec says of a type is Any, object, or a union with one of them."""
    while isinstance(kind, inspect_types.Metadata):
        kind = kind.type
    if isinstance(kind, inspect_types.UnionType):
        return any(map(_is_anything, kind.types))
    return isinstance(kind, inspect_types.AnyType) or getattr(kind, "cls", None) is object


def parts_of(kind: Any) -> Iterator[Any]:
    """Yield what msgspec's description of a type, or a part of one, consists of."""
    if isinstance(kind, tuple):
        yield from kind
    elif isinstance(kind, msgspec.Struct):
        for name in kind.__struct_fields__:
            yield getattr(kind, name)
