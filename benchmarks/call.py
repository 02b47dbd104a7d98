"""``scripts/bench call``: a 64-byte call to one process and back, belljar and its peers, in interleaved rounds.

On a machine whose cores sleep, waking the other core costs more than any of the code here, so all of it runs twice:
pinned to one core (what the code costs), and free (what the scheduler makes of it).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing as mp
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import anyio

from belljar import Policy, Process, ProcessHost, stop

from . import peers
from .report import show

MESSAGE = b"x" * 64
PLUGIN = str(Path(__file__).parent / "plugin.py") + ":Echo"


class Echo(Protocol):
    """What the plugin can do."""

    async def echo(self, data: bytes) -> bytes:
        """Return *data*."""
        ...


async def time_calls(call: Callable[[], Awaitable[object]], count: int) -> float:
    """Return the microseconds of one of *count* calls."""
    began = time.perf_counter()
    for _ in range(count):
        await call()
    return (time.perf_counter() - began) / count * 1e6


async def run(rounds: int, count: int, backend: str) -> dict[str, list[float]]:
    """Measure every row once a round."""
    samples: dict[str, list[float]] = {}
    sock, raw_pid = peers.raw_seqpacket()
    ours, theirs = mp.Pipe()
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(ProcessHost(Process(plugin=PLUGIN, policy=Policy.media())))
        pool = stack.enter_context(concurrent.futures.ProcessPoolExecutor(1, mp_context=mp.get_context("spawn")))
        process = mp.get_context("fork").Process(target=peers.serve, args=(theirs,))
        process.start()
        proxy = host.proxy(Echo)

        async def raw() -> None:
            sock.send(MESSAGE)
            sock.recv(65_536)

        async def pipe() -> None:
            ours.send_bytes(MESSAGE)
            ours.recv_bytes()

        async def submit() -> None:
            pool.submit(peers.echo, MESSAGE).result()

        rows: dict[str, Callable[[], Awaitable[object]]] = {
            "raw SEQPACKET, blocking": raw,
            "multiprocessing Pipe, bytes": pipe,
            f"belljar call, {backend}": lambda: host.call("echo", MESSAGE),
            f"belljar proxy (typed), {backend}": lambda: proxy.echo(MESSAGE),
            "ProcessPoolExecutor.submit": submit,
        }
        for name, row in rows.items():
            await time_calls(row, count // 5)
            samples[name] = []
        for _ in range(rounds):
            for name, row in rows.items():
                samples[name].append(await time_calls(row, count))
        ours.send_bytes(b"end")
        process.join()
        sock.close()
        os.waitpid(raw_pid, 0)  # noqa: ASYNC222 - it has read end of file
    return samples


def main() -> None:
    """Run pinned and free, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cores = os.sched_getaffinity(0)
    for title, allowed in (("one core", {min(cores)}), ("free", cores)):
        stop()  # guard and zygote inherit the affinity
        os.sched_setaffinity(0, allowed)
        for backend in ("asyncio", "trio"):
            samples = anyio.run(run, options.rounds, options.count, backend, backend=backend)
            text = f"64-byte call and answer, {title}, {backend}"
            show(text, "us", samples, "raw SEQPACKET, blocking", as_json=options.json)


if __name__ == "__main__":
    main()
