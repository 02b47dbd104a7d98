"""``scripts/bench backends``: each backend from nothing to the first answer, beside the bare tool it stands on.

The bare tools start the same interpreter, which answers once over a pipe: alone, and after the imports that a child
makes before its seal (what is not loaded by then never will be). They neither seal nor verify. *launch* is made while
the guard, and the zygote where the backend has one, run; *first* is an application's first, which starts those too.
Interleaved rounds; only the ratios travel from machine to machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
from rich.console import Console
from rich.table import Table

from belljar import Policy, Process, ProcessHost, stop
from belljar.host.command.run import pretty_json
from belljar.sandbox.backends import BACKENDS, bubblewrap
from belljar.sandbox.programs import BWRAP, CHROME_SANDBOX, find
from belljar.sandbox.user import User, resolve_user

MESSAGE = b"x" * 64
PLUGIN = str(Path(__file__).parent / "plugin.py") + ":Echo"
ANSWER = "import os; os.write(1, os.read(0, 64))"
IMPORTS = "from belljar.child import stages, warm; warm.standard_library(); "
GOAL = 1.3

TOOLS = {
    "namespaces": "unshare",
    "chrome-sandbox": "chrome-sandbox",
    "bubblewrap": "bwrap",
    "landlock": "python",
    "seccomp": "python",
    "none": "python",
}
"""Backend -> the bare tool beside it; a tool of the same kind where the backend stands on none."""


def prefix(tool: str) -> list[str]:
    """Return what stands before the interpreter."""
    if tool == "bwrap":
        view = ["--ro-bind", "/", "/", "--proc", "/proc", "--remount-ro", "/", "--"]
        return [find(BWRAP), *bubblewrap.options(share_network=False), *view]
    if tool == "chrome-sandbox":
        return [find(CHROME_SANDBOX)]
    return (
        ["unshare", "--user", "--pid", "--fork", "--net", "--ipc", "--mount", "--uts", "--cgroup"]
        if tool == "unshare"
        else []
    )


def bare(tool: str, code: str, user: User, id_fd: int) -> float:
    """Start an interpreter by *tool*, ask it once; return the milliseconds until the answer was there."""
    argv = [*prefix(tool), sys.executable, "-I", "-c", code]
    began = time.perf_counter()
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(id_fd,),
        env={"SBX_CHROME_API_RQ": "1", "PATH": os.defpath},
        user=user.uid if os.geteuid() == 0 else None,
        group=user.gid if os.geteuid() == 0 else None,
        extra_groups=user.groups if os.geteuid() == 0 else None,
    ) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        started.stdin.write(MESSAGE)
        started.stdin.flush()
        assert started.stdout.read(len(MESSAGE)) == MESSAGE
        return (time.perf_counter() - began) * 1000


async def launch(backend: str) -> float:
    """Launch a sealed and verified child, ask it once; return the milliseconds until the answer was there."""
    began = time.perf_counter()
    async with ProcessHost(Process(plugin=PLUGIN, policy=Policy.media(), backend=backend)) as host:
        assert await host.call("echo", MESSAGE) == MESSAGE
        return (time.perf_counter() - began) * 1000


def warm(backend: str) -> float:
    """Launch while all runs that launches share."""
    return anyio.run(launch, backend)


def cold(backend: str) -> float:
    """Launch with nothing running yet; what the machine can do has been probed."""
    stop()
    return anyio.run(launch, backend)


def below(outer_pid: int) -> list[int]:
    """Return the processes below *outer_pid*, nearest first."""
    found = [
        int(word)
        for task in Path(f"/proc/{outer_pid}/task").iterdir()
        for word in (task / "children").read_text().split()
    ]
    return found + [inner for child in found for inner in below(child)]


def pss(pids: list[int]) -> float:
    """Return the proportional memory of processes in MiB."""
    texts = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(int(line.split()[1]) / 1024 for text in texts for line in text.splitlines() if line.startswith("Pss:"))


async def footprint(backend: str, count: int = 4) -> tuple[float, float]:
    """Return processes and MiB that one idle child costs: those of *count* children and their helpers, divided."""
    process = Process(plugin=PLUGIN, policy=Policy.media(), backend=backend)
    async with ProcessHost(process):  # guard and zygote are there from now on
        before = below(os.getpid())
        memory_before = pss(before)
        hosts = [ProcessHost(process) for _ in range(count)]
        for host in hosts:
            await host.__aenter__()
        after = below(os.getpid())
        memory_after = pss(after)
        for host in reversed(hosts):
            await host.__aexit__(None, None, None)
    return (len(after) - len(before)) / count, (memory_after - memory_before) / count


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    user = resolve_user("")
    reader, writer = os.pipe()
    os.close(writer)
    id_fd = 7  # chrome-sandbox wants it open
    os.dup2(reader, id_fd)
    rows: dict[tuple[str, str], Callable[[], float]] = {}
    for backend, tool in TOOLS.items():
        rows[backend, "warm"] = partial(warm, backend)
        rows[backend, "cold"] = partial(cold, backend)
        rows[backend, "bare"] = partial(bare, tool, ANSWER, user, id_fd)
        rows[backend, "bare, same imports"] = partial(bare, tool, IMPORTS + ANSWER, user, id_fd)
    samples: dict[tuple[str, str], list[float]] = {key: [] for key in rows}
    for backend in TOOLS:
        anyio.run(launch, backend)  # probes, filters, bytecode
    for _ in range(options.rounds):
        for (backend, kind), row in rows.items():
            if kind == "warm":
                anyio.run(launch, backend)  # cold ended everything
            samples[backend, kind].append(row())
    costs = {backend: anyio.run(footprint, backend) for backend in TOOLS}
    show(samples, costs, as_json=options.json)


def show(samples: dict[tuple[str, str], list[float]], costs: dict[str, tuple[float, float]], *, as_json: bool) -> None:
    """Print medians, ratios and costs."""
    rows: dict[str, dict[str, float]] = {}
    for backend in BACKENDS:
        kinds = ("warm", "cold", "bare", "bare, same imports")
        launched, first, alone, imports = (statistics.median(samples[backend, kind]) for kind in kinds)
        rows[backend] = {
            "launch": launched,
            "first": first,
            "bare": alone,
            "bare+": imports,
            "launch/bare": launched / alone,
            "launch/bare+": launched / imports,
            "first/bare+": first / imports,
            "processes": costs[backend][0],
            "pss": costs[backend][1],
        }
    if as_json:
        print(pretty_json(rows))
        return
    names = list(next(iter(rows.values())))
    for title, shown in (
        (
            "from nothing to the first answer: median ms (bare: the tool alone; bare+: with a child's imports)",
            names[:4],
        ),
        (f"ratios (goal {GOAL}), processes and PSS in MiB that one more idle child costs", names[4:]),
    ):
        table = Table("backend", "tool", *shown, title=title, title_justify="left")
        for backend, row in rows.items():
            table.add_row(backend, TOOLS[backend], *(f"{row[name]:.2f}" for name in shown))
        Console(width=110).print(table)


if __name__ == "__main__":
    main()
