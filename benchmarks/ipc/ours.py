"""What the rows of belljar have in common: process types, hosts, and a host without a loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from belljar import Policy, Process, ProcessHost, SyncHost

from .work import Opened, Run

FOLDER = Path(__file__).parent
ECHO = f"{FOLDER.parent / 'plugin.py'}:Echo"
LARGE = f"{FOLDER / 'plugin.py'}:Large"
SOURCE = f"{FOLDER.parent / 'plugin.py'}:Source"


def process(plugin: str, **fields: Any) -> Process:
    """Return a process type under the policy of the other benchmarks."""
    return Process(plugin=plugin, policy=Policy.media(), **fields)


@asynccontextmanager
async def hosts(count: int, plugin: str, **fields: Any) -> AsyncGenerator[list[ProcessHost]]:
    """Launch *count* sealed children."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(ProcessHost(process(plugin, **fields))) for _ in range(count)]


@contextmanager
def sync_host(plugin: str) -> Generator[SyncHost]:
    """Launch a sealed child without an event loop."""
    with SyncHost(process(plugin)) as host:
        yield host


def on_one(plugin: str, make: Callable[[ProcessHost], Run], **fields: Any) -> Callable[[], Opened]:
    """Return what opens a row of one child; *make* makes its run."""

    @asynccontextmanager
    async def open_row() -> AsyncGenerator[Run]:
        async with hosts(1, plugin, **fields) as (host,):
            yield make(host)

    return open_row
