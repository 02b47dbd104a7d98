"""A plugin with no bad intentions, for the tests of calls and endings."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, NoReturn


@dataclass
class Size:
    """A typed argument and result."""

    width: int
    height: int


class Plain:
    """Echoes, counts, fails, ends."""

    def __init__(self) -> None:
        self.calls = 0

    def echo(self, value: Any) -> Any:
        return value

    def swap(self, size: Size) -> Size:
        return Size(size.height, size.width)

    def add(self, first: int, second: int = 2) -> int:
        return first + second

    def count(self) -> int:
        self.calls += 1
        return self.calls

    def length(self, data: bytes) -> int:
        return len(data)

    def view(self, data: memoryview) -> int:
        return len(data)

    def blob(self, size: int) -> bytes:
        return b"x" * size

    def text(self, size: int) -> str:
        return "x" * size

    def numbers(self, size: int) -> list[int]:
        return [1] * size

    def nothing(self) -> None:
        return None

    def unsendable(self) -> object:
        return object()

    def endless(self) -> list[Any]:
        nested: list[Any] = []
        nested.append(nested)
        return nested

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def pid(self) -> int:
        return os.getpid()

    def threads(self) -> int:
        return threading.active_count()

    def boom(self) -> NoReturn:
        raise ValueError("the plugin's own words")

    def odd_error(self) -> NoReturn:
        raise OSError(2, "No such file", "\udcff\udcfe")

    def unreadable_error(self) -> NoReturn:
        class Unreadable(Exception):
            def __str__(self) -> str:
                raise RuntimeError("not even that")

        raise Unreadable

    def long_error(self) -> NoReturn:
        raise ValueError("ä" * 100_000)

    def late_import(self) -> NoReturn:
        import wave

        raise AssertionError(wave)

    def hidden_import(self) -> str:
        try:
            import wave
        except ImportError:
            return "hidden"
        return wave.__name__

    def open_file(self, path: str) -> str:
        with open(path, encoding="utf-8") as file:
            return file.read()

    def say(self, line: str) -> None:
        print(line)
        print(line, file=sys.stderr)

    def flood(self, lines: int) -> None:
        for number in range(lines):
            os.write(1, b"%d %s\n" % (number, b"x" * 4000))

    def garbage(self) -> None:
        os.write(1, bytes(range(256)) * 40)
        os.write(2, b"\x1b[2J\xff\xfe no newline at the end")

    def busy(self) -> int:
        print("busy")
        return sum(range(10**15))

    def computes(self, seconds: float) -> None:
        """Keep the processor busy, and do not look at what has come."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass

    def imports_in_vain(self, size: int) -> bytes:
        for number in range(64):
            with contextlib.suppress(ImportError):
                importlib.import_module(f"nowhere_to_be_found_{number:0100}")
        return b"x" * size

    def misses_all(self) -> NoReturn:
        self.imports_in_vain(0)
        raise LookupError("nothing is there")

    def hang(self) -> None:
        threading.Event().wait()

    def leave(self, code: int) -> NoReturn:
        os._exit(code)

    def leave_politely(self) -> NoReturn:
        sys.exit("by exit()")

    def crash(self) -> None:
        ctypes.string_at(0)

    def hit_itself(self) -> None:
        os.kill(os.getpid(), signal.SIGABRT)

    def last_words(self) -> NoReturn:
        for number in range(100):
            print(f"line {number}", file=sys.stderr)
        os._exit(7)
