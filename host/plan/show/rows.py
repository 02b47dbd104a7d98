"""A plan as rows: the ten stages, and in their place the early-init steps, each with why it stands there.

What the table, the JSON and the picture of ``belljar plan`` show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ....ipc.stage import Stage
from ....sandbox.declaration import SEAL, SINGLE_THREADED, Leaves
from ...config.place import nearest
from ..available import Surroundings
from ..find import Planned
from ..plan import Plan

_STAGES: Mapping[Stage, tuple[str, str]] = {
    Stage.PREPARE: ("host", "finds, orders and checks the steps before any process exists"),
    Stage.LAUNCH: ("backend", "starts the child"),
    Stage.CONFINE_EARLY: ("child", "takes what asks for a single thread, so before any step that starts one"),
    Stage.HELLO: ("child", "the kernel says who speaks before the host tells it anything"),
    Stage.CONFIGURE: ("host", "the child learns its steps"),
    Stage.EARLY_INIT: ("child", "the child is trusted: files, devices and threads are still there"),
    Stage.SEAL: ("child", "after what needs files, devices and threads; the filter reaches the threads that are there"),
    Stage.VERIFY: ("host", "reads the seal of every thread before anything untrusted runs"),
    Stage.LOAD: ("child", "the plugin's own code, and nothing of it before the seal is verified"),
    Stage.READY: ("child", "calls flow"),
}
"""Where each stage is taken, and why it stands where it stands. See docs/launch-order.md."""


class Row(NamedTuple):
    """A stage, or below it a step in one of its phases.

    Attributes:
        step: Empty for the stage itself.
        phase: ``run``, ``load``, ``quiesce`` or ``resume``; empty for the stage itself.
        where: Who does it: host, backend, child, or zygote, once for all children.
        needs, needs_after_seal, leaves: As declared.
        deadline: In seconds; None for a stage.
        why: Why it stands where it stands.
        refused: Why it cannot stand there.
    """

    stage: Stage
    where: str
    why: tuple[str, ...]
    step: str = ""
    phase: str = ""
    needs: tuple[str, ...] = ()
    needs_after_seal: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    deadline: float | None = None
    optional: bool = False
    refused: tuple[str, ...] = ()


class Rows(NamedTuple):
    """What makes the rows of *plan*: what it is held against, who can share, what is refused of each step."""

    plan: Plan
    around: Surroundings
    has_zygote: bool
    timeout: float
    refused: Mapping[str, tuple[str, ...]]

    def all(self) -> tuple[Row, ...]:
        """Return all rows in the order in which they are taken."""
        return tuple(row for stage in Stage for row in (Row(stage, *_stage(stage)), *self._steps_of(stage)))

    def _steps_of(self, stage: Stage) -> Iterator[Row]:
        early = [step for step in self.plan.steps if not step.late]
        late = [step for step in self.plan.steps if step.late]
        if stage is Stage.EARLY_INIT:
            yield from map(self._run, early)
            for step in late:
                yield self._phase(step, stage, "load", "its file can no longer be read after the seal")
        elif stage is Stage.SEAL:
            for step in reversed([step for step in early if "quiesce" in step.declared.around]):
                yield self._phase(step, stage, "quiesce", "it rests while the seal is made; who came last rests first")
        elif stage is Stage.LOAD:
            for step in (step for step in early if "resume" in step.declared.around):
                yield self._phase(step, stage, "resume", "it goes on once the seal is verified")
            yield from map(self._run, late)

    def _run(self, step: Planned) -> Row:
        declaration = step.declaration
        return Row(
            Stage.LOAD if step.late else Stage.EARLY_INIT,
            "zygote" if step.shared and self.has_zygote else "child",
            tuple(reasons(step, self.plan, self.around)),
            step.name,
            "run",
            declaration.needs,
            declaration.needs_after_seal,
            tuple(leaves_words(declaration.leaves)),
            self._deadline(step),
            declaration.optional,
            self.refused.get(step.name, ()),
        )

    def _phase(self, step: Planned, stage: Stage, phase: str, why: str) -> Row:
        return Row(stage, "child", (why,), step.name, phase, deadline=self._deadline(step))

    def _deadline(self, step: Planned) -> float:
        return min(step.declaration.deadline or self.timeout, self.timeout)


def _stage(stage: Stage) -> tuple[str, tuple[str, ...]]:
    where, why = _STAGES[stage]
    return where, (why,)


def leaves_words(leaves: Leaves) -> Iterator[str]:
    """Yield what may be left behind, each kind as one phrase."""
    if leaves.threads:
        yield f"threads {', '.join(leaves.threads)}"
    if leaves.fds:
        yield f"fds {', '.join(leaves.fds)}"
    if leaves.executable_memory:
        yield "executable memory"
    if leaves.environment:
        yield f"variables {', '.join(leaves.environment)}"
    if leaves.signals:
        yield f"signals {', '.join(leaves.signals)}"


def reasons(step: Planned, plan: Plan, around: Surroundings) -> Iterator[str]:
    """Yield why *step* stands where it stands: what is gone later, what the others ask for, what does not count."""
    if step.shared:
        yield "first, for a zygote may run it once for all its children"
    gone = [need for need in step.declaration.needs if need != SINGLE_THREADED and around.after_seal(need)]
    if not step.late:
        yield (
            f"before the seal, which takes away {', '.join(gone)}"
            if gone
            else "before the seal, for it declares nothing else"
        )
    for edge in plan.edges:
        if step.name in (edge.first, edge.second) and (edge.declared or edge.second != SEAL):
            yield edge.why
    names = [SEAL, *(other.name for other in plan.steps)]
    for word, others in (("after", step.declaration.after), ("before", step.declaration.before)):
        for other in others:
            if other not in names:
                hint = nearest(other, names)
                yield f"{word} = ['{other}'] does not count, for there is no such step here" + (
                    hint if "did you mean" in hint else ""
                )
