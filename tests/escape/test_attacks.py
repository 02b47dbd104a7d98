"""Each attack works where nothing is in its way; under each backend it does what the protection report foretells.

The list is tests/children/intruder. Nothing here knows what a backend confines: the report of the very child says it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from belljar import Protection
from belljar.sandbox.layers import Layer
from belljar.sandbox.protection import Operation, Verdict
from belljar.sandbox.user import User, resolve_user
from tests.children.intruder import ATTACKS, NOT_IN_KERNEL, Outcome

from ..helpers import require
from .judge import overstated, understated
from .policies import MEANING, POLICIES, SHARED
from .runs import Run, backends, runs_of, users
from .scene import CHILDREN, Scene
from .witness import WITNESSES

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the attacks call by the numbers of x86_64"),
    pytest.mark.timeout(180),  # the first test of a backend runs all its children
]

PROVEN = [attack.name for attack in ATTACKS.values() if attack.proof == "none"]
CARELESS = [attack.name for attack in ATTACKS.values() if attack.proof == "careless"]
CAPABILITIES = {"raise a hard limit": 24}
"""Attacks that work with this capability only, which root may lack inside of a container."""

on_users = pytest.mark.parametrize("run_as", users())
on_confining = pytest.mark.parametrize("backend", [name for name in backends() if name != "none"])


def runs(backend: str, run_as: str) -> list[Run]:
    """Return what came of all attacks under *backend*; skips or fails where that does not work."""
    require(backend, resolve_user(run_as))
    return list(runs_of(backend, run_as))


def outcomes(run_as: str, name: str) -> Iterator[Outcome]:
    """Yield what came of one attack under ``none``, once a policy."""
    for run in runs("none", run_as):
        if name in run.outcomes:
            yield run.outcomes[name]


@on_users
@pytest.mark.parametrize("name", PROVEN)
def test_attack_works_without_a_sandbox(name: str, run_as: str) -> None:
    """An attack succeeds under ``none`` whatever the policy, as far as this user may do such a thing at all."""
    attack = ATTACKS[name]
    found = {outcome.kept for outcome in outcomes(run_as, name)}
    if attack.needs_root and not resolve_user(run_as).is_root:
        pytest.skip("needs root even without a sandbox")
    if found and found <= set(NOT_IN_KERNEL):
        pytest.skip(f"this kernel was built without it: {', '.join(found)}")
    if name in CAPABILITIES and not own_capabilities() >> CAPABILITIES[name] & 1:
        pytest.skip(f"this root has no capability {CAPABILITIES[name]}")
    assert found == {""}


def own_capabilities() -> int:
    """Return the effective set of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))


@pytest.mark.parametrize("name", CARELESS)
def test_attack_works_where_nobody_takes_care(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``none`` itself does not leave to a child is there for a program that was started the usual way."""
    ids: dict[str, Any] = {"start_new_session": True, "stdin": subprocess.DEVNULL}
    if name == "keep a group of the host":
        if os.geteuid() != 0:
            pytest.skip("only root can give up its uid and keep its groups")
        ids["user"] = 65534
    with Scene(User.current()) as scene:
        memfd, folder = os.memfd_create("policy", 0), os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            argv = [
                sys.executable,
                "-I",
                str(CHILDREN / "careless.py"),
                json.dumps(dataclasses.asdict(scene.target)),
                name,
            ]
            done = subprocess.run(argv, capture_output=True, check=True, pass_fds=[memfd, folder], **ids)
        finally:
            changed = os.pread(memfd, 16, 0)
            os.close(memfd)
            os.close(folder)
    said = json.loads(done.stdout)
    assert said["kept"] == ""
    assert said["mate"] == (name == "signal its own process group, which the launcher may share")
    assert bool(changed) == (name == "write into a policy or program that it was given")


@on_users
@on_confining
def test_nothing_escapes_that_the_report_calls_enforced(backend: str, run_as: str) -> None:
    """No attack succeeds on an operation that is enforced, or that an engaged layer must stop; nor without a child."""
    assert [sentence for run in runs(backend, run_as) for sentence in overstated(run)] == []


@on_users
@pytest.mark.parametrize("backend", backends())
def test_what_the_report_calls_open_can_be_shown(backend: str, run_as: str) -> None:
    """For each operation that is open, granted or partly enforced an attack succeeds; and partly says why."""
    assert [sentence for run in runs(backend, run_as) for sentence in understated(run)] == []


@on_users
@pytest.mark.parametrize("backend", backends())
def test_every_attack_is_made(backend: str, run_as: str) -> None:
    """Each attack came to something under each backend; where there was no child, the backend itself says why."""
    found = runs(backend, run_as)
    assert {name for run in found for name in run.outcomes} == set(ATTACKS)
    assert all(set(run.outcomes) == set(run.case.attacks) for run in found)
    assert all((run.protection is None) == bool(run.refusal) for run in found)


@on_users
def test_a_report_that_claims_too_much_is_found_out(run_as: str) -> None:
    """With each operation called enforced, nearly every attack under ``none`` is a disagreement."""
    boasted = [sentence for run in runs("none", run_as) for sentence in overstated(_with(run, Verdict.ENFORCED))]
    assert len(boasted) > 3 * len(Operation) * len(SHARED)


@on_users
def test_a_report_that_claims_too_little_is_found_out(run_as: str) -> None:
    """With each operation called open, nearly every operation under ``namespaces`` is a disagreement."""
    modest = [sentence for run in runs("namespaces", run_as) for sentence in understated(_with(run, Verdict.OPEN))]
    assert len(modest) > len(Operation) * len(SHARED) // 2


def _with(run: Run, verdict: Verdict) -> Run:
    """Return *run* with a report that says *verdict* of all."""
    if run.protection is None:
        return run
    operations = tuple(status._replace(verdict=verdict) for status in run.protection.operations)
    changed: Protection = dataclasses.replace(run.protection, operations=operations)
    return dataclasses.replace(run, protection=changed)


def test_the_list_fits_together() -> None:
    """Operations, layers and policies of the attacks exist; each operation is attacked, each witness has its attack."""
    attacked = {attack.operation for attack in ATTACKS.values()} - {""}
    assert attacked == {operation.value for operation in Operation}
    assert {layer for attack in ATTACKS.values() for layer in attack.layers} <= {layer.value for layer in Layer}
    assert {policy for attack in ATTACKS.values() for policy in (attack.policy, *attack.granted)} <= set(POLICIES)
    assert set(MEANING) == set(POLICIES)
    assert set(WITNESSES) <= set(ATTACKS)
