"""What ``belljar run`` does with its arguments and its result."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ...ipc.errors import ArgumentError, ResultError, printable
from ...sandbox.quantities import parse_duration
from ..config.place import quoted
from ..config.process_type import Process
from ..process_host import ProcessHost


class Call(msgspec.Struct, frozen=True):
    """One call as the command line asks for it; ``timeout`` is in seconds."""

    process: Process
    method: str
    arguments: list[Any]
    timeout: float | None

    @classmethod
    def parse(cls, process: Process, method: str, words: list[str], timeout: str) -> Call:
        """Read the words of the command line; `ArgumentError` if a file or the timeout cannot be read."""
        try:
            seconds = parse_duration(timeout) if timeout else None
        except ValueError as error:
            raise ArgumentError(f"--timeout: {error}") from None
        return cls(process, method, [_argument(word, process.max_payload) for word in words], seconds)

    async def make(self) -> Any:
        """Launch the child, make the call, end the child and return the result."""
        async with ProcessHost(self.process) as host:
            return await host.call(self.method, *self.arguments, timeout=self.timeout)


def _argument(word: str, limit: int) -> Any:
    if word.startswith("@"):
        return _bytes_of(word[1:], limit)
    try:
        return msgspec.json.decode(word)
    except (ValueError, RecursionError):
        return word


def _bytes_of(name: str, limit: int) -> bytes:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(limit + 1)
        else:
            with open(name, "rb") as file:
                data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        hint = "" if name else " (write '\"@\"' for the text)"
        raise ArgumentError(f"could not read {quoted(name)}: {cause}{hint}") from None
    if len(data) > limit:
        raise ArgumentError(f"{quoted(name)} has more than the {limit} bytes of max_payload")
    return data


class Target:
    """Where the result goes: a file that was opened before anything was launched, or stdout."""

    def __init__(self, path: Path | None, file: BinaryIO | None) -> None:
        self._path = path
        self._file = file

    @classmethod
    @contextmanager
    def open(cls, path: Path | None) -> Generator[Target]:
        """Open *path* for a result; a file that is new and gets none is removed again.

        Raises:
            ResultError: the file cannot be written.
        """
        if path is None:
            yield cls(None, None)
            return
        is_new = not os.path.lexists(path)
        # Not truncated yet: a result that never comes must not cost the old file.
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ResultError(f"could not write {quoted(str(path))}: {error.strerror}") from None
        with os.fdopen(fd, "wb") as file:
            try:
                yield cls(path, file)
            except BaseException:
                if is_new:
                    path.unlink(missing_ok=True)
                raise

    def save(self, result: Any, *, as_json: bool) -> str:
        """Save *result* if there is a file, and return what to print."""
        if self._file is None:
            return pretty_json(result) if as_json else shown(result)
        data = as_bytes(result)
        if stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            self._file.truncate(0)
        self._file.write(data)
        self._file.flush()
        if as_json:
            return pretty_json({"saved": str(self._path), "bytes": len(data)})
        return printable(f"{len(data):,} bytes saved in {self._path}")


def as_bytes(result: Any) -> bytes:
    """Return *result* as a file holds it: bytes as they are, text as UTF-8, all else as JSON."""
    if isinstance(result, bytes):
        return result
    return result.encode() if isinstance(result, str) else pretty_json(result).encode()


def shown(result: Any) -> str:
    """Return *result* as a person reads it."""
    if isinstance(result, bytes):
        return f"{len(result):,} bytes (--out FILE saves them)"
    return printable(result, keep="\n\t") if isinstance(result, str) else pretty_json(result)


def pretty_json(value: Any) -> str:
    """Return *value* as JSON, bytes as base64, with all that a terminal would obey escaped.

    Raises:
        ResultError: it has no form in JSON.
    """
    try:
        plain = msgspec.to_builtins(value, str_keys=True)
        text = json.dumps(plain, indent=2, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ResultError(f"the result cannot be shown as JSON: {error}") from None
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
