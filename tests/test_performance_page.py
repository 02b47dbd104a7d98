"""How docs/performance.md comes about: what a goal is held against, and what of the page is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.ipc import calls, page
from benchmarks.ipc.results import Measured, Results, verdicts, wanted
from benchmarks.ipc.works import GOALS, WORKS


def results(**seconds: float) -> Results:
    """Return a run in which every row took a microsecond in both rounds, but for the calls of *seconds* by row."""
    rows = {work: {row.name: Measured([[1e-6], [1e-6]]) for row in work.rows} for work in WORKS}
    rows[calls.CALL].update({name: Measured([[took], [took]]) for name, took in seconds.items()})
    return {(work.name, work.judged): found for work, found in rows.items()}


def word(found: Results, row: str, than: str) -> str:
    """Return what became of a goal of the calls."""
    return next(each.word for each in verdicts(found) if (each.goal.row, each.goal.than) == (row, than))


@pytest.mark.parametrize(("took", "expected"), [(2.1e-6, "met"), (2.3e-6, "missed")])
def test_a_goal_is_a_ratio_to_another_row(took: float, expected: str) -> None:
    """At most 2.2 times the raw socket is met below and missed above."""
    assert word(results(**{calls.ASYNCIO: took}), calls.ASYNCIO, calls.RAW) == expected


def test_a_ratio_compares_neighbours_in_time() -> None:
    """Where the machine was three times slower in one round, for both, the ratio is what it is in every round."""
    mine, other = Measured([[2.0], [6.0], [2.0]]), Measured([[1.0], [3.0], [1.0]])
    assert mine.over(other) == 2.0


def test_what_failed_meets_no_goal() -> None:
    """A row that could not be measured, or is compared with one, has no verdict, and the others have theirs."""
    found = {name: dict(rows) for name, rows in results().items()}
    found["call", "one core"][calls.RAW] = Measured([], "OSError: no socket")
    assert word(found, calls.ASYNCIO, calls.RAW) == ""
    assert word(found, calls.ASYNCIO, calls.PIPE) == "met"


def test_the_page_is_written_anew_but_for_its_notes(tmp_path: Path) -> None:
    """What a person wrote below the heading of the notes stays there."""
    path = tmp_path / "performance.md"
    page.write(results(), path)
    path.write_text(path.read_text() + page.NOTES + "\nWhy so slow?\n")
    page.write(results(**{calls.RAW: 5e-6}), path)
    text = path.read_text()
    assert text.endswith("## Notes\n\nWhy so slow?\n")
    assert text.count("# Performance") == 1


def test_the_page_has_all_goals_and_rows() -> None:
    """The page in docs/ is one that this code wrote: it has each goal, each row, and no other goal."""
    text = page.PAGE.read_text()
    goals = text.partition("## Goals")[2].partition("\n## ")[0]
    assert all(f"| {goal.text} | {wanted(goal)} |" in goals for goal in GOALS), "run scripts/bench ipc"
    assert goals.count("\n| ") == len(GOALS) + 2
    assert all(f"| {row.name} |" in text for work in WORKS for row in work.rows), "run scripts/bench ipc"
