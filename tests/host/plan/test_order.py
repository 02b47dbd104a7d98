"""The order of early-init steps: as listed, unless a declaration or the need of a single thread moves one."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence

import msgspec
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from belljar.host.errors import PlanError
from belljar.host.plan.order import Edge, Ordered, Unordered, order, path
from belljar.sandbox.declaration import Declaration

from .made import NAMES, Steps, declared, plan_of, plans

SEAL = "seal"


def ordered(steps: Steps) -> Ordered:
    return order(tuple(steps.items()))


def with_seal(names: Sequence[str], late: Iterable[str]) -> list[str]:
    """Return *names* with the seal between those before it and the *late* ones."""
    behind = [name for name in names if name in set(late)]
    assert [*names][len(names) - len(behind) :] == behind
    return [*names[: len(names) - len(behind)], SEAL, *behind]


def is_good(line: Sequence[str], steps: Steps) -> bool:
    """Whether *line*, with the seal in it, keeps all that the steps declare of each other. Knows nothing of edges."""
    at = {name: index for index, name in enumerate(line)}
    for name, declaration in steps.items():
        if any(at[other] > at[name] for other in declaration.after if other in at and other != name):
            return False
        if any(at[other] < at[name] for other in declaration.before if other in at and other != name):
            return False
        if name in (*declaration.after, *declaration.before):
            return False
        if "single-threaded" in declaration.needs:
            earlier = [steps[other] for other in line[: at[name]] if other != SEAL]
            if any(other.leaves.threads for other in earlier):
                return False
    return True


def is_late(name: str, steps: Steps) -> bool:
    """Whether a chain of declarations leads from the seal to *name*, tried by taking it away from each order."""
    others = [*steps, SEAL]
    reached, grown = {SEAL}, True
    while grown:
        fresh = {
            other
            for other in others
            if other not in reached
            and any(
                (other in steps and first in steps[other].after) or (first in steps and other in steps[first].before)
                for first in reached
            )
        }
        grown = bool(fresh)
        reached |= fresh
    return name in reached - {SEAL}


def assert_is_true(edge: Edge, steps: Steps) -> None:
    """Fail unless the reason of *edge* can be read off the declarations."""
    first, second = steps.get(edge.first), steps.get(edge.second)
    if edge.declared:
        assert (second is not None and edge.first in second.after) or (
            first is not None and edge.second in first.before
        )
        assert edge.why in (
            f"{edge.second} declares after = ['{edge.first}']",
            f"{edge.first} declares before = ['{edge.second}']",
        )
    elif edge.second == SEAL:
        assert not is_late(edge.first, steps)
    else:
        assert first is not None
        assert second is not None
        assert "single-threaded" in first.needs
        assert second.leaves.threads


@given(plans())
def test_the_order_keeps_what_is_declared_or_there_is_none(steps: Steps) -> None:
    """Whatever steps declare of each other holds in the order; refused is only what no order at all could keep."""
    late = {name for name in steps if is_late(name, steps)}
    lines = [with_seal(line, late) for line in itertools.permutations(steps) if not needs_rest(line, late)]
    try:
        found = ordered(steps)
    except Unordered as error:
        assert not any(is_good(line, steps) for line in lines)
        for edge, following in itertools.pairwise([*error.circle, error.circle[0]]):
            assert edge.second == following.first
            assert_is_true(edge, steps)
            assert edge.why in str(error)
        assert len({edge.first for edge in error.circle}) == len(error.circle)
        return
    assert sorted(found.names) == sorted(steps)
    assert found.late == late
    line = with_seal(found.names, found.late)
    loners = [name for name in steps if "single-threaded" in steps[name].needs]
    peaceful = {name: declaration for name, declaration in steps.items() if name not in loners}
    assert is_good(line, steps) or not any(is_good(other, steps) for other in lines)
    assert is_good(line, {**steps, **{name: without_need(steps[name]) for name in loners}})
    assert is_good([name for name in line if name in peaceful or name == SEAL], peaceful)
    for edge in found.edges:
        assert_is_true(edge, steps)


def needs_rest(line: Sequence[str], late: Iterable[str]) -> bool:
    """Whether *line* has a late step before one that is not."""
    behind = [name in set(late) for name in line]
    return behind != sorted(behind)


def without_need(declaration: Declaration) -> Declaration:
    """Return *declaration* of a step that bears other threads."""
    needs = tuple(need for need in declaration.needs if need != "single-threaded")
    return msgspec.structs.replace(declaration, needs=needs)


@given(plans())
def test_the_order_is_stable(steps: Steps) -> None:
    """Of two neighbours in the order, the one that was listed first stands first, unless an edge turned them."""
    try:
        found = ordered(steps)
    except Unordered:
        reject()
    listed = list(steps)
    line = with_seal(found.names, found.late)
    for first, second in itertools.pairwise(line):
        if SEAL not in (first, second) and listed.index(first) > listed.index(second):
            assert any((edge.first, edge.second) == (first, second) for edge in found.edges)


@given(plans(), st.randoms(use_true_random=False))
def test_the_order_is_a_value(steps: Steps, chance: random.Random) -> None:
    """The same steps have the same order each time, and listing them in that order changes nothing."""
    try:
        found = ordered(steps)
    except Unordered:
        reject()
    order.cache_clear()
    assert ordered(steps) == found
    again = ordered({name: steps[name] for name in found.names})
    assert again.names == found.names
    shuffled = list(steps)
    chance.shuffle(shuffled)
    assert ordered({name: steps[name] for name in shuffled}).late == found.late


@given(plans(), st.booleans())
def test_what_a_zygote_shares_waits_for_nothing_else(steps: Steps, env: bool) -> None:
    """Shared steps stand first, and each edge still holds: a shared step waits only for shared ones."""
    try:
        plan = plan_of(steps, env=env)
    except PlanError:
        reject()
    shared = [step.name for step in plan.steps if step.shared]
    assert [step.name for step in plan.steps][: len(shared)] == shared
    assert all(steps[name].shared and not is_late(name, steps) for name in shared)
    line = [step.name for step in plan.steps]
    at = {name: index for index, name in enumerate(with_seal(line, [step.name for step in plan.steps if step.late]))}
    assert all(at[edge.first] < at[edge.second] for edge in plan.edges)
    assert not (env and shared)


def test_a_step_that_nothing_moves_stays() -> None:
    """Without declarations the order is the list's."""
    assert ordered({name: declared() for name in reversed(NAMES)}).names == tuple(reversed(NAMES))


def test_steps_that_are_not_in_the_plan_do_not_count() -> None:
    """To come after a step that another process type has is no contradiction."""
    assert ordered({"a": declared(after=["fonts"], before=["graphics-egl"])}).names == ("a",)


def test_what_comes_after_a_late_step_is_late_too() -> None:
    """The seal stands before all that follows a step that follows it."""
    found = ordered({"b": declared(after=["a"]), "a": declared(after=["seal"]), "c": declared()})
    assert found.names == ("c", "a", "b")
    assert found.late == {"a", "b"}


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        (
            {"a": declared(after=["b"]), "b": declared(after=["a"])},
            "these steps wait for each other, so that none can be first (a before b: b declares after = ['a']; "
            "b before a: a declares after = ['b']); take one of these away",
        ),
        ({"a": declared(before=["a"])}, "a declares before = ['a'], which is itself; take that away"),
        (
            {
                "a": declared(needs=["single-threaded"], leaves={"threads": ["x"]}),
                "b": declared(needs=["single-threaded"], leaves={"threads": ["y", "z"]}),
            },
            "these steps wait for each other, so that none can be first (a before b: a needs a single thread, and b "
            "leaves threads (y, z); b before a: b needs a single thread, and a leaves threads (x)); "
            "let one of them end its threads before it returns",
        ),
        (
            {"a": declared(after=["seal"], before=["b"]), "b": declared(before=["seal"])},
            "these steps wait for each other, so that none can be first (a before b: a declares before = ['b']; "
            "b before seal: b declares before = ['seal']; seal before a: a declares after = ['seal']); "
            "take one of these away",
        ),
    ],
)
def test_a_contradiction_names_each_side_and_the_remedy(steps: Steps, sentence: str) -> None:
    """Who waits for whom, by which word, and what to do: one sentence."""
    with pytest.raises(PlanError) as caught:
        plan_of(steps)
    assert str(caught.value) == f"a test: early_init: {sentence}"


def test_path_is_a_shortest_chain() -> None:
    """From one step to another by the fewest edges, or none."""
    edges = [Edge("a", "b", ""), Edge("b", "c", ""), Edge("c", "d", ""), Edge("a", "c", ""), Edge("d", "a", "")]
    assert [edge.second for edge in path(edges, "a", "d")] == ["c", "d"]
    assert path(edges, "x", "a") == ()
    assert [edge.first for edge in path(edges, "a", "a")] == ["a", "c", "d"]


def test_128_steps_are_ordered_in_no_time() -> None:
    """The work grows with the edges, not with their cube: half of the steps need one thread, half leave some."""
    kinds = (declared(needs=["single-threaded"]), declared(leaves={"threads": ["t"]}))
    found = ordered({f"s{index}": kinds[index % 2] for index in range(128)})
    assert [int(name[1:]) % 2 for name in found.names] == [0] * 64 + [1] * 64
    assert len(found.edges) == 128 + 64 * 64
