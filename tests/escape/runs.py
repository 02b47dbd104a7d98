"""Run the attacks: one child a policy, backend and user for most of them, one of its own for each that spoils it."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import anyio

from belljar import ChildEnded, LaunchError, Process, ProcessHost, Protection
from belljar.ipc.pidfds import ancestors
from belljar.ipc.stage import Stage
from belljar.sandbox.backends import BACKENDS, host_half
from belljar.sandbox.probe import probe
from belljar.sandbox.user import resolve_user
from tests.children.intruder import ATTACKS, Outcome
from tests.children.intruder.inherited import SECRET_VARIABLE

from .policies import EVERYWHERE, POLICIES, SHARED, WARM_UP
from .scene import CHILDREN, Scene
from .witness import had_effect

PRELOAD = ("contextlib", "ctypes", "errno", "fcntl", "mmap", "resource", "select", "signal", "socket", "stat", "struct")
AT_ONCE = 2
NO_SUCH_CHILD = "policy refused"
NO_CHILD = "launch refused"


class Case(NamedTuple):
    """One child to be: who it is, how it is confined, what it may do, what it tries."""

    backend: str
    run_as: str
    policy: str
    attacks: tuple[str, ...]


@dataclass
class Run:
    """What came of a case. Without a child there is no protection, and *refusal* says why."""

    case: Case
    protection: Protection | None = None
    refusal: str = ""
    outcomes: dict[str, Outcome] = field(default_factory=dict)


def users() -> tuple[str, ...]:
    """Return whom children run as here, as ``run_as`` says it: root can have two kinds."""
    return ("root", "nobody") if os.geteuid() == 0 else ("",)


def cases(backend: str, run_as: str) -> Iterator[Case]:
    """Yield all children that *backend* is attacked with."""
    together = [attack for attack in ATTACKS.values() if not attack.apart]
    for policy in POLICIES:
        names = [a.name for a in together if a.policy == policy or (a.operation and policy in SHARED)]
        if names:
            yield Case(backend, run_as, policy, tuple(names))
    for attack in ATTACKS.values():
        if attack.apart:
            yield Case(backend, run_as, attack.policy, (attack.name,))


@functools.cache
def runs_of(backend: str, run_as: str) -> Sequence[Run]:
    """Run all cases of *backend*, once in a session."""
    return anyio.run(_run_all, tuple(cases(backend, run_as)))


async def _run_all(todo: Sequence[Case]) -> list[Run]:
    runs = [Run(case) for case in todo]
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def run_one(run: Run) -> None:
        async with limiter:
            await _run(run)

    async with anyio.create_task_group() as tasks:
        for run in runs:
            tasks.start_soon(run_one, run)
    return runs


async def _run(run: Run) -> None:
    case = run.case
    user = resolve_user(case.run_as)
    with Scene(user) as scene:
        policy = POLICIES[case.policy](str(scene.shared))
        if why := host_half(case.backend).unable(policy, probe(user)):
            run.refusal = why
            run.outcomes = dict.fromkeys(case.attacks, Outcome(NO_SUCH_CHILD))
            return
        process = Process(
            plugin=f"{CHILDREN / 'intruder'}:Intruder",
            backend=case.backend,
            policy=policy,
            run_as=case.run_as,
            preload=PRELOAD,
            early_init=tuple(
                f"{CHILDREN / 'intruder_warm.py'}:{name}" for name in WARM_UP.get(case.policy, EVERYWHERE)
            ),
        )
        try:
            async with ProcessHost(process) as host:
                run.protection = host.protection
                await _attack(run, scene, host)
        except LaunchError as error:
            if error.stage is not Stage.SEAL or case.policy != "folder kept":
                raise
            run.refusal = str(error)
            run.outcomes = dict.fromkeys(case.attacks, Outcome(NO_CHILD))


async def _attack(run: Run, scene: Scene, host: ProcessHost) -> None:
    names = list(run.case.attacks)
    with launcher_of(host) as scene.launcher:
        await _attack_and_judge(run, scene, host, names)


@contextmanager
def launcher_of(host: ProcessHost) -> Iterator[int]:
    """Yield a pidfd of the process above the child, whoever that is."""
    assert host.child_pid is not None
    pidfd = os.pidfd_open(ancestors(host.child_pid)[1])
    try:
        yield pidfd
    finally:
        os.close(pidfd)


async def _attack_and_judge(run: Run, scene: Scene, host: ProcessHost, names: list[str]) -> None:
    try:
        claimed = await host.call("attempt_all", names, scene.target, returns=dict[str, Outcome], timeout=40)
    except ChildEnded as error:
        assert len(names) == 1, f"some attack of several ended their child: {error}"
        claimed = {names[0]: Outcome(error.ended.signal or f"exit code {error.ended.exit_code}")}
    run.outcomes = {name: _judge(scene, name, claimed[name]) for name in names}


def _judge(scene: Scene, name: str, claimed: Outcome) -> Outcome:
    """Believe the host's own eyes before the child's word."""
    seen = had_effect(scene, name, claimed.evidence)
    if seen is None or seen == (not claimed.kept):
        return claimed
    return Outcome("", claimed.evidence) if seen else Outcome("nothing happened outside")


def backends() -> tuple[str, ...]:
    """Return the names of belljar's own backends."""
    return tuple(BACKENDS)


os.environ[SECRET_VARIABLE] = "a secret of the host"
