"""What came of a run: medians, ratios of neighbours in time, and whether the goals were met."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from .work import Mode, Unit, Work
from .works import GOALS, WORKS, Goal


@dataclass(frozen=True)
class Measured:
    """The samples of one row by round, in seconds an operation, or why there are none."""

    rounds: list[list[float]]
    failure: str = ""

    @property
    def median(self) -> float:
        """Seconds an operation."""
        return statistics.median(sample for found in self.rounds for sample in found)

    @property
    def p99(self) -> float:
        """The slowest hundredth."""
        samples = sorted(sample for found in self.rounds for sample in found)
        return samples[min(len(samples) * 99 // 100, len(samples) - 1)]

    def over(self, other: Measured) -> float:
        """Return how much longer this takes: the median of the ratios in each round, where both had one machine."""
        pairs = zip(self.rounds, other.rounds, strict=True)
        return statistics.median(statistics.median(mine) / statistics.median(its) for mine, its in pairs)


Results: TypeAlias = Mapping[tuple[str, Mode], Mapping[str, Measured]]
"""By the name of the work and the mode, then by the name of the row."""


def in_unit(unit: Unit, seconds: float) -> float:
    """Return *seconds* an operation as microseconds, thousands a second, or GB a second."""
    return seconds * 1e6 if unit == "us" else (1e-3 if unit == "k/s" else 1e-9) / seconds


class Verdict(NamedTuple):
    """What became of a goal."""

    goal: Goal
    wanted: str
    found: str
    word: str


def verdicts(results: Results) -> list[Verdict]:
    """Return what became of the goals whose work was measured."""
    return [_verdict(goal, found) for goal in GOALS if (found := results.get((goal.work.name, goal.work.judged)))]


def _verdict(goal: Goal, found: Mapping[str, Measured]) -> Verdict:
    row, than = found[goal.row], found.get(goal.than)
    for each in (row, than):
        if each is not None and each.failure:
            return Verdict(goal, wanted(goal), "not measured", "")
    if goal.kind == "p99/median":
        return Verdict(goal, wanted(goal), f"{row.p99 / row.median:.1f}", "")
    if than is None:
        value = in_unit(goal.work.unit, row.median)
    else:
        value = row.over(than) if goal.kind == "at most" else 1 / row.over(than)
    met = value <= goal.limit if goal.kind == "at most" else value >= goal.limit
    return Verdict(goal, wanted(goal), _number(value), "met" if met else "missed")


def wanted(goal: Goal) -> str:
    """Return a goal in words."""
    if goal.kind == "p99/median":
        return "p99 / median, reported"
    unit = f" {goal.than}" if goal.than == goal.work.unit else f" x {goal.than}"
    return f"{goal.kind} {goal.limit:g}{unit}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 10 else f"{value:.2f}"


class Line(NamedTuple):
    """One row of a table, in words; *ratio* is above 1 where the row is slower than the base."""

    name: str
    median: str
    p99: str
    ratio: str
    failure: str = ""


def lines(work: Work, found: Mapping[str, Measured]) -> list[Line]:
    """Return the rows of a table, fastest first; what failed stands last."""
    failed = [Line(name, "", "", "", row.failure) for name, row in found.items() if row.failure]
    done = {name: row for name, row in found.items() if not row.failure}
    base = done.get(work.base)
    return [
        Line(
            name,
            _number(in_unit(work.unit, row.median)),
            _number(in_unit(work.unit, row.p99)) if work.unit == "us" else "",
            _number(row.over(base) if work.unit == "us" else 1 / row.over(base)) if base else "",
        )
        for name, row in sorted(done.items(), key=lambda item: item[1].median)
    ] + failed


def works_of(results: Results) -> list[tuple[Work, Mode, Mapping[str, Measured]]]:
    """Return the results in the order of the works."""
    by_name = {work.name: work for work in WORKS}
    return [(by_name[name], mode, found) for (name, mode), found in results.items()]


def plain(results: Results) -> dict[str, Any]:
    """Return the results for JSON: in each work's unit."""
    return {
        "works": [
            {
                "work": work.title,
                "mode": mode,
                "unit": work.unit,
                "rows": {
                    name: {"failure": row.failure}
                    if row.failure
                    else {"median": in_unit(work.unit, row.median), "p99": in_unit(work.unit, row.p99)}
                    for name, row in found.items()
                },
            }
            for work, mode, found in works_of(results)
        ],
        "goals": [
            {"goal": f"{each.goal.text}: {each.wanted}", "found": each.found, "verdict": each.word}
            for each in verdicts(results)
        ],
    }
