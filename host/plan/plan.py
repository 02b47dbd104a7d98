"""`Plan`, the early-init steps of a process type in their order, and `make_plan`, which finds and orders them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...ipc.messages import RunStep
from ..config.place import Place
from ..errors import PlanError
from .find import Planned, find_steps
from .order import Edge, Unordered, order
from .step import Step


class Plan(NamedTuple):
    """The steps in their order, and what fixed it."""

    steps: tuple[Planned, ...] = ()
    edges: tuple[Edge, ...] = ()

    @property
    def shared(self) -> tuple[RunStep, ...]:
        """The steps that a zygote may run for all its children."""
        return tuple(step.to_run() for step in self.steps if step.shared)

    @property
    def files(self) -> tuple[str, ...]:
        """All files that the steps need to see."""
        return tuple(dict.fromkeys(file for step in self.steps for file in step.files))


def make_plan(
    preload: Sequence[str], entries: Sequence[str | Step], base: Path, place: Place, *, env: bool = False
) -> Plan:
    """Return the plan of the modules in *preload* and the *entries* of ``early_init``; runs nothing.

    Args:
        base: Where relative paths begin.
        env: Whether the process type sets variables, which a step that a zygote shares would not see.

    Raises:
        ConfigError: A step does not exist, or an option does not fit.
        PlanError: The declarations contradict each other.
    """
    return arrange(find_steps(preload, entries, base, place), place, env=env)


def arrange(found: Sequence[Planned], place: Place, *, env: bool) -> Plan:
    """Return the plan of the steps that were *found*. Raises `PlanError`."""
    try:
        ordered = order(tuple((step.name, step.declaration) for step in found))
    except Unordered as error:
        raise PlanError(str(place.at("early_init").error(str(error)))) from error
    by_name = {step.name: step._replace(late=step.name in ordered.late) for step in found}
    steps = [by_name[name] for name in ordered.names]
    shared = _shared(steps, ordered.edges, env=env)
    # What a zygote does is done before all that a child does, and nothing in it waits for what a child does.
    steps = [step._replace(shared=step.name in shared) for step in steps]
    return Plan(tuple(sorted(steps, key=lambda step: not step.shared)), ordered.edges)


def _shared(steps: Sequence[Planned], edges: Sequence[Edge], *, env: bool) -> set[str]:
    """Return the names of the *steps*, which are in order, that a zygote may run: with each, all that it waits for."""
    shared: set[str] = set()
    for step in steps:
        if not step.declaration.shared or (env and not step.is_preload):
            continue
        if all(edge.first in shared for edge in edges if edge.second == step.name):
            shared.add(step.name)
    return shared
