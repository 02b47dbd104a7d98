"""What a target of the fuzzer is, and what must hold after each input."""

from __future__ import annotations

import gc
import importlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..helpers import resident

TARGETS = Path(__file__).parent / "targets"

MOST_MEMORY = 96 << 20
"""Bytes by which a process may grow after its first inputs: the fuzzer's own tables grow too."""

FIRST = 500

PATIENCE = 2.0
"""Seconds in which fds are closed, at the latest."""


@dataclass(frozen=True)
class Target:
    """One place where hostile bytes come in.

    Attributes:
        examples: inputs to begin with.
        take: takes one input; whatever it raises beside *refusals* is a finding.
        refusals: the errors that say whose fault it is.
    """

    examples: Callable[[], Sequence[bytes]]
    take: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]


class Finding(AssertionError):
    """An input that did what no input may do."""


class Judge:
    """Gives inputs to a *target* and looks at this process after each: no fd may stay, and no memory."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.taken = self.refused = 0
        self._free_fd = -1
        self._memory = 0

    def __call__(self, data: bytes) -> None:
        """Raise whatever the target may not raise, and `Finding` if something stays."""
        try:
            self.target.take(data)
        except self.target.refusals:
            self.refused += 1
        self.taken += 1
        self._look_at_fds()
        if self.taken % FIRST == 0:
            self._look_at_memory()

    def _look_at_fds(self) -> None:
        """An fd that stays takes the lowest free number. A cycle may hold it a while, or a thread of libzmq."""
        if self.taken > 1 and _lowest_free_fd() > self._free_fd:
            gc.collect()
            until = time.monotonic() + PATIENCE
            while (now := _lowest_free_fd()) > self._free_fd:
                if time.monotonic() > until:
                    raise Finding(f"an fd stayed: {os.readlink(f'/proc/self/fd/{now - 1}')}")
                os.sched_yield()
        self._free_fd = _lowest_free_fd()

    def _look_at_memory(self) -> None:
        gc.collect()
        self._memory = self._memory or resident()
        if (more := resident() - self._memory) > MOST_MEMORY:
            raise Finding(f"{more >> 20} MiB of memory stayed after {self.taken} inputs")


def _lowest_free_fd() -> int:
    fd = os.dup(0)
    os.close(fd)
    return fd


def names() -> list[str]:
    """Return the names of all targets."""
    return sorted(path.stem for path in TARGETS.glob("[a-z]*.py"))


def load(name: str) -> Target:
    """Return the target *name*."""
    target = importlib.import_module(f"{__package__}.targets.{name}").TARGET
    assert isinstance(target, Target)
    return target


def inputs(target: Target, seed: int, count: int) -> Iterator[bytes]:
    """Yield the examples of *target*, and then *count* changed ones."""
    import random

    from .mutate import damaged, mutated

    chance, examples = random.Random(seed), target.examples()
    yield from examples
    for _ in range(count):
        yield mutated(chance.choice(examples), chance, examples, lambda data: damaged(data, chance))
