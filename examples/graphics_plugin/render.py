"""Children that draw, at once and in turns, each frame timed by the host."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from belljar import Process, ProcessHost, Step

from .interfaces import HEIGHT, WIDTH, Painter

STEP = "graphics-egl"


@dataclass
class Drawn:
    """One child, its driver, and what it drew: milliseconds a frame, each time; and the frames of the last time."""

    host: ProcessHost
    renderer: str
    took: list[float] = field(default_factory=list[float])
    frames: list[bytes] = field(default_factory=list[bytes])

    @property
    def milliseconds(self) -> float:
        """The median of a frame, until it is in the host's memory."""
        return statistics.median(self.took)

    @property
    def threads(self) -> dict[str, int]:
        """How many threads graphics left behind, by their names."""
        return dict(self.host.early_init[STEP].left.threads)


def speed(drawn: Drawn, other: Drawn) -> float:
    """How fast *drawn* is as a part of *other*: the median over all times, for neighbours have the same machine."""
    return statistics.median(theirs / ours for ours, theirs in zip(drawn.took, other.took, strict=True))


def with_backend(process: Process, backend: str) -> Process:
    """*process* on another backend."""
    return msgspec.structs.replace(process, backend=backend)


def sealed_first(process: Process, *, force: bool) -> Process:
    """*process* with graphics in the wrong place, after the seal; with *force* it is launched all the same."""
    late = tuple(
        msgspec.structs.replace(step, declared={"after": ("seal",)})
        for step in process.early_init
        if isinstance(step, Step)
    )
    return msgspec.structs.replace(process, early_init=late, force_plan=force)


@asynccontextmanager
async def painters(processes: Sequence[Process]) -> AsyncGenerator[list[Drawn]]:
    """Launch a child of each of *processes*. Raises BelljarError where one cannot be launched."""
    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(ProcessHost(process)) for process in processes]
        yield [Drawn(host, await host.proxy(Painter).renderer()) for host in hosts]


async def draw(drawn: Drawn, turns: list[float]) -> None:
    """Have a frame drawn for each of *turns*; the child draws ahead as far as the stream lets it.

    Raises BelljarError if the child fails or dies, and ValueError if it sends too few.
    """
    began = time.perf_counter()
    drawn.frames = []
    async with aclosing(drawn.host.proxy(Painter).frames(turns, WIDTH, HEIGHT)) as frames:
        async for frame in frames:
            drawn.frames.append(bytes(frame))
            if len(drawn.frames) == len(turns):  # it may send more, but nobody waits for them
                break
    if len(drawn.frames) < len(turns):
        raise ValueError(f"the child sent {len(drawn.frames)} frames when asked for {len(turns)}")
    drawn.took.append((time.perf_counter() - began) * 1000 / len(turns))
