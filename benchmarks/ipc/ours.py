"""What the rows of belljar have in common: process types, hosts, and a host without a loop."""

from __future__ import annotations

import importlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from belljar import Policy, Process, ProcessHost

from .work import Opened, Run

FOLDER = Path(__file__).parent
ECHO = f"{FOLDER.parent / 'plugin.py'}:Echo"
LARGE = f"{FOLDER / 'plugin.py'}:Large"
SOURCE = f"{FOLDER.parent / 'plugin.py'}:Source"


class Echo(Protocol):
    """What the small plugin can do."""

    async def echo(self, data: bytes) -> bytes:
        """Return *data*."""
        ...


class PlainEcho(Protocol):
    """The same for a SyncHost."""

    def echo(self, data: bytes) -> bytes:
        """Return *data*."""
        ...


class Source(Protocol):
    """What the plugin of streams can do."""

    def items(self, count: int) -> AsyncIterator[bytes]:
        """Yield *count* items of 1 KiB."""
        ...


class PlainSource(Protocol):
    """The same for a SyncHost."""

    def items(self, count: int) -> Iterator[bytes]:
        """Yield *count* items of 1 KiB."""
        ...


def process(plugin: str, **fields: Any) -> Process:
    """Return a process type under the policy of the other benchmarks."""
    return Process(plugin=plugin, policy=Policy.media(), **fields)


@asynccontextmanager
async def hosts(count: int, plugin: str, **fields: Any) -> AsyncGenerator[list[ProcessHost]]:
    """Launch *count* sealed children."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(ProcessHost(process(plugin, **fields))) for _ in range(count)]


@contextmanager
def sync_host(plugin: str) -> Generator[Any]:
    """Launch a sealed child without an event loop."""
    belljar: Any = importlib.import_module("belljar")
    with belljar.SyncHost(process(plugin)) as host:
        yield host


def on_one(plugin: str, make: Callable[[ProcessHost], Run], **fields: Any) -> Callable[[], Opened]:
    """Return what opens a row of one child; *make* makes its run."""

    @asynccontextmanager
    async def open_row() -> AsyncGenerator[Run]:
        async with hosts(1, plugin, **fields) as (host,):
            yield make(host)

    return open_row
