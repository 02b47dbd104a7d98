"""Hold an ordered plan against the layers of a backend and the policy, before any process exists.

Each refusal names both sides: the step with what it declares, and what takes that away, with the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ...sandbox import landlock
from ...sandbox.base import HostHalf
from ...sandbox.declaration import GRAPHICS_DRIVER, SEAL, SINGLE_THREADED, LaterNeed, Right
from ...sandbox.graphics import Driver
from ...sandbox.layers import Layer
from ...sandbox.probe import Machine
from ..config.place import Place
from ..errors import PlanError
from .available import Surroundings
from .find import Planned
from .order import path
from .plan import Plan

if TYPE_CHECKING:
    from ..config.process_type import Process

ANY_THREAD = "*"
"""Declared by a step that does not know which threads it leaves, if any: what it left, stage 8 sees."""


class Problem(NamedTuple):
    """Why a step cannot stand where it stands.

    Attributes:
        step: Its name.
        declares: The key of its declaration that cannot hold, and ``word``, the value there.
        against: What speaks against it: layers, or the steps from the one that leaves threads to this one.
        text: All of it and the remedy, in one sentence.
    """

    step: str
    declares: str
    word: str
    against: tuple[str, ...]
    text: str


def surroundings(process: Process, half: HostHalf, machine: Machine) -> Surroundings:
    """Return what the plan of *process* is held against on *machine*, with the backend *half*."""
    promised = half.promises(process.policy)
    return Surroundings(half.name, promised, process.policy, machine.landlock_abi >= landlock.ALL_THREADS_ABI)


def check_plan(plan: Plan, around: Surroundings, driver: Driver, place: Place) -> None:
    """Raise `PlanError` for the first step whose needs cannot be met where it stands."""
    for problem in problems(plan, around, driver):
        raise PlanError(str(place.at("early_init").error(problem.text)))


def problems(plan: Plan, around: Surroundings, driver: Driver) -> Iterator[Problem]:
    """Yield what speaks against *plan* in the order of its steps."""
    threads_of: Planned | None = None
    for step in plan.steps:
        if threads_of is not None and SINGLE_THREADED in step.declaration.needs:
            yield _not_alone(step, threads_of, plan)
        yield from _now(step, around)
        yield from _later(step, around, driver)
        yield from _left(step, around)
        if step.declaration.leaves.threads:
            threads_of = threads_of or step


def _not_alone(step: Planned, threads_of: Planned, plan: Plan) -> Problem:
    """The order puts the two the other way round unless that is declared, at however many removes."""
    said = [edge for edge in plan.edges if edge.declared or edge.second == SEAL]
    chain = path(said, threads_of.name, step.name)
    names = ", ".join(threads_of.declaration.leaves.threads)
    return Problem(
        step.name,
        "needs",
        SINGLE_THREADED,
        (*(edge.first for edge in chain), step.name),
        f"{step.name} needs a single thread, but {threads_of.name} leaves threads ({names}) and comes before it: "
        f"{'; '.join(edge.why for edge in chain)}; take that away, or let {threads_of.name} leave none",
    )


def _now(step: Planned, around: Surroundings) -> Iterator[Problem]:
    for need in step.declaration.needs:
        if need == SINGLE_THREADED:
            continue
        refused = around.after_seal(need) if step.late else around.before_seal(need)
        if refused:
            where = f" but stands after the {SEAL}, and" if step.late else " but"
            early = "let it come before the seal, declare its needs without it if it can do without, or "
            remedy = f"{early if step.late else ''}{refused.remedy}"
            text = f"{step.name} needs {need},{where} {refused.why}; {remedy}"
            yield Problem(step.name, "needs", need, refused.layers, text)


def _later(step: Planned, around: Surroundings, driver: Driver) -> Iterator[Problem]:
    for need in step.declaration.needs_after_seal:
        for right in rights_of(need, driver):
            if refused := around.after_seal(right):
                because = f" (for the driver {driver.name})" if need == GRAPHICS_DRIVER else ""
                text = (
                    f"what {step.name} makes needs {right} in the sealed child{because}, but {refused.why}; "
                    f"{refused.remedy}, or leave the step out"
                )
                yield Problem(step.name, "needs_after_seal", right, refused.layers, text)


def rights_of(need: LaterNeed, driver: Driver) -> tuple[Right, ...]:
    """Return the rights that *need* stands for."""
    return driver.rights if need == "graphics-driver" else (need,)


def _left(step: Planned, around: Surroundings) -> Iterator[Problem]:
    leaves = step.declaration.leaves
    if step.late:
        yield from _left_after_seal(step, around)
        return
    sealing = tuple(layer for layer in (Layer.EMPTY_ROOT, Layer.SECCOMP) if layer in around.promised)
    if "directory" in leaves.fds and sealing and not around.policy.open_directories:
        text = (
            f"{step.name} leaves a directory open, but the seal of {around.backend} allows none, for it would lead "
            "around what the seal takes away; close it at the end of the step, or grant open_directories in the policy"
        )
        yield Problem(step.name, "leaves", "directory", sealing, text)
    named = [name for name in leaves.threads if name != ANY_THREAD]
    # Landlock reaches threads that are there already only from ABI 8 on; stage 8 would find them short of it. Where
    # its promise says so, the filter covers them.
    if named and around.promised.get(Layer.LANDLOCK) == "" and not around.landlock_reaches_threads:
        text = (
            f"{step.name} leaves threads ({', '.join(named)}), but landlock does not reach threads from before the "
            f"seal on this kernel (ABI {landlock.ALL_THREADS_ABI} does), and nothing else keeps them to the files that "
            "the policy grants; grant no files, or choose the backend namespaces"
        )
        yield Problem(step.name, "leaves", "threads", (Layer.LANDLOCK,), text)


def _left_after_seal(step: Planned, around: Surroundings) -> Iterator[Problem]:
    leaves = step.declaration.leaves
    wanted: dict[Right, bool] = {"threads": bool(leaves.threads), "executable-memory": leaves.executable_memory}
    for right, is_left in wanted.items():
        if is_left and (refused := around.after_seal(right)):
            text = (
                f"{step.name} leaves {right.replace('-', ' ')}, but stands after the seal, and {refused.why}; "
                f"let it come before the seal, or {refused.remedy}"
            )
            yield Problem(step.name, "leaves", right, refused.layers, text)
