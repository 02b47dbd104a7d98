"""``scripts/bench ipc``: see the package."""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from belljar.host.command.run import pretty_json

from . import page, plot
from .driver import Driver, profile
from .results import Measured, Results, lines, plain, verdicts, works_of
from .work import MODES, Mode, Work
from .works import WORKS


def measure(works: Sequence[Work], *, rounds: int, seconds: float, both_modes: bool) -> Results:
    """Measure each work in each mode, its rows in turns."""
    cores = os.sched_getaffinity(0)
    runs: list[tuple[Work, Mode]] = [
        (work, mode) for work in works for mode in MODES if both_modes or mode == work.judged
    ]
    total = sum((rounds + 1) * len(work.rows) for work, _ in runs)
    results: dict[tuple[str, Mode], dict[str, Measured]] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)
        for work, mode in runs:
            progress.update(task, description=f"{work.title}, {mode}")
            os.sched_setaffinity(0, cores if mode == "free" else {min(cores)})  # drivers and children inherit it
            results[work.name, mode] = _turns(work, rounds, seconds * work.longer, lambda: progress.advance(task))
            os.sched_setaffinity(0, cores)
    return results


def _turns(work: Work, rounds: int, seconds: float, done: Callable[[], None]) -> dict[str, Measured]:
    drivers = [Driver(work, row) for row in work.rows]
    try:
        for driver in drivers:
            driver.ready()
            done()
        for _ in range(rounds):
            for driver in random.sample(drivers, len(drivers)):  # none always follows the same one
                driver.measure(seconds)
                done()
    finally:
        for driver in drivers:
            driver.end()
    return {driver.row.name: Measured(driver.samples, driver.failure) for driver in drivers}


def show(results: Results) -> None:
    """Print a table for each work and mode, and the goals."""
    console = Console()
    for work, mode, found in works_of(results):
        more = "slower" if work.unit == "us" else "faster"
        table = Table("", work.unit, "p99", f"x {more} than {work.base}", title=f"{work.title}, {mode}")
        for line in lines(work, found):
            table.add_row(line.name, line.median or f"[red]{line.failure[:100]}[/]", line.p99, line.ratio)
        table.title_justify = "left"
        console.print(table)
    goals = Table("work", "goal", "found", "", title="goals", title_justify="left")
    for each in verdicts(results):
        goals.add_row(each.goal.text, each.wanted, each.found, each.word)
    console.print(goals)


def _profile(works: Sequence[Work], name: str) -> int:
    rows = {row.name: row for work in works for row in work.rows}
    if len(works) != 1 or name not in rows:
        print(f"bench: --profile needs --only WORK and one of its rows: {'; '.join(rows)}", file=sys.stderr)
        return 2
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    profile(rows[name])
    return 0


def main() -> int:
    """Measure, print, and after a whole run write the page and the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [work.name for work in WORKS]
    parser.add_argument("--only", action="append", choices=names, help="one work; may be given several times")
    parser.add_argument("--quick", action="store_true", help="a rough picture in half a minute; writes nothing")
    parser.add_argument("--rounds", type=int, help="10, or 3 with --quick")
    parser.add_argument(
        "--profile", metavar="ROW", help="say where the host's time goes in a row of the work of --only"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    works = [work for work in WORKS if not options.only or work.name in options.only]
    if options.profile:
        return _profile(works, options.profile)
    results = measure(
        works,
        rounds=options.rounds or (3 if options.quick else 10),
        seconds=0.03 if options.quick else 0.1,
        both_modes=not options.quick,
    )
    if options.json:
        print(pretty_json({**plain(results), "machine": page.machine()}))
    else:
        show(results)
    if not options.quick and len(works) == len(WORKS):
        page.write(results)
        plot.draw(results, page.PLOT)
        print(f"bench: wrote {page.PAGE} and {page.PLOT.name}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
