"""A plugin whose methods are asynchronous, but for some."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator

from belljar import Cancelled, checkpoint, handed, notify, service

from .interfaces import Records


class Looped:
    """Meets, waits, counts, and asks its host."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.seen = 0
        self.met = asyncio.Event()
        self.background = asyncio.create_task(self.tick())

    async def tick(self) -> None:
        """Count the turns of the loop; made while the plugin is."""
        while True:
            self.seen += 1
            await asyncio.sleep(0.001)

    async def ticks(self) -> int:
        return self.seen

    async def meet(self, number: int) -> int:
        """Wait for the one who comes with 0."""
        if number == 0:
            self.met.set()
        await self.met.wait()
        return number

    async def wait(self) -> None:
        """Wait for ever."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.log.append("wait")
            raise

    async def ended(self) -> list[str]:
        return self.log

    def plain(self, text: str) -> str:
        return text.upper()

    async def count(self, limit: int) -> AsyncIterator[int]:
        try:
            for number in range(limit):
                yield number
        finally:
            self.log.append("count")

    def count_plainly(self, limit: int) -> Iterator[int]:
        yield from range(limit)

    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    async def doubled(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        async for number in numbers:
            yield 2 * number

    async def leave(self) -> None:
        sys.exit(7)

    async def in_thread(self) -> str:
        """Compute in a thread until the call is given up."""
        try:
            await asyncio.to_thread(self.compute)
        except asyncio.CancelledError:
            await asyncio.to_thread(self.joined.wait)
            self.log.append("in_thread")
            raise
        return "done"

    def compute(self) -> None:
        """Look around until told to end."""
        self.joined = threading.Event()
        try:
            while True:
                checkpoint()
                threading.Event().wait(0.001)
        except Cancelled:
            self.joined.set()

    async def ask(self, key: str) -> str:
        """Use each kind of method of a service."""
        records = service(Records)

        async def chunks() -> AsyncIterator[bytes]:
            yield b"ab"
            yield b"c"

        await records.hint(key)
        keys = [each async for each in records.keys(3)]
        content, stored = await asyncio.gather(records.read(key), records.store(chunks()))
        return f"{content.decode()} {stored} {','.join(keys)}"

    async def slowly(self) -> str:
        """Answer once nothing else is to be done."""
        handed("asyncio").call_later(0.05, self.met.set)
        await self.met.wait()
        return "slowly"

    @notify
    async def remember(self, text: str) -> None:
        self.log.append(text)
