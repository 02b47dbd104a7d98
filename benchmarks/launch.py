"""``scripts/bench launch``: from nothing to the first answer, belljar and its peers, in interleaved rounds.

belljar's time is that of a sealed *and verified* child; the peers confine nothing. Also shown: where the time goes
by stage, the cold start with guard, helper and zygote, and the memory (PSS) of each process.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import anyio
from rich.console import Console
from rich.table import Table

from belljar import Policy, Process, ProcessHost, stop

from . import peers
from .report import show

MESSAGE = b"x" * 64
PLUGIN = str(Path(__file__).parent / "plugin.py") + ":Echo"


async def launch_once(backend: str, timelines: list[dict[str, float]]) -> float:
    """Launch, ask once; return the milliseconds until the answer was there. Ending is not counted."""
    process = Process(plugin=PLUGIN, policy=Policy.media(), backend=backend)
    began = time.perf_counter()
    async with ProcessHost(process) as host:
        assert await host.call("echo", MESSAGE) == MESSAGE
        took = (time.perf_counter() - began) * 1000
        timelines.append(dict(host.timeline))
    return took


def timed(action: Callable[[], None]) -> float:
    """Return the milliseconds that *action* takes."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def pss(outer_pid: int) -> float:
    """Return the proportional memory of a process in MiB."""
    text = Path(f"/proc/{outer_pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("Pss:"))


async def memory(count: int) -> float:
    """Return the median PSS of *count* idle children in MiB."""
    result = 0.0
    async with anyio.create_task_group() as tasks:
        ready: list[int] = []
        all_ready, done = anyio.Event(), anyio.Event()

        async def hold() -> None:
            async with ProcessHost(Process(plugin=PLUGIN, policy=Policy.media())) as host:
                assert host.child_pid is not None
                ready.append(host.child_pid)
                if len(ready) == count:
                    all_ready.set()
                await done.wait()

        for _ in range(count):
            tasks.start_soon(hold)
        await all_ready.wait()
        result = statistics.median(pss(child_pid) for child_pid in ready)
        done.set()
    return result


async def warm_up(backend: str) -> float:
    """Launch once without keeping its timeline."""
    nowhere: list[dict[str, float]] = []
    return await launch_once(backend, nowhere)


async def cold() -> float:
    """Return the milliseconds of a launch that must start guard, helper and zygote."""
    stop()
    return await warm_up("namespaces")


def main() -> None:
    """Run the rounds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    samples: dict[str, list[float]] = {}
    timelines: list[dict[str, float]] = []
    anyio.run(warm_up, "namespaces")  # warm zygote
    peers.start_and_ask("forkserver", MESSAGE)  # warm forkserver
    rows: dict[str, Callable[[], None]] = {
        "multiprocessing fork": lambda: peers.start_and_ask("fork", MESSAGE),
        "multiprocessing forkserver": lambda: peers.start_and_ask("forkserver", MESSAGE),
        "multiprocessing spawn": lambda: peers.start_and_ask("spawn", MESSAGE),
        "ProcessPoolExecutor spawn": lambda: peers.start_pool_and_ask(MESSAGE),
    }
    for _ in range(options.rounds):
        anyio.run(launch_three, timelines, samples)
        for name, row in rows.items():
            samples.setdefault(name, []).append(timed(row))
    samples["belljar namespaces, cold"] = [anyio.run(cold) for _ in range(5)]
    samples["belljar none (exec, confines nothing)"] = [anyio.run(warm_up, "none") for _ in range(5)]
    show("launch to first answer", "ms", samples, "multiprocessing forkserver", as_json=options.json)
    if not options.json:
        show_stages(timelines)
        print(f"PSS of an idle sealed child, median of 20: {anyio.run(memory, 20):.2f} MiB")


async def launch_three(timelines: list[dict[str, float]], samples: dict[str, list[float]]) -> None:
    """Launch three times in one event loop, whose own start does not count."""
    for _ in range(3):
        took = await launch_once("namespaces", timelines)
        samples.setdefault("belljar namespaces (sealed, verified)", []).append(took)


def show_stages(timelines: list[dict[str, float]]) -> None:
    """Print the median milliseconds of each stage."""
    table = Table("stage", "median ms", title="belljar namespaces, by stage", title_justify="left")
    for name in timelines[0]:
        table.add_row(name, f"{statistics.median(timeline[name] for timeline in timelines):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
