"""A plugin for the tests of many calls at once, and of a child that stands still."""

from __future__ import annotations

from belljar import Cancelled, checkpoint, notify


class Flows:
    """Answers quickly."""

    def __init__(self) -> None:
        self.notes: list[int] = []
        self.left = 0

    def double(self, number: int) -> int:
        return 2 * number

    def compute(self) -> None:
        """Be busy for ever, and look around now and then."""
        try:
            while True:
                checkpoint()
        except Cancelled:
            self.left += 1
            raise

    def compute_and_say_nothing(self) -> None:
        """Swallow that it was given up, and return."""
        try:
            self.compute()
        except Cancelled:
            return

    def was_left(self) -> int:
        return self.left

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
