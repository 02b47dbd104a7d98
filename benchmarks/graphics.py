"""``scripts/bench graphics``: what a seal costs a child that draws, and one that decodes; and what early init costs.

The same process type twice, sealed by its backend and not (``none``), asked in turns within one run. *ratio* is the
speed of the sealed child as a part of the other's: the goal is 0.95, and less than 0.8 is a defect. A frame of 1080p is
mostly drawing; one of 180p mostly the call, and the driver's threads that wake each other. *decode* takes sixteen small
frames from the clip of the media example.

For each early-init step, the milliseconds in a child that was executed, as under ``none``, and in one from a zygote
(``namespaces``), which has run beforehand what it may share: 0 for a step that is shared. An OpenGL context has
threads, so it is made anew in each child.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import msgspec
from rich.console import Console
from rich.table import Table

from belljar import BelljarError, Process, ProcessHost, load_config
from belljar.host.command.run import pretty_json
from examples.graphics_plugin.interfaces import Painter

EXAMPLES = Path(__file__).parents[1] / "examples"
SIZES = {"frame, 1920 x 1080": (1920, 1080), "frame, 320 x 180": (320, 180)}
GOAL, DEFECT = 0.95, 0.8
TYPES = (("graphics_plugin", "painter"), ("media_plugin_host", "thumbnailer"), ("media_plugin_host", "video"))

Work = Callable[[ProcessHost], Awaitable[object]]
Samples = dict[str, dict[str, list[float]]]


def process(example: str, name: str) -> Process:
    """Return a process type of an example."""
    return load_config(EXAMPLES / example / "belljar.toml").process(name)


def works() -> dict[str, tuple[Process, Work]]:
    """Return what is measured: the process type, and one piece of work."""
    painter = process("graphics_plugin", "painter")
    rows = {name: (painter, frame_of(*size)) for name, size in SIZES.items()}
    return {**rows, "decode, 16 small frames": (process("media_plugin_host", "video"), decoding())}


def frame_of(width: int, height: int) -> Work:
    """Return the work of drawing one frame."""

    async def draw(host: ProcessHost) -> None:
        async for _ in host.proxy(Painter).frames([0.1], width, height):
            pass

    return draw


def decoding() -> Work:
    """Return the work of decoding the H.264 clip of the media example, which is a folder of scripts."""
    sys.path.insert(0, str(EXAMPLES / "media_plugin_host"))
    from interfaces import Video
    from media import h264_clip

    clip = h264_clip().data

    async def decode(host: ProcessHost) -> None:
        async for _ in host.proxy(Video).frames(clip, 16, 160):
            pass

    return decode


async def measure(rounds: int) -> Samples:
    """Ask each pair of children in turns; return milliseconds by work, and by sealed or free."""
    samples: Samples = {}
    for name, (sealed, work) in works().items():
        async with AsyncExitStack() as stack:
            hosts = {
                "sealed": await stack.enter_async_context(ProcessHost(sealed)),
                "free": await stack.enter_async_context(ProcessHost(msgspec.structs.replace(sealed, backend="none"))),
            }
            taken: dict[str, list[float]] = {kind: [] for kind in hosts}
            for host in hosts.values():
                await work(host)  # the driver compiles
            for number in range(rounds):
                for kind in sorted(hosts, reverse=bool(number % 2)):
                    taken[kind].append(await timed(work(hosts[kind])))
            samples[name] = taken
    return samples


async def timed(work: Awaitable[object]) -> float:
    """Return the milliseconds that *work* takes."""
    began = time.perf_counter()
    await work
    return (time.perf_counter() - began) * 1000


async def early_init(launches: int) -> dict[str, dict[str, float]]:
    """Return the median milliseconds of each step of each of `TYPES`, by where it ran; 0 where it need not."""
    rows: dict[str, dict[str, float]] = {}
    for example, name in TYPES:
        shared = process(example, name)
        for kind, chosen in {"executed": msgspec.structs.replace(shared, backend="none"), "zygote": shared}.items():
            taken: dict[str, list[float]] = {}
            for _ in range(launches + 1):
                async with ProcessHost(chosen) as host:
                    for step in host.early_init.values():
                        taken.setdefault(step.name, []).append(step.took)
            for step_name, times in taken.items():
                row = rows.setdefault(f"{name}: {step_name}", {"executed": 0.0, "zygote": 0.0})
                row[kind] = statistics.median(times[1:] or [0.0])  # the first launch also fills caches
    return rows


def main() -> int:
    """Run the rounds and print the tables; the exit code is 1 for a defect, 2 where it cannot be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--launches", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        samples = anyio.run(measure, options.rounds)
        steps = anyio.run(early_init, options.launches)
    except BelljarError as error:
        print(f"error: {error} (scripts/setup --graphics installs what it needs)", file=sys.stderr)
        return 2
    rows = {name: row_of(taken) for name, taken in samples.items()}
    if options.json:
        print(pretty_json({"speed": rows, "early init": steps}))
    else:
        show(rows, steps)
    return int(any(row["ratio"] < DEFECT for row in rows.values()))


def row_of(taken: dict[str, list[float]]) -> dict[str, float]:
    """Return medians, and the median ratio of the speeds in a round: two neighbours have the same machine."""
    ratios = [free / sealed for sealed, free in zip(taken["sealed"], taken["free"], strict=True)]
    return {**{kind: statistics.median(times) for kind, times in taken.items()}, "ratio": statistics.median(ratios)}


def show(rows: dict[str, dict[str, float]], steps: dict[str, dict[str, float]]) -> None:
    """Print the tables."""
    speed = Table("", "sealed", "none", "ratio", title=f"median ms, and ratio of speeds (goal {GOAL})")
    for name, row in rows.items():
        speed.add_row(name, f"{row['sealed']:.2f}", f"{row['free']:.2f}", f"{row['ratio']:.3f}")
    early = Table("", "executed", "zygote", title="each step of early init, median ms")
    for name, row in steps.items():
        early.add_row(name, f"{row['executed']:.2f}", f"{row['zygote']:.2f}")
    for table in (speed, early):
        table.title_justify = "left"
        Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
