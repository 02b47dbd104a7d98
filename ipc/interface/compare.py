"""Whether what answers fits what asks: the first difference between two descriptions, in words for a person.

Fitting is not being equal. Who answers may have more methods, and more parameters at the end if they have defaults.
Fields that a struct does not know are ignored unless it forbids them, and those with defaults may be missing. A place
without a type (``Any``) fits all but what needs an attachment, and a limit that one side does not repeat (``ge``,
``max_length``) is no difference: both sides check each call as it comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .describe import Description, Member, Type

MAX_COMPARED = 20_000
"""Pairs of types that are compared; a hostile description could ask for a million."""

MAX_LOOKED_AT = 500_000
"""Parts, members and rules of all these pairs; each type may have hundreds, and a union looks at those of its parts."""

MAX_DEPTH = 50
"""Types within types that are compared."""

_BESIDE = ("buffer", "ndarray", "image", "fd", "interface", "adapted", "upload")
"""What does not stand in a payload, so that both sides must know of it."""

_IN_ORDER = ("row", "tuple")
"""Arrays on their way, each of whose places has a type of its own."""

_FORBIDS = ("no other fields", "")
_UPPER = ("lt", "le", "max_length")
_LOWER = ("gt", "ge", "min_length")
_NUMERIC = (*_UPPER, *_LOWER, "multiple_of")  # a tag or a pattern may look like a number, and is none


class _TooMany(Exception):
    """The types are more than can be compared."""


class Sides(NamedTuple):
    """What the two sides are called in a text."""

    wanted: str = "the interface"
    found: str = "the plugin"


_Key = tuple[bool, int]


class _Node(NamedTuple):
    """A type in one of the two tables."""

    side: str
    first: bool  # whether it is the wanted side, which a text names first
    types: tuple[Type, ...]
    number: int = 0

    @property
    def type(self) -> Type:
        return self.types[self.number]

    def at(self, number: int) -> _Node:
        return self._replace(number=number)

    def members(self) -> dict[str, Member]:
        """Return the fields by what identifies them on their way: their name, or their position."""
        if self.type.kind == "tuple":
            return {str(i): Member(str(i), part) for i, part in enumerate(self.type.parts)}
        in_order = self.type.kind == "row"
        return {str(i) if in_order else each.name: each for i, each in enumerate(self.type.members)}

    def choices(self) -> tuple[_Node, ...]:
        """Return what a value may be."""
        return tuple(map(self.at, self.type.parts)) if self.type.kind == "union" else (self,)

    def mark(self) -> tuple[str, str]:
        """Return what tells a value on its way from those of the other types of a union."""
        kind, rules = self.type.kind, self.type.rules
        if kind == "literal" and rules:
            return kind, _kinds_of_literal(rules[0][1])[0]
        return "array" if kind in _IN_ORDER else kind, dict(rules).get("tag", "")


class _Place(NamedTuple):
    """Where in a method something is: an argument, the result or an item, or a part of one."""

    what: str
    path: str = ""

    def __str__(self) -> str:
        if self.what == "argument":
            return f"argument '{self.path}'"
        return f"'{self.path.removeprefix('.')}' of {self.what}" if self.path else self.what

    def within(self, name: str) -> _Place:
        return _Place(self.what, self.path + name)


def first_difference(wanted: Description, found: Description, sides: Sides | None = None) -> str:
    """Return the first thing in which *found*, which answers, does not fit *wanted*, which asks; "" if it fits.

    Both must have passed `describe.check`. The text is ASCII without control characters.
    """
    wanted_side, found_side = sides or Sides()
    asks = _Node(wanted_side, True, wanted.types)
    try:
        return next(_Comparison().interface(asks, _Node(found_side, False, found.types)), "")
    except _TooMany:
        return f"the types of {wanted_side} and {found_side} are too many to be compared"


class _Comparison:
    """One comparison: each pair of types is compared once, also where types contain themselves."""

    def __init__(self) -> None:
        self._seen: set[tuple[_Key, _Key]] = set()
        self._depth = 0
        self._looked_at = 0

    def _look_at(self, *nodes: _Node) -> None:
        """Count what there is to look at in *nodes*, before it is done."""
        kinds = [node.type for node in nodes]
        self._looked_at += sum(1 + len(kind.parts) + len(kind.members) + len(kind.rules) for kind in kinds)
        if self._looked_at > MAX_LOOKED_AT:
            raise _TooMany

    def interface(self, asks: _Node, answers: _Node) -> Iterator[str]:
        methods = answers.members()
        for name, each in asks.members().items():
            place = f"{asks.type.name}.{name}"
            if name in methods:
                differences = self._method(asks.at(each.type), answers.at(methods[name].type))
                yield from (f"{place}: {text}" for text in differences)
            else:
                yield f"{place} is missing in {answers.side}"

    def _method(self, asks: _Node, answers: _Node) -> Iterator[str]:
        if "any" in (asks.type.kind, answers.type.kind):  # one side had too much to say
            return
        self._look_at(asks, answers)
        if asks.type.kind != answers.type.kind:
            yield _contrast("it", (asks, f"a {asks.type.kind}"), (answers, f"a {answers.type.kind}"))
        yield from self._parameters(asks, answers)
        place = _Place("an item" if asks.type.kind == "stream" else "the result")
        for one, other in zip(asks.type.parts, answers.type.parts, strict=False):
            yield from self._value(place, answers.at(other), asks.at(one))

    def _parameters(self, asks: _Node, answers: _Node) -> Iterator[str]:
        given, taken = asks.type.members, answers.type.members
        names = {each.name for each in given}
        for position, (one, other) in enumerate(zip(given, taken, strict=False)):
            place = _Place("argument", one.name)
            if other.name != one.name and other.name in names:
                yield _contrast(f"argument {position + 1}", (asks, f"'{one.name}'"), (answers, f"'{other.name}'"))
            if other.required and not one.required:
                yield _contrast(str(place), (asks, "optional"), (answers, "required"))
            yield from self._value(place, asks.at(one.type), answers.at(other.type))
        for one in given[len(taken) :]:
            yield f"{_Place('argument', one.name)} is missing in {answers.side}"
        for other in taken[len(given) :]:
            if other.required:
                yield f"{_Place('argument', other.name)} is missing in {asks.side} and required in {answers.side}"

    def _value(self, place: _Place, giver: _Node, taker: _Node) -> Iterator[str]:
        """Yield why a value of the type *giver* does not fit the type *taker*."""
        pair = ((giver.first, giver.number), (taker.first, taker.number))
        if pair in self._seen:
            return
        self._seen.add(pair)
        if len(self._seen) > MAX_COMPARED or self._depth == MAX_DEPTH:
            raise _TooMany
        self._look_at(giver, taker)
        self._depth += 1
        yield from self._types(place, giver, taker)
        self._depth -= 1

    def _types(self, place: _Place, giver: _Node, taker: _Node) -> Iterator[str]:
        kinds = (giver.type.kind, taker.type.kind)
        if "any" in kinds:
            if any(kind in _BESIDE for kind in kinds):
                yield _types_differ(place, giver, taker)
        elif "union" in kinds:
            yield from self._union(place, giver, taker)
        elif kinds in (_IN_ORDER, _IN_ORDER[::-1]) and giver.mark() == taker.mark():
            yield from self._fields(place, giver, taker)
        elif kinds[0] in _IN_ORDER and kinds[1] == "array" and giver.mark() == taker.mark():
            for name, each in giver.members().items() if taker.type.parts else ():
                yield from self._value(place.within(f"[{name}]"), giver.at(each.type), taker.at(taker.type.parts[0]))
        elif not _fits(giver.type, taker.type):
            yield _types_differ(place, giver, taker)
        elif taker.type.kind == "interface":  # who is given an object calls it
            yield from (f"{place}: {text}" for text in self.interface(taker, giver))
        elif taker.type.kind in ("struct", "row"):
            yield from self._fields(place, giver, taker)
        else:
            for one, other in zip(giver.type.parts, taker.type.parts, strict=False):
                yield from self._value(place.within("[]"), giver.at(one), taker.at(other))

    def _union(self, place: _Place, giver: _Node, taker: _Node) -> Iterator[str]:
        """Yield why one of what may be given fits nothing of what is taken. Types that look alike share no union."""
        self._look_at(*giver.choices(), *taker.choices())
        takers = {node.mark(): node for node in taker.choices()}
        for mark, each in {node.mark(): node for node in giver.choices()}.items():
            fitting = takers.get(mark) or next((node for node in takers.values() if self._fit(each, node)), None)
            if fitting is None:
                yield _types_differ(place, giver, taker)
                return
            yield from self._value(place, each, fitting)

    def _fit(self, giver: _Node, taker: _Node) -> bool:
        self._look_at(giver, taker)
        return _fits(giver.type, taker.type)

    def _fields(self, place: _Place, giver: _Node, taker: _Node) -> Iterator[str]:
        given, taken = giver.members(), taker.members()
        for key, other in taken.items():
            field = place.within(f".{other.name}")
            one = given.get(key)
            if one is None and other.required:
                yield f"{field} is missing in {giver.side} and required in {taker.side}"
            elif one is not None:
                if other.required and not one.always:
                    yield _contrast(str(field), (giver, "optional"), (taker, "required"))
                yield from self._value(field, giver.at(one.type), taker.at(other.type))
        if taker.type.kind == "tuple" or _FORBIDS in taker.type.rules:  # once: it may have hundreds
            for one in (one for key, one in given.items() if key not in taken):
                yield f"{place.within(f'.{one.name}')} is sent by {giver.side} and forbidden in {taker.side}"


def _fits(giver: Type, taker: Type) -> bool:
    """Whether values of the type *giver* look like those of *taker*, as far as can be told without their parts."""
    if giver.kind == "literal" and taker.kind != "literal":
        return all(taker.kind in _kinds_of_literal(value) for _, value in giver.rules)
    if (giver.kind, taker.kind) == ("int", "float"):
        return True
    if giver.kind != taker.kind or len(giver.parts) != len(taker.parts):
        return False
    if taker.kind == "literal":
        return set(giver.rules) <= set(taker.rules)
    if taker.kind == "unknown":
        return giver.name == taker.name
    said = dict(giver.rules)
    tags = ("tag_field", "tag")
    if taker.kind == "row" and said.get("tag") != dict(taker.rules).get("tag"):  # it has a place among the others
        return False
    return all(name in said or name not in tags for name, _ in taker.rules) and all(
        _is_within(name, said.get(name, value), value) for name, value in taker.rules
    )


def _kinds_of_literal(value: str) -> tuple[str, ...]:
    return ("str",) if value[:1] in "'\"" else ("int", "float")


def _is_within(rule: str, given: str, taken: str) -> bool:
    """Whether the limit *given* of one side lies within the limit *taken* of the other."""
    if rule not in _NUMERIC:
        return given == taken
    try:
        one, other = float(given), float(taken)
    except ValueError:  # of a hostile description
        return given == taken
    return one <= other if rule in _UPPER else one >= other if rule in _LOWER else one == other


def _types_differ(place: _Place, one: _Node, other: _Node) -> str:
    return _contrast(str(place), (one, render(one)), (other, render(other)))


def _contrast(place: str, one: tuple[_Node, str], other: tuple[_Node, str]) -> str:
    """Say what *place* is on either side, the wanted one first."""
    first, second = (one, other) if one[0].first else (other, one)
    return f"{place} is {_short(first[1])} in {first[0].side} and {_short(second[1])} in {second[0].side}"


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."


def render(node: _Node, depth: int = 3) -> str:
    """Return a type as a person writes it, to some depth, with its limits."""
    found = node.type
    limits = [f"{name} {value}" for name, value in found.rules[:8]]
    if found.kind == "any":
        return "Any"
    if found.kind == "literal":
        return found.name or f"Literal[{', '.join(value for _, value in found.rules[:8])}]"
    parts = [render(node.at(part), depth - 1) for part in found.parts[:8]] if depth else []
    if found.kind == "union":
        return " | ".join(parts)
    text = found.name or found.kind
    if parts:
        text += f"[{', '.join(parts)}]"
    if limits and found.kind not in ("struct", "row"):
        text += f" ({', '.join(limits)})"
    return text
