"""Examples of all messages, made of their types: at the bounds of each field, and with each of its alternatives."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
import msgspec.inspect as inspect_types

LONG = 20
"""Elements of a long example, unless its type allows less."""


def messages_of(union: Any) -> list[Any]:
    """Return examples of each struct of *union*, as msgpack has them: with all their fields, and with few."""
    found: list[Any] = []
    for kind in typing.get_args(union) or (union,):
        for number in range(4):
            fields = msgspec.structs.fields(kind)
            needed = [each for each in fields if each.required] if number == 0 else fields
            values = [_nth(inspect_types.type_info(each.type), number) for each in needed]
            found.append([kind.__struct_config__.tag, *values])
    return found


def encoded(trees: list[Any]) -> list[bytes]:
    """Return each of *trees* as msgpack."""
    return [msgspec.msgpack.encode(tree) for tree in trees]


def _nth(kind: Any, number: int) -> Any:
    """Return one of the examples of *kind*; the more, the further off the middle."""
    found = list(islice(_examples(kind), 8))
    return found[number % len(found)]


def _examples(kind: Any) -> Iterator[Any]:
    match kind:
        case inspect_types.Metadata():
            yield from _examples(kind.type)
        case inspect_types.UnionType(types=kinds):
            for each in kinds:
                yield next(_examples(each))
        case inspect_types.LiteralType(values=values):
            yield from values
        case inspect_types.IntType():
            yield from (1 if kind.ge in (None, 0, 1) else kind.ge, kind.ge or 0, min(kind.le or 2**53, 2**53))
        case inspect_types.FloatType():
            yield from (1.5, kind.ge or 0.0)
        case inspect_types.BoolType():
            yield from (False, True)
        case inspect_types.StrType():
            yield from ("add", "", "x" * min(kind.max_length or LONG, LONG))
        case inspect_types.BytesType():
            yield from (b"\x92\x01\x02", b"", b"\xc0" * LONG)
        case _:
            yield from _containers(kind)


def _containers(kind: Any) -> Iterator[Any]:
    match kind:
        case inspect_types.StructType(cls=cls, fields=fields):
            tag = [cls.__struct_config__.tag] if cls.__struct_config__.tag else []
            yield [*tag, *(_nth(each.type, 0) for each in fields)]
            yield [*tag, *(_nth(each.type, 1) for each in fields)]
        case inspect_types.VarTupleType(item_type=item) | inspect_types.ListType(item_type=item):
            every = list(_examples(item))
            yield from (every[:1], [] if not kind.min_length else every[:1], every)
        case inspect_types.TupleType(item_types=items):
            yield [_nth(each, 0) for each in items]
        case inspect_types.DictType(key_type=key, value_type=value):
            yield from ({_nth(key, 0): _nth(value, 0)}, {})
        case _:
            yield None
