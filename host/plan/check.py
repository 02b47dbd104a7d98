"""Hold an ordered plan against the layers of a backend and the policy, before any process exists.

Each refusal names both sides: the step with what it declares, and what takes that away, with the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...sandbox import landlock
from ...sandbox.base import HostHalf
from ...sandbox.declaration import GRAPHICS_DRIVER, SINGLE_THREADED, LaterNeed, Right
from ...sandbox.graphics import Driver
from ...sandbox.layers import Layer
from ...sandbox.probe import Machine
from ..errors import PlanError
from ..place import Place
from .available import Surroundings
from .plan import Plan, Planned

if TYPE_CHECKING:
    from ..process_type import Process


def surroundings(process: Process, half: HostHalf, machine: Machine) -> Surroundings:
    """Return what the plan of *process* is held against on *machine*, with the backend *half*."""
    promised = half.promises(process.policy)
    return Surroundings(half.name, promised, process.policy, machine.landlock_abi >= landlock.ALL_THREADS_ABI)


def check_plan(plan: Plan, around: Surroundings, driver: Driver, place: Place) -> None:
    """Raise `PlanError` for the first step whose needs cannot be met where it stands."""
    for problem in problems(plan, around, driver):
        raise PlanError(str(place.at("early_init").error(problem)))


def problems(plan: Plan, around: Surroundings, driver: Driver) -> Iterator[str]:
    """Yield what speaks against *plan*, a sentence each, in the order of its steps."""
    threads_of: Planned | None = None
    for step in plan.steps:
        yield from _alone(step, threads_of)
        yield from _now(step, around)
        yield from _later(step, around, driver)
        yield from _left(step, around)
        if step.declaration.leaves.threads and threads_of is None:
            threads_of = step
    if threads_of is not None:
        yield from _older_threads(threads_of, around)


def _alone(step: Planned, threads_of: Planned | None) -> Iterator[str]:
    if SINGLE_THREADED in step.declaration.needs and threads_of is not None:
        names = ", ".join(threads_of.declaration.leaves.threads)
        yield (
            f"{step.name} needs a single thread, but {threads_of.name} comes before it and leaves threads ({names}); "
            f"declare before = ['{threads_of.name}'] for {step.name}"
        )


def _now(step: Planned, around: Surroundings) -> Iterator[str]:
    for need in step.declaration.needs:
        if need == SINGLE_THREADED:
            continue
        if not step.late:
            if refused := around.before_seal(need):
                yield f"{step.name} needs {need}, but {refused.why}; {refused.remedy}"
        elif refused := around.after_seal(need):
            yield (
                f"{step.name} needs {need}, but stands after the seal, and {refused.why}; "
                f"let it come before the seal, or {refused.remedy}"
            )


def _later(step: Planned, around: Surroundings, driver: Driver) -> Iterator[str]:
    for need in step.declaration.needs_after_seal:
        for right in rights_of(need, driver):
            if refused := around.after_seal(right):
                because = f" (for the driver {driver.name})" if need == GRAPHICS_DRIVER else ""
                yield (
                    f"what {step.name} makes needs {right} in the sealed child{because}, but {refused.why}; "
                    f"{refused.remedy}, or leave the step out"
                )


def rights_of(need: LaterNeed, driver: Driver) -> tuple[Right, ...]:
    """Return the rights that *need* stands for."""
    return driver.rights if need == "graphics-driver" else (need,)


def _left(step: Planned, around: Surroundings) -> Iterator[str]:
    leaves = step.declaration.leaves
    if "directory" in leaves.fds and not around.policy.open_directories and around.promised:
        yield (
            f"{step.name} leaves a directory open, but the seal of {around.backend} allows none, for it would lead "
            "around the empty root; close it at the end of the step, or grant open_directories in the policy"
        )
    if step.late and leaves.threads and (refused := around.after_seal("threads")):
        yield f"{step.name} leaves threads, but stands after the seal, and {refused.why}; {refused.remedy}"
    if step.late and leaves.executable_memory and (refused := around.after_seal("executable-memory")):
        yield f"{step.name} leaves executable memory, but stands after the seal, and {refused.why}; {refused.remedy}"


def _older_threads(step: Planned, around: Surroundings) -> Iterator[str]:
    """Landlock reaches threads that are there already only from ABI 8 on; stage 8 would find them short of it."""
    if step.late or around.landlock_reaches_threads or around.promised.get(Layer.LANDLOCK) != "":
        return
    yield (
        f"{step.name} leaves threads, but landlock does not reach threads from before the seal on this kernel (ABI 8 "
        "does), and nothing else keeps them to the files that the policy grants; grant no files, or choose namespaces"
    )
