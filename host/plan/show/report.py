"""``belljar plan``: the plan of a process type as a value, as a table and as JSON. Nothing is launched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from ....ipc.errors import printable
from ....ipc.stage import Stage
from ....sandbox.backends import host_half
from ....sandbox.graphics import Driver, find_driver
from ....sandbox.launch.forked import ForkedHost
from ....sandbox.probe import probe
from ....sandbox.user import resolve_user
from ...choose import choose, refusal
from ...config.place import Place
from ...config.process_type import Process, plan_of
from ...errors import PlanError
from ..check import Problem, problems, surroundings
from ..find import find_steps
from ..order import Edge, Unordered
from ..plan import Plan
from .rows import Row, Rows


class Report(NamedTuple):
    """What a launch of *process* would do.

    Attributes:
        not_here: Why the backend cannot be used on this machine; empty if it can.
        driver: The graphics driver that the child would find.
        problems: What speaks against the plan, in the order of its steps; the first is what a launch says.
        circle: The edges that contradict each other. The rows then have the steps as listed.
    """

    process: Process
    backend: str
    not_here: str
    driver: Driver
    plan: Plan
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]
    circle: tuple[Edge, ...] = ()
    refused: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain values; a step's row has the number of its stage."""
        return {
            "process": self.process.name,
            "backend": self.backend,
            "not_here": self.not_here,
            "driver": self.driver.name,
            "refused": self.refused,
            "problems": [problem._asdict() for problem in self.problems],
            "circle": [edge._asdict() for edge in self.circle],
            "rows": [row._asdict() | {"stage": int(row.stage), "label": row.stage.label} for row in self.rows],
        }


def plan_report(process: Process) -> Report:
    """Return what a launch of *process*, whose paths are absolute, would do here.

    A backend that *process* names need not work here; ``auto`` chooses one that does.

    Raises:
        ConfigError: a file has changed since the process type was resolved.
        SandboxError: no backend works here, or the one that is named cannot be loaded.
    """
    user = resolve_user(process.run_as)
    machine = probe(user)
    half = choose(process, machine) if process.backend == "auto" else host_half(process.backend)
    around = surroundings(process, half, machine)
    driver = find_driver(user)
    place = Place(f"process {process.name}")
    circle: tuple[Edge, ...] = ()
    refused: dict[str, tuple[str, ...]] = {}
    try:
        plan = plan_of(process)
        found = tuple(problems(plan, around, driver))
        text = str(place.at("early_init").error(found[0].text)) if found else ""
        for problem in found:
            refused[problem.step] = (*refused.get(problem.step, ()), problem.text)
    except PlanError as error:
        assert isinstance(error.__cause__, Unordered)
        found, text, circle = (), str(error), error.__cause__.circle
        plan = Plan(find_steps(process.preload, process.early_init, process.path.parent, place), circle)
        refused = {edge.second: ("it has no place: see below",) for edge in circle}
    rows = Rows(plan, around, isinstance(half, ForkedHost), process.step_timeout, refused).all()
    not_here = refusal(half, process, machine)
    return Report(process, half.name, not_here, driver, plan, rows, found, circle, text)


def table(report: Report) -> Table:
    """Return the rows for people: stages in bold, each step below the stage that takes it."""
    title = Text(f"{printable(report.process.name)} ({report.backend})", style="bold")
    shown = Table(title=title, title_justify="left", caption=Text("\n".join(notes(report))), caption_justify="left")
    shown.add_column("#", justify="right", no_wrap=True)
    for heading in ("stage, step", "needs, leaves", "why it stands there"):
        shown.add_column(heading, overflow="fold", min_width=18)
    sealing = [row for row in report.rows if row.stage is Stage.SEAL][-1]
    for row in report.rows:
        shown.add_row(*_cells(row))
        if row is sealing:
            shown.add_section()  # the seal
    return shown


def notes(report: Report) -> list[str]:
    """Return what to say below the table."""
    found = [f"{report.backend} does not work here: {report.not_here}"] if report.not_here else []
    if any(need == "graphics-driver" for row in report.rows for need in row.needs_after_seal):
        wants = ", ".join(report.driver.rights) or "nothing"
        found.append(f"graphics-driver is {report.driver.name} here, which needs {wants} after the seal")
    return [printable(note) for note in found]


def _cells(row: Row) -> tuple[Text, ...]:
    why = _lines(row.why, "" if row.step else "dim")
    for problem in row.refused:
        why.append(f"\nREFUSED: {printable(problem)}", style="bold red")
    if not row.step:
        return Text(str(int(row.stage)), style="bold"), _named(row.stage.label, row.where, "bold"), Text(), why
    needs = [*(f"needs {need}" for need in row.needs), *(f"needs {need} once sealed" for need in row.needs_after_seal)]
    name = f"  {row.step}" if row.phase == "run" else f"  {row.phase} of {row.step}"
    about = f"    {row.where}, within {row.deadline:g} s{', optional' if row.optional else ''}"
    return Text(), _named(name, about), _lines([*needs, *(f"leaves {each}" for each in row.leaves)]), why


def _named(name: str, about: str, style: str = "") -> Text:
    return Text(printable(name), style=style).append(
        f"\n{about}" if style == "" else f"  {about}", style="not bold dim"
    )


def _lines(words: Sequence[str], style: str = "") -> Text:
    return Text(printable("\n".join(words), keep="\n"), style=style)
