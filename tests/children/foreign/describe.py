"""The description of a plugin: a table of types that refer to each other by number; the first is the plugin."""

from __future__ import annotations

from typing import Any

from mpack import pack


class Table:
    """Collects the types."""

    def __init__(self, name: str) -> None:
        self.types: list[list[Any]] = [["interface", name, [], [], []]]

    def add(self, kind: str, *parts: int, name: str = "", members: Any = (), rules: Any = ()) -> int:
        """Add a type and return its number; *parts* are what it is made of."""
        self.types.append([kind, name, list(parts), [list(each) for each in members], [list(each) for each in rules]])
        return len(self.types) - 1

    def method(self, kind: str, name: str, result: int | None, /, **parameters: int) -> None:
        """Add a method of *kind* call, stream or notify, which has no *result*; all its parameters must be given."""
        members = [(each, number, True, True) for each, number in parameters.items()]
        number = self.add(kind, *(() if result is None else (result,)), members=members)
        self.types[0][3].append([name, number, True, True])

    def packed(self) -> bytes:
        """Return the description as it travels."""
        return pack([self.types])
