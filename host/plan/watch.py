"""`StepWatch`: what the host hears of the steps while they run: who began, who ended, whose deadline counts."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

from ...ipc.errors import PeerProtocolError, printable
from ...ipc.messages import Phase, StepBegan, StepEnded
from ...ipc.stage import Stage
from ..errors import LaunchError
from .at_seal import AtSeal, Seen, at_seal, look
from .compare import StepReport, observed
from .find import Planned
from .plan import Plan
from .written import declaring

if TYPE_CHECKING:
    from ..config.process_type import Process

log = logging.getLogger("belljar.host")


class StepWatch:
    """The steps of one launch. A step that ended has a report here, and its time in *timeline*."""

    def __init__(self, process: Process, plan: Plan, timeline: dict[str, float]) -> None:
        self.process = process
        self.plan = plan
        self.timeline = timeline
        self.reports: dict[str, StepReport] = {}
        self.running: tuple[Planned, Phase] | None = None
        self.at_seal: AtSeal | None = None
        self._before: Seen | None = None
        self._begun: Counter[tuple[str, Phase]] = Counter()
        self._sealed = False

    def take(self, message: StepBegan | StepEnded) -> None:
        """A step began or ended, or one of its calls around the seal began.

        Raises:
            PeerProtocolError: there is no such step, it may not begin now, or it was not the one that ran.
        """
        if message.number >= len(self.plan.steps):
            raise PeerProtocolError(f"the child speaks of step {message.number} of {len(self.plan.steps)}")
        step = self.plan.steps[message.number]
        if isinstance(message, StepBegan):
            self._begin(step, message.phase)
            return
        if self.running != (step, message.phase):
            raise PeerProtocolError(f"the child ended the {message.phase} of {step.name}, which does not run")
        self.timeline[self.words()] = message.took
        self.running = None
        if message.phase != "run":
            return
        self.reports[step.name] = report = StepReport.of(step, message)
        if report.failure:
            log.warning("%s: the optional step %s failed: %s", self.process.name, step.name, report.failure)
        if report.undeclared is not None:
            leaves = observed(report.left, step.declaration.leaves)
            text = "%s: the step %s left what it does not declare: %s; declare it: %s"
            said = report.undeclared.sentence, declaring(step, leaves)
            log.warning(text, self.process.name, step.name, *map(printable, said))

    def _begin(self, step: Planned, phase: Phase) -> None:
        """Believe a beginning, once, and in its time.

        After the seal a plugin may speak in the place of steps: it must neither report for them, nor get a new deadline
        each time, nor keep the event loop busy with as many messages as it likes.
        """
        begun = self._begun[step.name, phase]
        most = {"quiesce": begun + 1, "resume": self._begun[step.name, "quiesce"]}.get(phase, 1)
        if begun >= most or self._sealed != (phase == "resume" or (step.late and phase == "run")):
            raise PeerProtocolError(f"the child began the {phase} of {step.name}, for which this is not the time")
        self._begun[step.name, phase] += 1
        self.running = step, phase

    def look_before(self, pid: int) -> None:
        """Look at the child *pid* while it waits for its steps, if it has any."""
        self._before = _try_look(pid) if self.plan.steps else None

    def look_at_seal(self, pid: int) -> None:
        """Look at the child *pid*, which is sealed, and say what no step declares. Nothing is enforced by it."""
        self._sealed = True
        after = _try_look(pid) if self._before is not None else None
        if self._before is None or after is None:
            return
        declared = (step.declaration.leaves for step in self.plan.steps)
        reported = (report.left for report in self.reports.values())
        self.at_seal = at_seal(self._before, after, declared, reported)
        if self.at_seal.undeclared is not None and self.process.load != "early":  # an early plugin declares nothing
            text = "%s: at the seal there is what no step declares: %s"
            log.warning(text, self.process.name, printable(self.at_seal.undeclared.sentence))

    @contextmanager
    def deadline(self) -> Iterator[None]:
        """Hold what is awaited in the block to the deadline of the step that runs, if one does.

        Raises:
            LaunchError: it did not finish in time; names stage and step.
        """
        if self.running is None:
            yield
            return
        step, phase = self.running
        seconds = min(step.declaration.deadline or self.process.step_timeout, self.process.launch_timeout)
        try:
            with anyio.fail_after(seconds):
                yield
        except TimeoutError:
            text = f"{self.words()} did not finish within {seconds:g} s"
            raise LaunchError(_stage_of(step, phase), 0, text) from None

    def words(self) -> str:
        """Return the step that runs, or the call of it, as words; empty if none does."""
        if self.running is None:
            return ""
        step, phase = self.running
        return step.name if phase == "run" else f"{phase} of {step.name}"


def _try_look(pid: int) -> Seen | None:
    """Look at the child, if /proc lets this host: the report lacks it otherwise, and stage 8 itself says more."""
    try:
        return look(pid)
    except OSError:
        return None


def _stage_of(step: Planned, phase: Phase) -> Stage:
    if phase == "run":
        return Stage.LOAD if step.late else Stage.EARLY_INIT
    return {"load": Stage.EARLY_INIT, "quiesce": Stage.SEAL, "resume": Stage.LOAD}[phase]
