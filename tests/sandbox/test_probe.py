"""Probing: each feature is really tried, and what is missing is named with cause and remedy."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from belljar.sandbox.backends import names
from belljar.sandbox.errors import SandboxError
from belljar.sandbox.probe import FEATURES, LOST_WITHOUT, PARTS, LayerProbe, explain, faked_names, probe, requirements
from belljar.sandbox.probes.__main__ import PROBES

PROGRAM = Path(__file__).parents[1] / "children" / "probes_under.py"
DEPENDENTS = {"pidns", "netns", "ipcns", "mountns", "utsns", "cgroupns", "empty-root", "capabilities"}

RUN_ODD_PROBES = """
import json, os, signal, sys
from belljar.sandbox.errors import SandboxError
from belljar.sandbox.probes.forked import run_all
from belljar.sandbox.steps import StepFailed

def hang():
    if os.fork() == 0:
        os.write(2, f"{os.getpid()}\\n".encode())
    signal.pause()

def wrong():
    raise SandboxError("it did nothing")

def refused():
    raise StepFailed("do it", 1, "Operation not permitted")

def bug():
    raise KeyError("bug")

def killed():
    signal.raise_signal(signal.SIGKILL)

probes = {"hang": hang, "wrong": wrong, "refused": refused, "bug": bug, "killed": killed, "good": lambda: "fine"}
json.dump(run_all(probes, 1.0), sys.stdout)
"""


def has_ended(stray_pid: int) -> bool:
    """Wait for the end of a process that somebody else reaps."""
    try:
        pidfd = os.pidfd_open(stray_pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], 5)[0])
    finally:
        os.close(pidfd)


@pytest.fixture(autouse=True)
def _no_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BELLJAR_FAKE_MISSING", raising=False)


def under(restriction: str) -> dict[str, LayerProbe]:
    """Return the results of a program that probes from under *restriction*; skip where it cannot be set up."""
    if "userns" in {result.name for result in probe().missing(FEATURES)} and not restriction.startswith("seccomp"):
        pytest.skip("the restriction itself needs user namespaces")
    done = subprocess.run([sys.executable, "-I", PROGRAM, restriction], capture_output=True, check=True, timeout=30)
    return {name: LayerProbe(**result) for name, result in json.loads(done.stdout).items()}


def test_names_are_the_same_on_both_sides() -> None:
    """The host's list of features and the throwaway process's table of probes are one list."""
    assert tuple(PROBES) == FEATURES


@pytest.mark.parametrize("name", FEATURES)
def test_each_feature_has_an_answer(name: str) -> None:
    """A feature either works without a cause, or is missing with a cause and a remedy."""
    result = probe().results[name]
    assert result.name == name
    assert result.works == (not result.cause) == (not result.remedy)


def test_second_call_is_answered_from_memory() -> None:
    """The machine is tried once a process, unless a refresh is asked for."""
    first = probe().results["userns"]
    assert probe().results["userns"] is first
    assert probe(refresh=True).results["userns"] is not first


def test_probing_leaves_the_process_as_it_was() -> None:
    """Probing leaves neither a process nor an fd, and this process keeps its namespaces."""

    def state() -> tuple[list[str], list[str], str]:
        pid = os.getpid()
        namespaces = sorted(os.readlink(f"/proc/self/ns/{kind}") for kind in ("user", "pid", "net", "mnt"))
        return sorted(os.listdir("/proc/self/fd")), namespaces, Path(f"/proc/{pid}/task/{pid}/children").read_text()

    probe(refresh=True)  # what is started once for all probing, such as a guard, is there from now on
    before = state()
    probe(refresh=True)
    assert state() == before


def test_odd_probes_are_reported_by_name() -> None:
    """A probe that hangs, fails, crashes or dies is reported as that and hides no other's answer."""
    done = subprocess.run([sys.executable, "-I", "-c", RUN_ODD_PROBES], capture_output=True, check=True, timeout=30)
    outcomes: dict[str, dict[str, Any]] = json.loads(done.stdout)

    assert outcomes["good"] == {"works": True, "detail": "fine"}
    assert [name for name, outcome in outcomes.items() if outcome["works"]] == ["good"]
    assert outcomes["hang"]["text"] == "it hung and was killed after 1 s"
    assert outcomes["wrong"]["text"] == "it did nothing"
    assert (outcomes["refused"]["step"], outcomes["refused"]["errno"]) == ("do it", 1)
    assert outcomes["bug"]["text"] == "its process ended with exit code 1 before it answered"
    assert outcomes["killed"]["text"] == "its process was killed by SIGKILL before it answered"
    assert outcomes["refused"]["text"] == "could not do it: Operation not permitted"


def test_hanging_probe_takes_its_own_processes_along() -> None:
    """What a hanging probe has started is killed with it."""
    done = subprocess.run([sys.executable, "-I", "-c", RUN_ODD_PROBES], capture_output=True, check=True, timeout=30)
    strays = [int(line) for line in done.stderr.split() if line.isdigit()]
    assert strays
    for stray_pid in strays:
        assert has_ended(stray_pid)


@pytest.mark.parametrize("name", FEATURES)
def test_fake_shows_the_feature_as_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A faked feature is missing with cause and remedy, and so is, for a user who is not root, what depends on it."""
    real = {result.name for result in probe().missing(FEATURES)}
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", name)
    machine = probe()

    result = machine.results[name]
    assert (result.works, result.cause, result.remedy) == (
        False,
        "faked by BELLJAR_FAKE_MISSING",
        "unset BELLJAR_FAKE_MISSING",
    )
    assert result.detail == LOST_WITHOUT.get(name, "")
    dependents = DEPENDENTS if name == "userns" and os.geteuid() != 0 else set[str]()
    dependents |= {program for program, parts in PARTS.items() if name in parts}
    assert {result.name for result in machine.missing(FEATURES)} == real | {name} | dependents


def test_dependents_of_faked_userns_point_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not root and has no user namespace reads at each dependent feature that this is why."""
    if os.geteuid() == 0:
        pytest.skip("root can do without user namespaces")
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", "userns")
    missing = probe().missing(FEATURES)
    assert {result.name for result in missing if result.cause.startswith("it needs userns")} == DEPENDENTS
    assert explain(missing) == "userns, bwrap: faked by BELLJAR_FAKE_MISSING; unset BELLJAR_FAKE_MISSING"


def test_fakes_are_read_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake set or taken back later counts at the next call."""
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", " landlock, ,pidfd")
    assert not probe().results["landlock"].works
    assert not probe().results["pidfd"].works
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", "")
    assert probe().results["memfd-seal"].works


def test_unknown_fake_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is no feature is refused with the nearest name and all valid ones."""
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", "landlock,usrns")
    with pytest.raises(
        SandboxError, match=r"^BELLJAR_FAKE_MISSING names no feature: 'usrns' \(did you mean 'userns'\?"
    ) as e:
        probe()
    assert all(name in str(e.value) for name in FEATURES)


def test_unknown_fake_without_a_near_name_guesses_nothing() -> None:
    """A name that is near to none is refused without a guess."""
    with pytest.raises(SandboxError, match=r"'xyz' \(known are userns, "):
        faked_names("xyz")


@pytest.mark.parametrize("backend", names())
def test_requirements_are_features(backend: str) -> None:
    """What a backend requires can be probed, and is not said to be optional."""
    assert set(requirements(backend)) <= set(FEATURES) - set(LOST_WITHOUT)


def test_requirements_of_an_unknown_backend() -> None:
    """An unknown backend is refused by name."""
    with pytest.raises(SandboxError, match="there is no backend 'jail'"):
        requirements("jail")


def test_explain_names_each_cause_once() -> None:
    """What is missing for one reason is said in one clause."""
    missing = [LayerProbe("seccomp", False, "C", "R"), LayerProbe("pidfd", False, "D", "S")]
    missing.append(LayerProbe("seccomp-tsync", False, "C", "R"))
    assert explain(missing) == "seccomp, seccomp-tsync: C; R; pidfd: D; S"
    assert explain([]) == ""


def test_explain_names_each_remedy_once() -> None:
    """What one remedy mends is said in one clause, with the first cause."""
    missing = [LayerProbe("userns", False, "C", "R"), LayerProbe("pidns", False, "D", "R")]
    assert explain([*missing, LayerProbe("pidfd", False, "E", "S")]) == "userns, pidns: C; R; pidfd: E; S"


def test_without_proc_nothing_else_is_worth_saying() -> None:
    """A missing /proc makes much else fail, so only it is told; a faked one stands beside the rest."""
    userns = LayerProbe("userns", False, "could not write setgroups", "R")
    assert explain([userns, LayerProbe("proc", False, "it is not mounted", "mount it")]) == (
        "proc: it is not mounted; mount it"
    )
    faked = LayerProbe("proc", False, "faked by BELLJAR_FAKE_MISSING", "unset BELLJAR_FAKE_MISSING")
    assert "userns" in explain([userns, faked])


def test_namespace_limit_is_named() -> None:
    """Where user.max_user_namespaces is 0, that sysctl is the cause and the remedy."""
    result = under("max_user_namespaces")["userns"]
    assert not result.works
    assert "could not make a user namespace: No space left on device" in result.cause
    assert "user.max_user_namespaces=0" in result.cause
    assert "sysctl -w user.max_user_namespaces" in result.remedy


def test_read_only_proc_sys_is_named() -> None:
    """Where /proc/sys is read-only, as in containers, userns cannot be closed to nested ones, and that is said."""
    result = under("proc-sys-read-only")["userns"]
    assert not result.works
    assert "could not forbid nested user namespaces: Read-only file system" in result.cause
    assert "systempaths=unconfined" in result.remedy


def test_outer_filter_is_named() -> None:
    """Where an outer seccomp filter refuses unshare with EPERM, the filter is the cause, not a sysctl."""
    results = under("seccomp-unshare")
    assert "seccomp filter of an outer container" in results["userns"].cause
    assert "pivot_root" in results["userns"].remedy
    assert {name for name, result in results.items() if not result.works} >= DEPENDENTS - {"capabilities"} | {"userns"}
    assert results["seccomp"].works


def test_missing_pidfd_is_named() -> None:
    """Where pidfd_open answers ENOSYS, the kernel's age or an old filter is the cause, and `none` misses it too."""
    results = under("seccomp-pidfd")
    assert not results["pidfd"].works
    assert "could not open a pidfd: Function not implemented (this kernel is older than" in results["pidfd"].cause


def test_missing_landlock_costs_little() -> None:
    """Where landlock is missing, all else is found, but for the setuid helper: the filter takes no_new_privs."""
    free, results = under("nothing"), under("seccomp-landlock")
    assert not results["landlock"].works
    lost = {"landlock", "chrome-sandbox"}
    assert "no_new_privs" in results["chrome-sandbox"].cause
    assert {n for n, r in results.items() if not r.works} == {n for n, r in free.items() if not r.works} | lost
