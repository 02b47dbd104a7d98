"""What an interface or a plugin declares, as data that both sides can compare: no code, and no names to look up.

A `Description` is a table of types that refer to each other by number, so that types may contain themselves. The first
one is the interface: its fields are the methods, whose fields are the parameters. What comes from a child is hostile:
every text is short and printable, every list bounded, and a number that refers to nothing is refused by `check`.
"""

from __future__ import annotations

import typing
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any

import msgspec
import msgspec.inspect as inspect_types

from .adapters import Adapter, adapter_of
from .declared import Declared, declared
from .errors import ValueUnfit
from .reference import is_interface
from .shapes import Shape, info_of, shape

MAX_TYPES = 1024
MAX_FIELDS = 256
MAX_TEXT = 128
MAX_DESCRIPTION = 32 << 10
"""Bytes of a description. A larger one is cut to the names of the methods, whose calls are then checked one by one."""

Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT, pattern=r"\A[ -~]*\Z")]
Index = Annotated[int, msgspec.Meta(ge=0, lt=MAX_TYPES)]

_OPEN = "any"
_OPEN_WORDS = {
    "Any", "Ellipsis", "generic", "number", "integer", "signedinteger", "unsignedinteger", "inexact", "floating",
    "complexfloating", "flexible", "character",
}  # fmt: skip
"""In the annotation of an array: several dimensions or classes of elements fit, and only a call tells which come."""

_BYTES = (inspect_types.BytesType, inspect_types.ByteArrayType, inspect_types.MemoryViewType)
_ARRAYS: dict[type, str] = {
    inspect_types.ListType: "list",
    inspect_types.VarTupleType: "tuple",
    inspect_types.SetType: "set",
    inspect_types.FrozenSetType: "frozenset",
    inspect_types.CollectionType: "Collection",
}


class _Part(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The shape of every part."""


class Member(_Part, frozen=True):
    """A field, a parameter or a method: its type, whether a taker insists on it, whether a giver always has it."""

    name: Text
    type: Index
    required: bool = True
    always: bool = True


class Type(_Part, frozen=True):
    """One type: what it is on the way (``kind``), what people call it, what it is made of, and its limits by name."""

    kind: Text
    name: Text = ""
    parts: Annotated[tuple[Index, ...], msgspec.Meta(max_length=MAX_FIELDS)] = ()
    members: Annotated[tuple[Member, ...], msgspec.Meta(max_length=MAX_FIELDS)] = ()
    rules: Annotated[tuple[tuple[Text, Text], ...], msgspec.Meta(max_length=MAX_FIELDS)] = ()


class Description(_Part, frozen=True):
    """A table of types; the first is the interface."""

    types: Annotated[tuple[Type, ...], msgspec.Meta(min_length=1, max_length=MAX_TYPES)]


def describe(interface: type) -> Description:
    """Return what *interface* declares. `TypeError` as from `declared`."""
    return described(interface.__name__, declared(interface))


def described(name: str, methods: Mapping[str, Declared]) -> Description:
    """Return what *methods* are, of something called *name*: an interface, or the class of a plugin."""
    table = _Table()
    table.interface(name, methods)
    found = Description(tuple(table.types))
    if len(encoded := msgspec.msgpack.encode(found)) <= MAX_DESCRIPTION:
        with suppress(msgspec.ValidationError):  # it has more of something than there can be
            return msgspec.msgpack.decode(encoded, type=Description)
    members = tuple(Member(_text(each), 1) for each in methods)
    return Description((Type("interface", _text(name), members=members[:MAX_FIELDS]), Type(_OPEN)))


def check(description: Description) -> None:
    """Raise `ValueUnfit` if a type of *description*, which the other side sent, refers to one that is not there."""
    for each in description.types:
        if max((*each.parts, *(member.type for member in each.members)), default=0) >= len(description.types):
            raise ValueUnfit(f"a description of {len(description.types)} types refers to one that it does not have")


class _Table:
    """The types of one description, while it is made."""

    def __init__(self) -> None:
        self.types: list[Any] = []
        self._known: dict[Any, int] = {}

    def _reserve(self, key: Any) -> int:
        """Return the number of a new type, before it is known what it is made of: it may contain itself."""
        self.types.append(None)
        self._known[key] = len(self.types) - 1
        return len(self.types) - 1

    def _add(self, found: Type) -> int:
        if found not in self._known:
            self.types[self._reserve(found)] = found
        return self._known[found]

    def interface(self, name: str, methods: Mapping[str, Declared], key: object = None) -> int:
        """Add an interface, which *key* stands for, and return its number."""
        number = self._reserve(key)
        members = tuple(Member(_text(each), self._method(method)) for each, method in methods.items())
        self.types[number] = Type("interface", _text(name), members=members)
        return number

    def _method(self, method: Declared) -> int:
        members = tuple(
            Member(
                _text(each.name),
                self._stream(each.item.kind) if each.item else self._type(each.shape, each.kind),
                each.is_required,
                each.is_required,
            )
            for each in method.parameters
        )
        result = method.item or method.result
        parts = () if method.kind == "notify" else (self._type(shape(result.kind), result.kind),)
        rules = tuple(("raises", _text(each)) for each in sorted(method.raises))
        return self._add(Type(method.kind, "", parts, members, rules))

    def _stream(self, kind: Any) -> int:
        return self._add(Type("upload", "", (self._type(shape(kind), kind),)))

    def _type(self, found: Shape, kind: Any) -> int:
        if found.adapter is None:
            return self._known_to_msgspec(info_of(kind))
        number = self._adapted(found.kind, found.adapter)
        none = self._add(Type("none", "None"))
        return self._add(Type("union", "", (number, none))) if found.is_optional else number

    def _adapted(self, kind: Any, adapter: Adapter) -> int:
        origin = typing.get_origin(kind) or kind
        if is_interface(origin):
            return self._known[kind] if kind in self._known else self.interface(_name(origin), declared(kind), kind)
        if not adapter.name:
            wire = self._known_to_msgspec(info_of(adapter.wire))
            return self._add(Type("adapted", _name(origin), (wire,)))
        return self._add(Type(adapter.name, _name(origin), rules=tuple(_rules_of_annotation(kind))))

    def _known_to_msgspec(self, info: Any) -> int:
        while isinstance(info, inspect_types.Metadata):
            info = info.type
        sort: type = info.__class__
        if isinstance(info, inspect_types.CustomType):
            return self._custom(info.cls)
        if hasattr(info, "fields"):
            return self._fields(info)
        if isinstance(info, (inspect_types.EnumType, inspect_types.LiteralType)):
            return self._literal(info)
        kind = "bytes" if sort in _BYTES else "array" if sort in _ARRAYS else sort.__name__.removesuffix("Type").lower()
        parts = tuple(self._known_to_msgspec(each) for each in _parts(info))
        if kind == "union":
            return self._union(parts)
        name = "None" if kind == "none" else _ARRAYS.get(sort, "")
        return self._add(Type(kind, name, parts, rules=tuple(_limits(info))))

    def _union(self, parts: Iterable[int]) -> int:
        """Add a union; one within another is no more than its parts."""
        flat: dict[int, None] = {}
        for part in parts:
            found = self.types[part]
            flat.update(dict.fromkeys(found.parts if found is not None and found.kind == "union" else (part,)))
        return self._add(Type("union", "", tuple(flat))) if len(flat) > 1 else next(iter(flat))

    def _literal(self, info: Any) -> int:
        """Add an enumeration or a literal by its values, which are what travels; those of each type apart."""
        is_enum = isinstance(info, inspect_types.EnumType)
        values: list[Any] = [each.value for each in info.cls] if is_enum else list(info.values)
        parts = []
        for kind in (str, int):
            if texts := sorted(repr(each) for each in values if isinstance(each, kind)):
                rules = tuple(("one of", _text(each)) for each in texts)
                parts.append(self._add(Type("literal", _name(info.cls) if is_enum else "", rules=rules)))
        if None in values:
            parts.append(self._add(Type("none", "None")))
        return self._union(parts)

    def _custom(self, kind: type) -> int:
        adapter = adapter_of(kind)  # of an Fd msgspec does not say of which kind
        if adapter is not None:
            return self._adapted(kind, adapter)
        return self._add(Type(_OPEN) if kind is object else Type("unknown", _name(kind)))

    def _fields(self, info: Any) -> int:
        key = (info.__class__, info.cls)
        if key in self._known:
            return self._known[key]
        number = self._reserve(key)
        in_order = getattr(info, "array_like", False) or isinstance(info, inspect_types.NamedTupleType)
        may_omit = isinstance(info, inspect_types.TypedDictType) or _omits_defaults(info.cls)
        members = tuple(
            Member(
                _text(each.encode_name), self._known_to_msgspec(each.type), each.required, each.required or not may_omit
            )
            for each in info.fields
        )
        rules = [(name, _text(str(value))) for name in ("tag_field", "tag") if (value := getattr(info, name, None))]
        if isinstance(info, inspect_types.NamedTupleType) or getattr(info, "forbid_unknown_fields", False):
            rules.append(("no other fields", ""))
        self.types[number] = Type("row" if in_order else "struct", _name(info.cls), (), members, tuple(rules))
        return number


def _parts(info: Any) -> Iterable[Any]:
    for name in ("item_type", "key_type", "value_type"):
        if hasattr(info, name):
            yield getattr(info, name)
    for name in ("item_types", "types"):
        yield from getattr(info, name, ())


def _limits(info: Any) -> Iterable[tuple[str, str]]:
    for name in ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz"):
        value = getattr(info, name, None)
        if value is not None:
            yield name, _text(str(value))


def _rules_of_annotation(kind: Any) -> Iterable[tuple[str, str]]:
    """Yield what the annotation of an array or an fd says beyond its class."""
    for position, each in enumerate(typing.get_args(kind)):
        text = ", ".join(getattr(value, "__name__", str(value)) for value in typing.get_args(each))
        if text and _OPEN_WORDS.isdisjoint(text.split(", ")):
            yield f"argument {position}", _text(text)


def _omits_defaults(kind: Any) -> bool:
    return getattr(getattr(kind, "__struct_config__", None), "omit_defaults", False)


def _name(kind: Any) -> str:
    return _text(getattr(kind, "__name__", str(kind)))


def _text(text: str) -> str:
    """Return *text* as it may stand in a description; what is too long for that ends in its checksum."""
    text = ascii(text)[1:-1]
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:100]}... {zlib.crc32(text.encode()):08x}"
