"""What ``belljar plan`` shows of each process type: its plan, and what one launch of it showed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..config.place import Place
from ..config.process_type import Process
from ..plan.show.observe import Observation, observe
from ..plan.show.picture import picture
from ..plan.show.report import Report, plan_report


class Shown(NamedTuple):
    """The plan of one process type, and what was observed, if anything was."""

    report: Report
    observation: Observation | None = None

    @classmethod
    def of(cls, process: Process) -> Shown:
        """Return the plan of *process*. Raises as `plan_report` does."""
        return cls(plan_report(process))

    def observed(self, in_loop: Callable[[Callable[[], Awaitable[Observation]]], Observation]) -> Shown:
        """Return this with what a launch shows, made *in_loop*. Raises as `observe` does."""
        return self._replace(observation=in_loop(partial(observe, self.report.process)))

    @property
    def exit_code(self) -> int:
        """2 for a plan that is refused, 1 for a step that left what it does not declare, or else 0."""
        if self.report.refused:
            return 2
        return int(self.observation is not None and self.observation.differs)

    def as_json(self, base: Path) -> dict[str, Any]:
        """Return all of it as plain values."""
        seen = self.observation
        return self.report.as_json() | ({"observed": seen.as_json(base)} if seen is not None else {})


def save_picture(shown: Sequence[Shown], path: Path) -> None:
    """Write the picture of the one plan that is *shown* as SVG. `ConfigError` if there are more; `OSError`."""
    if len(shown) != 1:
        names = ", ".join(one.report.process.name for one in shown)
        raise Place("--picture").error(f"a picture shows one process type; name one of {names}")
    [one] = shown
    title = f"{one.report.process.name} ({one.report.backend})"
    path.write_text(picture(title, one.report.rows, one.report.plan.edges), encoding="utf-8")
