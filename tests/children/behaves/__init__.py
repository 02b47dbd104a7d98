"""A plugin of ordinary habits: what any code does, what it may try, and the ways to end. For tests/conformance."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

from .raw import libc, raw
from .reach import VERBS
from .tries import attempts
from .works import WORKS


def outcomes(calls: Mapping[str, Callable[[], object]]) -> dict[str, Any]:
    """Make each call; the errno of what was refused, else what it returned."""
    found: dict[str, Any] = {}
    for name, call in calls.items():
        try:
            found[name] = call()
        except OSError as error:
            found[name] = errno.errorcode.get(error.errno or 0, str(error))
        except Exception as error:  # noqa: BLE001 - one behaviour that is broken must not hide the others
            found[name] = f"{type(error).__name__}: {error}"
    return found


class Behaves:
    """Each method is one child's worth of behaviour, or one way to end."""

    def works(self) -> dict[str, Any]:
        """Do what a sealed child must be able to do."""
        return outcomes(WORKS)

    def tries(self, folder: str, host_pid: int) -> dict[str, Any]:
        """Try what it must not: *folder* is the host's, with ``file`` and ``socket`` in it."""
        return outcomes(attempts(folder, host_pid))

    def reach(self, attempts: list[tuple[str, list[Any]]]) -> dict[str, Any]:
        """Make each of *attempts*, a verb of `reach` and its arguments; their number is their name."""
        calls = {str(number): partial(VERBS[verb], *rest) for number, (verb, rest) in enumerate(attempts)}
        return outcomes(calls)

    def say(self) -> None:
        """Write to both streams, by print and by logging."""
        print("one line")
        print("another line", file=sys.stderr)
        logging.warning("a warning")

    def raises(self) -> NoReturn:
        """Raise from another exception."""
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    def recurses(self) -> int:
        """Call itself without end."""
        return 1 + self.recurses()

    def imports_late(self) -> str:
        """Import what was not there before the seal."""
        import wave

        return wave.__name__

    def allocates(self, size: int) -> int:
        """Allocate *size* bytes."""
        return len(bytearray(size))

    def add(self, first: int, second: int = 2) -> int:
        """Answer."""
        return first + second

    def exits(self, code: int) -> NoReturn:
        """End by exit(2), without a word."""
        os._exit(code)

    def crashes(self) -> None:
        """Read from address 0."""
        ctypes.string_at(0)

    def aborts(self) -> None:
        """End as a failed assertion in C does."""
        os.abort()

    def kills_itself(self, number: int) -> str:
        """Send itself a signal whose default is to end."""
        signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
        os.kill(os.getpid(), number)
        return "alive"

    def overflows_the_stack(self) -> None:
        """Have the C library's regex compiler recurse once for each of many parentheses."""
        libc.regcomp(ctypes.create_string_buffer(256), b"(" * 10_000_000, 1)

    def computes_for_ever(self) -> int:
        """Use up processor time in one C function."""
        return sum(range(10**15))

    def fails_in_the_kernel(self) -> NoReturn:
        """Raise the kernel's own error."""
        raw("dup3", 0, 0, 0)
        raise AssertionError("dup3 of an fd onto itself")
