"""One row in a process of its own, so that no peer's threads, garbage or open files slow another one down."""

from __future__ import annotations

import cProfile
import math
import multiprocessing as mp
import pstats
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import Any

import anyio

from .work import Row, Run, Work
from .works import find

TIMEOUT = 60.0
"""Seconds within which a row must have opened, or have run once."""


class RowFailed(Exception):
    """A row could not be measured; the text says why."""


class Driver:
    """The process of one row; *samples* has a list for each round."""

    def __init__(self, work: Work, row: Row) -> None:
        """Start it; `ready` waits until it is open."""
        self.row = row
        self.samples: list[list[float]] = []
        self.failure = ""
        self._connection, theirs = mp.Pipe()
        self._process = mp.get_context("spawn").Process(target=_drive, args=(work.name, row.name, theirs))
        self._process.start()
        theirs.close()

    def ready(self) -> None:
        """Wait until the row is open."""
        self._receive()

    def measure(self, seconds: float) -> None:
        """Run it for about so long, once at least, and keep the samples."""
        if not self.failure:
            self._connection.send(seconds)
            self.samples += [answer] if (answer := self._receive()) else []

    def _receive(self) -> list[float]:
        answer: list[float] | str
        try:
            if not self._connection.poll(TIMEOUT):
                raise RowFailed(f"did not answer within {TIMEOUT:g} s")
            answer = self._connection.recv()
        except EOFError:
            answer = "its process ended"
        except RowFailed as error:
            answer = str(error)
            self._process.kill()
        if not isinstance(answer, str):
            return answer
        self.failure = answer
        self.samples.clear()
        return []

    def end(self) -> None:
        """Close the row and wait for its process."""
        self._connection.close()
        self._process.join(TIMEOUT)
        self._process.kill()
        self._process.join()


def profile(row: Row, seconds: float = 1.0) -> None:
    """Run a row in this process under a profiler; print the functions that took longest, callees left out."""
    _on_loop(row, _profile, row, seconds)


async def _profile(row: Row, seconds: float) -> None:
    async with row.open() as run:
        count = max(int(seconds * await _warm_up(run)), 1)
        with cProfile.Profile() as profiler:
            await run(count)
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(25)


def _drive(work: str, name: str, connection: Connection) -> None:
    row = find(work, name)
    try:
        _on_loop(row, _serve, row, connection)
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is what its row says; the others go on
        connection.send(_in_words(error))


def _in_words(error: BaseException) -> str:
    inner: BaseException = getattr(error, "exceptions", [error])[0]  # of a group, the first says enough
    return f"{type(error).__name__}: {error}" if inner is error else _in_words(inner)


def _on_loop(row: Row, function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    if row.loop == "trio":
        anyio.run(function, *arguments, backend="trio")
    elif row.loop:
        anyio.run(function, *arguments, backend_options={"use_uvloop": row.loop == "uvloop"})
    else:
        _without_a_loop(function(*arguments))


def _without_a_loop(coroutine: Awaitable[None]) -> None:
    """Run what never waits."""
    for _ in coroutine.__await__():
        raise RuntimeError("a row without a loop waited")


async def _serve(row: Row, connection: Connection) -> None:
    async with row.open() as run:
        rate = await _warm_up(run)
        connection.send([])
        while True:
            try:
                seconds = connection.recv()  # the loop has nothing else to do
            except EOFError:
                return
            samples, rate = await _run(run, max(int(seconds * rate), 1))
            connection.send(samples)


async def _warm_up(run: Run, enough: float = 0.02) -> float:
    """Return the operations a second, once everything has started."""
    await run(1)
    count, rate = 1, math.inf
    while count < enough * rate:
        count *= 4
        _, rate = await _run(run, count)
    return rate


async def _run(run: Run, count: int) -> tuple[list[float], float]:
    """Return the samples, and the operations a second."""
    began = time.perf_counter()
    samples = await run(count)
    return samples, count / (time.perf_counter() - began)
