"""The run: one hostile child after the other against one host at a time, while another child answers calls."""

from __future__ import annotations

import itertools
import logging
import os
import statistics
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import anyio
import anyio.lowlevel

from belljar import BelljarError, Policy, Process, ProcessHost
from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.frames import decode_from_child
from belljar.ipc.interface import notify

from .account import Account, Accountant
from .babbler import Said, Speech

HERE = Path(__file__).parent
BABBLER = f"{HERE / 'babbler.py'}:Babbler"
ECHO = f"{HERE.parent / 'plugin.py'}:Echo"
PAUSE = 0.002
"""Seconds between two calls of the child that answers."""

WARM, EVERY = 20, 5
"""Launches before the first sample of the memory, and from one to the next."""


class Offered(Protocol):
    """What the hostile child may call."""

    def add(self, first: int, second: int) -> int:
        """Return the sum."""
        ...

    @notify
    def note(self, text: str) -> None:
        """Hear *text*."""
        ...


class Numbers(Protocol):
    """What the host asks of it."""

    def numbers(self) -> AsyncIterator[int]:
        """Yield some."""
        ...


class Behind:
    """Behind `Offered`."""

    def add(self, first: int, second: int) -> int:
        """Return the sum."""
        return first + second

    def note(self, text: str) -> None:
        """Forget *text*."""


class Sample(NamedTuple):
    """How the host stood after so many messages."""

    messages: int
    launches: int
    resident: int
    fds: int


@dataclass
class Run:
    """What was seen.

    Attributes:
        account: what became of the messages.
        said: the messages of each kind in the datagrams that the host has read, counted by who says them.
        reasons: why children were killed, without numbers, and how often.
        samples: memory and fds of the host.
        latencies: seconds of the calls of the other child, by what went on meanwhile.
    """

    account: Account = field(default_factory=Account)
    said: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])
    samples: list[Sample] = field(default_factory=list[Sample])
    latencies: dict[str, array[float]] = field(default_factory=dict[str, "array[float]"])
    launches: int = 0
    seconds: float = 0.0

    @property
    def grown(self) -> int:
        """Bytes by which the host's memory grew from the first quarter of the samples to the last: medians."""
        quarter = max(1, len(self.samples) // 4)
        first, last = ([each.resident for each in part] for part in (self.samples[:quarter], self.samples[-quarter:]))
        return int(statistics.median(last) - statistics.median(first))


@contextmanager
def silent() -> Generator[None]:
    """Let nobody hear what the children log: whoever keeps it would need memory for it."""
    logger = logging.getLogger("belljar")
    before = logger.propagate
    nobody = logging.NullHandler()
    logger.addHandler(nobody)
    logger.propagate = False
    yield
    logger.propagate = before
    logger.removeHandler(nobody)


async def run(messages: int, *, seed: int = 1, calm: float = 2.0, tell: Callable[[Run], object] = bool) -> Run:
    """Have *messages* hostile messages said, by as many children as it takes; *tell* hears how it goes on.

    Before that the other child is asked for *calm* seconds while nothing else goes on, and for as long again while
    children are launched that say nothing.
    """
    found = Run()
    with silent():
        async with ProcessHost(Process(plugin=ECHO, policy=Policy.compute())) as other:
            await _measure(found, "nothing else", other, lambda: anyio.sleep(calm))
            await _measure(found, "launches alone", other, lambda: _launch_for(calm))
            began = time.perf_counter()
            await _measure(found, "hostile messages", other, lambda: _babble(found, messages, seed, tell))
            found.seconds = time.perf_counter() - began
    return found


async def _measure(found: Run, name: str, other: ProcessHost, work: Callable[[], Awaitable[None]]) -> None:
    took = found.latencies[name] = array("d")

    async def ask() -> None:
        while True:
            began = time.perf_counter()
            await other.call("echo", b"x" * 64, returns=bytes)
            took.append(time.perf_counter() - began)
            await anyio.sleep(PAUSE)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await work()
        tasks.cancel_scope.cancel()


async def _launch_for(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        async with hostile_host() as host:
            host.kill()


async def _babble(found: Run, messages: int, seed: int, tell: Callable[[Run], object]) -> None:
    for number in itertools.count(seed):
        if found.account.messages >= messages:
            return
        account, reason = await _one(number)
        found.account += account
        found.launches += 1
        found.reasons[reason] += 1
        for said in islice(Speech(number), account.datagrams):
            found.said[said.kind] += _messages_of(said)
        if found.launches >= WARM and found.launches % EVERY == 0:
            found.samples.append(_sample(found))
        tell(found)


def _messages_of(said: Said) -> int:
    """Who damages a datagram does not know how many frames it has then; one that has none is one message."""
    if said.kind != "damaged":
        return said.messages
    with suppress(PeerProtocolError):
        return len(decode_from_child(said.data))
    return 1


def hostile_host() -> ProcessHost:
    """Return a host of a child that babbles when it is told to, not entered yet."""
    process = Process(plugin=BABBLER, policy=Policy.compute(), call_timeout=None, name="babbler")
    return ProcessHost(process, services={Offered: Behind()})


async def _one(seed: int) -> tuple[Account, str]:
    """Launch a child that says what *seed* makes it say; return what became of that, and why it was killed."""
    host, account = hostile_host(), Account()
    async with host, anyio.create_task_group() as tasks:
        Accountant(host, account)

        async def call() -> None:
            with suppress(BelljarError):
                await host.call("babble", seed)

        async def read(scope: anyio.CancelScope) -> None:
            with suppress(BelljarError), scope:
                async for _number in host.proxy(Numbers).numbers():
                    pass

        given_up = anyio.CancelScope()
        tasks.start_soon(call)
        await anyio.lowlevel.checkpoint()
        tasks.start_soon(read, given_up)
        await anyio.lowlevel.checkpoint()
        given_up.cancel()
        tasks.start_soon(read, anyio.CancelScope())
        await host.wait()
        tasks.cancel_scope.cancel()
    ended = await host.wait()
    if ended.signal != "SIGKILL":
        raise RuntimeError(f"the child of seed {seed} ended by itself: {ended}")
    account.end(ended.reason)
    return account, _without_numbers(ended.reason)


def _without_numbers(reason: str) -> str:
    text = reason.removeprefix("it broke the protocol: ")
    if text == reason:
        raise RuntimeError(f"a child was killed for something else: {reason}")
    text = text.removeprefix("the child sent a frame that does not fit the protocol: ").partition(" - at ")[0]
    return "".join("n" if each.isdigit() else each for each in text)


def _sample(found: Run) -> Sample:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Sample(found.account.messages, found.launches, resident, len(os.listdir("/proc/self/fd")))
