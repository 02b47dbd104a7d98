"""``scripts/fuzz [TARGET ...] [--seconds N]``: hostile bytes, guided by what they reach, at each place that takes any.

An input that is a finding is kept in ``.fuzz/TARGET/found``; ``--try FILE`` gives it to the target once more.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .target import Judge, load, names

HOME = Path(".fuzz")
LONGEST = 20_000
"""Bytes of an input."""

MOST_MEMORY = 1024
"""MiB of the fuzzer's process."""

SLOWEST = 20
"""Seconds for one input."""

_STATUS = re.compile(r"#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+) corp: (\d+)/.*exec/s: (\d+) rss: (\d+)Mb")


class Outcome(NamedTuple):
    """What a target has come to."""

    inputs: int = 0
    reached: int = 0
    features: int = 0
    corpus: int = 0
    rate: int = 0
    memory: int = 0
    said: str = ""
    """Its last words, if something was found."""


def fuzz(name: str, seconds: int, progress: Progress) -> Outcome:
    """Fuzz the target *name*, beginning with its examples and what earlier runs kept."""
    home = HOME / name
    for folder in (home / "corpus", home / "found"):
        folder.mkdir(parents=True, exist_ok=True)
    for example in load(name).examples():
        (home / "corpus" / hashlib.sha1(example, usedforsecurity=False).hexdigest()).write_bytes(example)
    limits = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-timeout={SLOWEST}",
        f"-rss_limit_mb={MOST_MEMORY}",
    ]
    own = [str(home / "corpus"), f"-artifact_prefix={home / 'found'}/"]
    argv = [sys.executable, "-m", f"{__package__}.one", name, *limits, *own]
    task = progress.add_task(name, total=seconds, now="begins")
    with subprocess.Popen(argv, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, errors="replace") as run:
        assert run.stdout is not None
        last, outcome = deque[str](maxlen=40), Outcome()
        for line in run.stdout:
            last.append(line)
            if (found := _STATUS.match(line)) is not None:
                outcome = Outcome._make([*map(int, found.groups()), ""])
                now = f"{outcome.inputs} inputs, {outcome.rate}/s, {outcome.features} features, {outcome.memory} MiB"
                progress.update(task, now=now, completed=progress.tasks[task].elapsed)
    progress.update(task, completed=seconds)
    return outcome._replace(said="".join(last)) if run.returncode else outcome


def main() -> int:
    """Fuzz and print a table; 1 if something was found."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"by default all: {', '.join(names())}")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--try", dest="file", type=Path, help="give this input to the target, and nothing else")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(names()):
        parser.error(f"there is no target {', '.join(sorted(unknown))} (there are: {', '.join(names())})")
    if options.file:
        Judge(load(options.targets[0]))(options.file.read_bytes())
        return 0
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[now]}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        found = {name: fuzz(name, options.seconds, progress) for name in options.targets or names()}
    show(found)
    return int(any(outcome.said for outcome in found.values()))


def show(found: dict[str, Outcome]) -> None:
    """Print what each target has come to, and what was found."""
    table = Table("target", *("inputs", "reached", "features", "corpus", "inputs/s", "MiB"), "", title_justify="left")
    for name, outcome in found.items():
        *numbers, said = outcome
        table.add_row(name, *map(str, numbers), f"FOUND, see .fuzz/{name}/found" if said else "nothing found")
    Console().print(table)
    for name, outcome in found.items():
        if outcome.said:
            print(f"fuzz: {name}:\n{outcome.said}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
