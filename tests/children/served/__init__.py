"""A plugin that lives on the services of its host."""

from __future__ import annotations

import threading

from belljar import ServiceError, service

from .interfaces import Shelf, Unoffered


class Plug:
    """Uses what it was offered, and tries what it was not."""

    def __init__(self) -> None:
        self.shelf = service(Shelf)  # names are known as soon as the plugin is loaded

    def copy(self, source: str, target: str) -> int:
        return self.shelf.write(target, self.shelf.read(source))

    def why_not(self, key: str) -> str:
        """Read, and say in which words that failed; the call goes on after it."""
        try:
            self.shelf.read(key)
        except ServiceError as error:
            return str(error)
        return ""

    def wrong(self) -> str:
        try:
            self.shelf.wrong()
        except ServiceError as error:
            return str(error)
        return ""

    def unoffered(self) -> str:
        try:
            service(Unoffered)
        except ServiceError as error:
            return str(error)
        return ""

    def deeper(self, depth: int) -> int:
        """Go through the host and back *depth* times."""
        return depth if depth == 0 else 1 + self.shelf.ask_back(depth - 1)

    def double(self, number: int) -> int:
        return number * 2

    def forever(self) -> None:
        threading.Event().wait()

    def burst(self, count: int) -> list[int]:
        return self.shelf.burst(count)

    def from_a_thread(self) -> str:
        words: list[str] = []

        def read() -> None:
            words.append(self.why_not("any"))

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        return words[0]
