"""A plan against the layers of a backend and the policy: what cannot be is refused, for a reason that is true."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, reject, settings

from belljar.host.config.place import Place
from belljar.host.errors import PlanError
from belljar.host.plan.available import Surroundings
from belljar.host.plan.check import Problem, check_plan, problems
from belljar.host.plan.plan import Plan
from belljar.sandbox.backends import host_half, names
from belljar.sandbox.declaration import RIGHTS, Declaration
from belljar.sandbox.graphics import LLVMPIPE, Driver
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Policy

from .made import Steps, around, declared, plan_of, plans
from .test_order import SEAL, assert_is_true, is_late

GPU = Driver("/dev/dri/renderD128", ("gpu", "threads"))

GRANTED: dict[str, Callable[[Policy], bool]] = {
    "files": lambda policy: bool(policy.read_only) or bool(policy.read_write),
    "devices": lambda policy: bool(policy.devices),
    "gpu": lambda policy: policy.gpu or "/dev/dri/renderD128" in policy.devices,
    "network": lambda policy: any(family != "unix" for family in policy.network),
    "local-sockets": lambda policy: "unix" in policy.network,
    "threads": lambda policy: policy.threads,
    "subprocesses": lambda policy: policy.subprocesses,
    "executable-memory": lambda policy: policy.executable_memory,
}

CLOSERS: dict[str, set[Layer]] = {
    **{right: {Layer.SECCOMP} for right in RIGHTS},
    "files": {Layer.SECCOMP, Layer.LANDLOCK, Layer.EMPTY_ROOT},
    "devices": {Layer.SECCOMP, Layer.LANDLOCK, Layer.EMPTY_ROOT},
    "network": {Layer.SECCOMP, Layer.NET_NS},
}


def is_there(right: str, given: Surroundings, *, late: bool) -> bool:
    """Whether a child has *right* before or after its seal: the test's own idea of it."""
    if right == "network" and Layer.NET_NS in given.promised:
        return False
    if not late or GRANTED[right](given.policy):
        return True
    return not CLOSERS[right] & given.promised.keys()


def is_alone(name: str, line: list[str], steps: Steps) -> bool:
    """Whether no step before *name* leaves threads."""
    return not any(steps[other].leaves.threads for other in line[: line.index(name)])


def wrong(steps: Steps, line: list[str], given: Surroundings, driver: Driver) -> set[tuple[str, str, str]]:
    """Return each word of a declaration that cannot hold in this order: step, key and word."""
    found: set[tuple[str, str, str]] = set()
    for name, declaration in steps.items():
        late = is_late(name, steps)
        for need in declaration.needs:
            good = is_alone(name, line, steps) if need == "single-threaded" else is_there(need, given, late=late)
            if not good:
                found.add((name, "needs", need))
        for later in declaration.needs_after_seal:
            rights = driver.rights if later == "graphics-driver" else (later,)
            found |= {(name, "needs_after_seal", x) for x in rights if not is_there(x, given, late=True)}
        found |= {(name, "leaves", word) for word in left_wrongly(declaration, given, late=late)}
    return found


def left_wrongly(declaration: Declaration, given: Surroundings, *, late: bool) -> set[str]:
    """Return what a step may not leave where it stands."""
    leaves, promised = declaration.leaves, given.promised
    found: set[str] = set()
    if late:
        wanted = {"threads": leaves.threads, "executable-memory": leaves.executable_memory}
        return {right for right, is_left in wanted.items() if is_left and not is_there(right, given, late=True)}
    if "directory" in leaves.fds and not given.policy.open_directories and promised.keys() & SEALING:
        found.add("directory")
    if {*leaves.threads} - {"*"} and promised.get(Layer.LANDLOCK) == "" and not given.landlock_reaches_threads:
        found.add("threads")
    return found


SEALING = {Layer.SECCOMP, Layer.EMPTY_ROOT}


def assert_names_both_sides(problem: Problem, steps: Steps, given: Surroundings, plan: Plan) -> None:
    """Fail unless what *problem* names is so: the step declares it, and what speaks against it is there."""
    assert problem.text.startswith((f"{problem.step} ", f"what {problem.step} makes "))
    assert "; " in problem.text
    if problem.word != "single-threaded":
        assert problem.against
        assert all(layer in given.promised for layer in problem.against)
        return
    first, last = problem.against[0], problem.against[-1]
    assert last == problem.step
    assert "single-threaded" in steps[last].needs
    assert steps[first].leaves.threads
    for one, other in pairwise(problem.against):
        edges = [edge for edge in plan.edges if (edge.first, edge.second) == (one, other)]
        [named] = [edge for edge in edges if edge.why in problem.text]
        assert named.declared or named.second == SEAL
        assert_is_true(named, steps)


@settings(max_examples=150, deadline=None)
@given(plans(), around())
def test_each_need_holds_or_is_refused_for_a_true_reason(steps: Steps, given: Surroundings) -> None:
    """Exactly those words of declarations are refused that cannot hold, each by what really takes them away."""
    try:
        plan = plan_of(steps)
    except PlanError:  # its reason is judged in test_order
        reject()
    line = [step.name for step in plan.steps]
    for driver in (LLVMPIPE, GPU):
        found = list(problems(plan, given, driver))
        assert {(problem.step, problem.declares, problem.word) for problem in found} == wrong(
            steps, line, given, driver
        )
        for problem in found:
            assert_names_both_sides(problem, steps, given, plan)


@given(plans())
def test_a_backend_that_promises_nothing_takes_nothing(steps: Steps) -> None:
    """Without layers only threads can speak against a plan."""
    try:
        plan = plan_of(steps)
    except PlanError:
        reject()
    found = problems(plan, Surroundings("none", {}, Policy()), LLVMPIPE)
    assert {problem.word for problem in found} <= {"single-threaded"}


def refusal(steps: Steps, backend: str, policy: Policy, **more: Any) -> str:
    """Return the sentence with which the plan of *steps* is refused."""
    given = Surroundings(backend, host_half(backend).promises(policy), policy, **more)
    with pytest.raises(PlanError) as caught:
        check_plan(plan_of(steps), given, LLVMPIPE, Place("belljar.toml"))
    sentence = str(caught.value)
    assert sentence.startswith("belljar.toml: early_init: ")
    return sentence.removeprefix("belljar.toml: early_init: ")


@pytest.mark.parametrize(
    ("steps", "backend", "sentence"),
    [
        (
            {"fonts": declared(needs=["files"], after=["seal"])},
            "namespaces",
            "fonts needs files, but stands after the seal, and the seal of namespaces takes it away (empty-root, "
            "seccomp) and the policy does not grant it; let it come before the seal, declare its needs without it if "
            "it can do without, or grant read_only or read_write in the policy",
        ),
        (
            {"egl": declared(needs_after_seal=["graphics-driver"])},
            "seccomp",
            "what egl makes needs executable-memory in the sealed child (for the driver llvmpipe), but the seal of "
            "seccomp takes it away (seccomp) and the policy does not grant it; grant executable_memory in the policy, "
            "or leave the step out",
        ),
        (
            {
                "egl": declared(leaves={"threads": ["llvmpipe-*"]}),
                "ns": declared(needs=["single-threaded"], after=["egl"]),
            },
            "namespaces",
            "ns needs a single thread, but egl leaves threads (llvmpipe-*) and comes before it: "
            "ns declares after = ['egl']; take that away, or let egl leave none",
        ),
        (
            {"scan": declared(leaves={"fds": ["directory"]})},
            "bubblewrap",
            "scan leaves a directory open, but the seal of bubblewrap allows none, for it would lead around what the "
            "seal takes away; close it at the end of the step, or grant open_directories in the policy",
        ),
        (
            {"fetch": declared(needs=["network"])},
            "namespaces",
            "fetch needs network, but namespaces gives the child a network namespace of its own in stage 3; "
            "grant network in the policy, or choose a backend without one",
        ),
        (
            {"pool": declared(leaves={"threads": ["pool-*"]}, after=["seal"])},
            "namespaces",
            "pool leaves threads, but stands after the seal, and the seal of namespaces takes it away (seccomp) and "
            "the policy does not grant it; let it come before the seal, or grant threads in the policy",
        ),
    ],
)
def test_a_refusal_names_both_sides_and_the_remedy(steps: Steps, backend: str, sentence: str) -> None:
    """The step with what it declares, what takes that away, and what to do about it."""
    assert refusal(steps, backend, Policy()) == sentence


def test_the_chain_of_a_refusal_goes_through_the_seal() -> None:
    """What comes before a late step because of the seal is named so, and not by what follows from the need."""
    both = {"needs": ["single-threaded"], "leaves": {"threads": ["x"]}}
    assert refusal({"a": declared(**both), "b": declared(**both, after=["seal"])}, "none", Policy()) == (
        "b needs a single thread, but a leaves threads (x) and comes before it: early init comes before the seal, and "
        "a declares nothing else; b declares after = ['seal']; take that away, or let a leave none"
    )


def test_landlock_and_threads_from_before_the_seal() -> None:
    """Where landlock alone keeps a child to the files that are granted, threads of early init are refused."""
    granting = Policy(read_only=("/srv/fonts",))
    steps = {"egl": declared(leaves={"threads": ["llvmpipe-*", "*"]})}
    assert refusal(steps, "landlock", granting) == (
        "egl leaves threads (llvmpipe-*), but landlock does not reach threads from before the seal on this kernel "
        "(ABI 8 does), and nothing else keeps them to the files that the policy grants; grant no files, or choose the "
        "backend namespaces"
    )
    for policy, abi_8, leaves in ((granting, True, "x"), (Policy(), False, "x"), (granting, False, "*")):
        given = Surroundings("landlock", host_half("landlock").promises(policy), policy, abi_8)
        assert not list(problems(plan_of({"egl": declared(leaves={"threads": [leaves]})}), given, LLVMPIPE))


@pytest.mark.parametrize("backend", names())
def test_what_the_policy_grants_is_no_problem(backend: str) -> None:
    """A policy that grants all, on a backend that then promises what it can keep, refuses no right."""
    policy = Policy(
        read_only=("/srv",),
        devices=("/dev/dri/renderD128",),
        network=("inet", "unix"),
        subprocesses=True,
        threads=True,
        executable_memory=True,
        open_directories=True,
    )
    given = Surroundings(backend, host_half(backend).promises(policy), policy)
    steps = {
        "early": declared(needs=[*RIGHTS, "single-threaded"], needs_after_seal=[*RIGHTS, "graphics-driver"]),
        "late": declared(needs=[*RIGHTS], after=["seal"], leaves={"threads": ["*"], "executable_memory": True}),
    }
    found = {problem.word for problem in problems(plan_of(steps), given, LLVMPIPE)}
    assert found == ({"network"} if Layer.NET_NS in given.promised else set())
