"""A plugin for hosts without an event loop."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator

from belljar import Buffer, checkpoint, notify, raises, service

from .interfaces import Desk, Odd, Steps


class Plainly:
    """Echoes, counts, asks, talks by itself."""

    def __init__(self) -> None:
        self.ended = 0
        self.heard: list[str] = []

    def echo(self, data: bytes) -> bytes:
        return data

    def copy(self, data: Buffer) -> Buffer:
        return data

    def half(self, number: int) -> int:
        return number // 2

    def count(self, limit: int) -> Iterator[int]:
        try:
            yield from range(limit)
        finally:
            self.ended += 1

    def closed(self) -> int:
        """How many streams of `count` have ended."""
        return self.ended

    def total(self, numbers: Iterator[int]) -> int:
        return sum(numbers)

    def doubled(self, numbers: Iterator[int]) -> Iterator[int]:
        for number in numbers:
            yield 2 * number

    @raises(Odd)
    def even(self, number: int) -> int:
        if number % 2:
            raise Odd(f"{number} is odd")
        return number

    def number(self, text: str) -> int:
        if not text.isdecimal():
            raise ValueError("no number")
        return int(text)

    def through(self, number: int) -> int:
        return service(Desk).twice(number)

    def all_of_desk(self) -> str:
        """Use each kind of method of a service."""
        desk = service(Desk)
        desk.note("all")
        return f"{','.join(desk.names(3))} {desk.store(iter([b'ab', b'c']))}"

    def walk(self, steps: Steps, count: int) -> int:
        return sum(steps.step(number) for number in range(count))

    @notify
    def hint(self, text: str) -> None:
        self.heard.append(text)

    def hints(self) -> list[str]:
        return self.heard

    def nap(self) -> None:
        """Sleep until the call is given up."""
        while True:
            checkpoint()

    def hang(self) -> None:
        """Do not even hear that the call was given up."""
        threading.Event().wait()

    def leave(self) -> None:
        os._exit(7)

    def talk(self) -> None:
        """Let a thread say something in each way that there is, once nobody calls any more."""
        threading.Thread(target=self._talk).start()

    def _talk(self) -> None:
        threading.Event().wait(0.1)
        logging.getLogger("talk").warning("logged")
        desk = service(Desk)
        desk.note(f"twice 4 is {desk.twice(4)}")
