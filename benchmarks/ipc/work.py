"""What is measured: a work has rows, which do the same in different ways, and goals hold some rows against others.

A row is opened once, in a process of its own (`driver`), and then asked to run so many operations, again and again. Its
samples are seconds an operation: a call, an item, or a byte that was moved.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, TypeAlias

Run: TypeAlias = Callable[[int], Awaitable[list[float]]]
"""Runs so many operations; returns the seconds of each, or one mean of all."""

Opened: TypeAlias = AbstractAsyncContextManager[Run]
Loop: TypeAlias = Literal["", "asyncio", "trio", "uvloop"]
Mode: TypeAlias = Literal["one core", "free"]
Unit: TypeAlias = Literal["us", "k/s", "GB/s"]

MODES: tuple[Mode, ...] = ("one core", "free")
"""Both sides pinned to one core, or wherever the scheduler puts them. Where cores sleep, waking the other one costs
more than any code here, and whether it must is luck: ratios of calls are stable on one core only."""


@dataclass(frozen=True)
class Row:
    """One way to do a work; without a *loop*, *open* and its `Run` never wait."""

    name: str
    open: Callable[[], Opened]
    loop: Loop = ""


@dataclass(frozen=True)
class Work:
    """Rows that do the same; *judged* is the mode in which goals are held against them.

    *longer* is how many times longer than others it runs in each round, if its operations are rare.
    """

    name: str
    title: str
    unit: Unit
    base: str
    judged: Mode
    rows: tuple[Row, ...]
    longer: int = 1


def per_call(call: Callable[[], object], size: int = 1) -> Run:
    """Time each of the calls of a plain function that moves *size* bytes."""

    async def run(count: int) -> list[float]:
        samples: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            call()
            samples.append((time.perf_counter() - began) / size)
        return samples

    return run


def per_await(call: Callable[[], Awaitable[object]], size: int = 1) -> Run:
    """Time each of the calls of an async function."""

    async def run(count: int) -> list[float]:
        samples: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            await call()
            samples.append((time.perf_counter() - began) / size)
        return samples

    return run


def in_all(do: Callable[[int], int]) -> Run:
    """Time a plain function that does about so many operations, and returns how many."""

    async def run(count: int) -> list[float]:
        began = time.perf_counter()
        done = do(count)
        return [(time.perf_counter() - began) / done]

    return run


def in_all_awaited(do: Callable[[int], Awaitable[int]]) -> Run:
    """Time an async function that does about so many operations, and returns how many."""

    async def run(count: int) -> list[float]:
        began = time.perf_counter()
        done = await do(count)
        return [(time.perf_counter() - began) / done]

    return run
