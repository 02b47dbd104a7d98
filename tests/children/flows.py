"""A plugin for the tests of many calls at once, and of a child that stands still."""

from __future__ import annotations

from belljar import notify


class Flows:
    """Answers quickly."""

    def __init__(self) -> None:
        self.notes: list[int] = []

    def double(self, number: int) -> int:
        return 2 * number

    def refuse(self, number: int, most: int) -> int:
        if number > most:
            raise ValueError(f"{number} is too much")
        return number

    def join(self, first: str, second: str = "b") -> str:
        return first + second

    @notify
    def note(self, number: int, padding: bytes) -> None:
        self.notes.append(number)

    def noted(self) -> list[int]:
        return self.notes
