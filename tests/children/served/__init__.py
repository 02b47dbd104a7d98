"""A plugin that lives on the services of its host."""

from __future__ import annotations

import threading

from belljar import ServiceError, service

from .interfaces import Shelf, Unoffered


class Plug:
    """Uses what it was offered, and tries what it was not."""

    def __init__(self) -> None:
        self.shelf = service(Shelf)  # names are known as soon as the plugin is loaded
        self.found: list[bytes] = []

    def copy(self, source: str, target: str) -> int:
        return self.shelf.write(target, self.shelf.read(source))

    def why_not(self, key: str) -> str:
        """Read, and say in which words that failed; the call goes on after it."""
        try:
            self.shelf.read(key)
        except ServiceError as error:
            return str(error)
        return ""

    def asks_in_vain(self, count: int) -> int:
        """Read what is not there, *count* times; return how often that failed."""
        return sum(map(bool, map(self.why_not, ["nothing"] * count)))

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

    def ask_in_thread(self, key: str) -> None:
        """Let another thread read, and do not wait for it."""
        self.thread = threading.Thread(target=self._read, args=[key])
        self.thread.start()

    def _read(self, key: str) -> None:
        self.found.append(self.shelf.read(key))

    def found_in_thread(self) -> list[bytes]:
        self.thread.join()
        return self.found

    def from_two_threads(self, count: int) -> int:
        """Copy back and forth in this thread and in another one at once; return how often both have done so."""
        self.ask_in_thread("first")
        for number in range(count):
            self.shelf.write("here", b"%d" % number)
            assert self.shelf.read("here") == b"%d" % number
            self._read("first")
        return len(self.found_in_thread())
