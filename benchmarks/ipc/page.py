"""docs/performance.md: goals met and missed, every table, the machine. What stands below "Notes" there is kept."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from .results import Results, lines, verdicts, works_of

PAGE = Path(__file__).parents[2] / "docs/performance.md"
PLOT = PAGE.with_suffix(".svg")
NOTES = "\n## Notes\n"
VERSIONS = ("belljar", "msgspec", "anyio", "trio", "uvloop", "pyzmq", "numpy")

_INTRODUCTION = """\
# Performance

Calls, streams and large data, beside what else Python offers. Written by `scripts/bench ipc` ({date}), which takes a
few minutes; `scripts/bench ipc --quick` prints a rough picture and writes nothing.

- Each row runs in a process of its own. The rows of a table take turns, in rounds and in a new order each time.
- **Only ratios travel** from machine to machine. A ratio is the median of the ratios within each round.
- *one core*: both sides are pinned to one core, which shows what the code costs. *free*: the scheduler decides. Where
  cores sleep, waking the other one takes longer than a call, so calls are judged on one core.
- The children of belljar are sealed and verified (backend `namespaces`), and every message is checked: credentials,
  types, bounds. The peers check nothing, and all of multiprocessing but "bytes" lets the other side run code here.

![the medians, as bars](performance.svg)

## Goals
"""


def write(results: Results, page: Path = PAGE) -> None:
    """Write the page; what somebody wrote below its notes stays."""
    old = page.read_text() if page.exists() else ""
    _, heading, notes = old.partition(NOTES)
    page.write_text("\n".join(_text(results)) + heading + notes)


def _text(results: Results) -> Iterator[str]:
    yield _INTRODUCTION.format(date=datetime.datetime.now(tz=datetime.UTC).date())
    yield from ("| work | goal | found | |", "| --- | --- | --- | --- |")
    for each in verdicts(results):
        yield f"| {each.goal.text} | {each.wanted} | {each.found} | {each.word} |"
    for work, mode, found in works_of(results):
        unit = f"median {work.unit}"
        more = "slower" if work.unit == "us" else "faster"
        yield from ("", f"## {work.title[0].upper()}{work.title[1:]}, {mode}", "")
        yield from (f"| | {unit} | p99 | times {more} than {work.base} |", "| --- | ---: | ---: | ---: |")
        for line in lines(work, found):
            median = line.median or f"not measured ({line.failure.partition(':')[0]})"  # its text may name paths
            yield f"| {line.name} | {median} | {line.p99} | {line.ratio} |"
    yield from ("", "## The machine", "", machine(), "")


def machine() -> str:
    """Return what the run ran on, in one paragraph."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in VERSIONS)
    return (
        f"{os.cpu_count()} cores ({model.group(1) if model else platform.machine()}), {memory:.0f} GiB, Linux "
        f"{platform.release().partition('-')[0]}, Python {platform.python_version()}, {versions}."
    )
