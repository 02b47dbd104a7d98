"""What each layer means for each operation: a row for every one, and no layer or right that turns it around."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.sandbox import landlock
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Policy
from belljar.sandbox.protection.operations import (
    GROUPS,
    Held,
    Operation,
    Verdict,
    judge_operations,
    requirement_names,
    unmet,
)
from belljar.sandbox.seccomp.answers import Rights
from belljar.sandbox.seccomp.rules import rules_for

RANK = {Verdict.OPEN: 0, Verdict.GRANTED: 0, Verdict.PARTLY: 1, Verdict.ENFORCED: 2}
"""How much of an operation is refused: nothing, something, all that the policy does not grant."""

policies = st.builds(
    Policy,
    read_only=st.sampled_from([(), ("/usr",)]),
    read_write=st.sampled_from([(), ("/srv",)]),
    devices=st.sampled_from([(), ("/dev/null",), ("/dev/dri/renderD128",)]),
    gpu=st.booleans(),
    network=st.lists(st.sampled_from(("unix", "inet", "inet6", "netlink")), unique=True, max_size=2).map(tuple),
    subprocesses=st.booleans(),
    threads=st.booleans(),
    executable_memory=st.booleans(),
    local_channels=st.booleans(),
    covert_channels=st.lists(
        st.sampled_from(("keys", "locks", "vsock", "sysv-ipc", "posix-queues")), unique=True, max_size=2
    ).map(tuple),
)
layers = st.sets(st.sampled_from(Layer)).map(frozenset)

GRANTS: dict[str, Any] = {
    "read_only": ("/opt",),
    "read_write": ("/var",),
    "devices": ("/dev/zero",),
    "gpu": True,
    "network": ("inet", "unix"),
    "subprocesses": True,
    "threads": True,
    "executable_memory": True,
    "local_channels": True,
    "covert_channels": ("keys", "vsock", "sysv-ipc"),
}


def held(policy: Policy, engaged: frozenset[Layer], *, abi: int, own_pid: bool = False, older: bool = False) -> Held:
    """Return what holds a child; landlock's features are those that a backend would ask for."""
    rights = Rights.of(policy, own_pid_only=own_pid)
    granted = landlock.grant(landlock.inner(policy), abi) if Layer.LANDLOCK in engaged else None
    return Held(engaged, policy, rights, rules_for(rights), granted, older and abi < 8)


def ranks(found: Held) -> dict[Operation, int]:
    """Return how much of each operation is refused."""
    return {status.operation: RANK[status.verdict] for status in judge_operations(found)}


def verdicts(policy: Policy, *engaged: Layer, abi: int = 7) -> dict[Operation, Verdict]:
    """Return the verdict of each operation."""
    return {status.operation: status.verdict for status in judge_operations(held(policy, frozenset(engaged), abi=abi))}


def test_every_operation_has_a_row() -> None:
    """Each operation is judged once, in its order, whatever holds the child."""
    for engaged in (frozenset[Layer](), frozenset(Layer)):
        assert [status.operation for status in judge_operations(held(Policy(), engaged, abi=7))] == list(Operation)


def test_nothing_is_enforced_by_nothing() -> None:
    """Without a layer every operation is open, or granted where the policy grants it."""
    assert set(verdicts(Policy()).values()) == {Verdict.OPEN}
    assert verdicts(Policy(threads=True))[Operation.MAKE_THREAD] is Verdict.GRANTED


def test_all_layers_enforce_all_operations() -> None:
    """Under every layer a child that may nothing is refused every operation."""
    assert set(verdicts(Policy(), *Layer).values()) == {Verdict.ENFORCED}


def test_words_of_require_are_unique() -> None:
    """No word means two things, and each operation of a group exists."""
    words = requirement_names()
    assert len(set(words)) == len(words)
    assert {*Layer, *Operation, *GROUPS} == set(words)
    assert all(operation in Operation for operations in GROUPS.values() for operation in operations)


def test_what_is_unmet_is_said_in_words() -> None:
    """A layer that lacks, an operation that is open, and one that is only partly enforced each have their sentence."""
    engaged = frozenset({Layer.SECCOMP, Layer.LANDLOCK})
    policy = Policy(read_only=("/usr",))
    operations = judge_operations(held(policy, engaged, abi=7, older=True))
    problems = unmet(("empty-root", "seccomp", "files", "stat a file"), dict.fromkeys(engaged, ""), operations)
    assert problems[0] == "it has no empty-root"
    assert problems[1].startswith("read a file: partly (by landlock; the policy grants /usr; threads that were there")
    assert problems[-1] == "stat a file: open (the policy grants /usr)"
    assert unmet((), {}, operations) == []


@settings(deadline=None, max_examples=150)
@given(policy=policies, engaged=layers, more=st.sampled_from(Layer), abi=st.integers(1, 10), own_pid=st.booleans())
def test_a_further_layer_never_makes_it_worse(
    *, policy: Policy, engaged: frozenset[Layer], more: Layer, abi: int, own_pid: bool
) -> None:
    """With one layer more, no operation is refused less."""
    before = ranks(held(policy, engaged, abi=abi, own_pid=own_pid))
    after = ranks(held(policy, engaged | {more}, abi=abi, own_pid=own_pid))
    assert all(after[operation] >= rank for operation, rank in before.items())


@settings(deadline=None, max_examples=150)
@given(policy=policies, engaged=layers, right=st.sampled_from(tuple(GRANTS)), abi=st.integers(1, 10))
def test_a_further_right_never_makes_it_better(
    *, policy: Policy, engaged: frozenset[Layer], right: str, abi: int
) -> None:
    """With one right more, no operation is refused more."""
    granted = getattr(policy, right)
    value = GRANTS[right]
    wider = value if isinstance(value, bool) else tuple(dict.fromkeys((*granted, *value)))
    before = ranks(held(policy, engaged, abi=abi))
    after = ranks(held(msgspec.structs.replace(policy, **{right: wider}), engaged, abi=abi))
    assert all(after[operation] <= rank for operation, rank in before.items())


@settings(deadline=None, max_examples=100)
@given(policy=policies, engaged=layers, abi=st.integers(1, 10))
def test_older_threads_never_make_it_better(*, policy: Policy, engaged: frozenset[Layer], abi: int) -> None:
    """Threads that landlock does not reach leave no operation refused more."""
    before = ranks(held(policy, engaged, abi=abi))
    after = ranks(held(policy, engaged, abi=abi, older=True))
    assert all(after[operation] <= rank for operation, rank in before.items())


@settings(deadline=None, max_examples=100)
@given(policy=policies, engaged=layers, abi=st.integers(1, 10))
def test_a_verdict_says_why(*, policy: Policy, engaged: frozenset[Layer], abi: int) -> None:
    """What is enforced names its layers, what is partly enforced also why, what is granted what the policy grants."""
    for status in judge_operations(held(policy, engaged, abi=abi)):
        assert set(status.layers) <= engaged
        assert bool(status.layers) is (status.verdict in (Verdict.ENFORCED, Verdict.PARTLY))
        assert bool(status.why) is (status.verdict is Verdict.PARTLY)
        assert status.granted or status.verdict is not Verdict.GRANTED
