"""What the tests of the plan share: plans of declarations alone, with no file behind them, and random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from belljar.host.config.place import Place
from belljar.host.plan.available import Surroundings
from belljar.host.plan.declared import Declared
from belljar.host.plan.find import Planned
from belljar.host.plan.plan import Plan, arrange
from belljar.host.plan.step import Step
from belljar.sandbox.declaration import FD_KINDS, RIGHTS, Declaration
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Policy

Steps = Mapping[str, Declaration]

NAMES = ("a", "b", "c", "d", "e")


def declared(**words: Any) -> Declaration:
    """Return the declaration of *words*; without needs, for most of these tests ask for nothing of the kind."""
    return Declaration.of({"needs": (), **words})


def planned(name: str, declaration: Declaration) -> Planned:
    """Return a step of that name which declares that much and does not exist."""
    found = Declared(name, f"/nowhere.py:{name}", Path("/nowhere.py"), declaration, (), ())
    return Planned(Step(found.function, name), name, found, declaration, (), "")


def plan_of(steps: Steps, *, env: bool = False) -> Plan:
    """Return the plan of *steps*. Raises `PlanError`."""
    found = [planned(name, declaration) for name, declaration in steps.items()]
    return arrange(found, Place("a test"), env=env)


def some(values: Sequence[str], most: int = 2) -> st.SearchStrategy[tuple[str, ...]]:
    """Draw a few of *values*, none of them more often than the rest."""
    return st.lists(st.sampled_from(values), max_size=most, unique=True).map(tuple)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Declaration]:
    """Draw up to five steps that declare at random; of each other too, and of one that is not there."""
    others = (*NAMES, "seal", "absent")
    return {
        name: Declaration.of(
            {
                "needs": draw(some((*RIGHTS, "single-threaded", "single-threaded"))),
                "needs_after_seal": draw(some((*RIGHTS, "graphics-driver"), 1)),
                "leaves": {
                    "threads": draw(some(("worker-*", "*"), 1)),
                    "fds": draw(some(FD_KINDS, 1)),
                    "executable_memory": draw(st.booleans()),
                },
                "after": draw(some(others)),
                "before": draw(some(others, 1)),
                "shared": draw(st.booleans()),
            }
        )
        for name in draw(st.permutations(NAMES))[: draw(st.integers(0, len(NAMES)))]
    }


@st.composite
def around(draw: st.DrawFn) -> Surroundings:
    """Draw a backend by what it promises, and a policy; also such that no backend here would have."""
    policy = Policy(
        read_only=draw(some(("/srv/fonts",))),
        devices=draw(some(("/dev/dri/renderD128", "/dev/null"))),
        gpu=draw(st.booleans()),
        network=draw(some(("unix", "inet"))),  # type: ignore[arg-type]
        threads=draw(st.booleans()),
        subprocesses=draw(st.booleans()),
        executable_memory=draw(st.booleans()),
        open_directories=draw(st.booleans()),
    )
    promised = {layer: draw(st.sampled_from(("", "but for this"))) for layer in draw(st.sets(st.sampled_from(Layer)))}
    return Surroundings("drawn", promised, policy, draw(st.booleans()))
