"""Hosts in hostile surroundings: what still works there works, and the rest is refused by a sentence that helps."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from belljar.sandbox.backends import BACKENDS, host_half
from belljar.sandbox.probe import probe

from ..helpers import CHILDREN

IS_ROOT = os.geteuid() == 0
WORKS = ""

# Part of a sentence: what is in the way, and what to do about it.
NO_USER_NAMESPACES = ("user namespaces are off: user.max_user_namespaces=0", "run 'sysctl -w user.max_user_namespaces")
FILTERED = ("the seccomp filter of an outer container or sandbox refuses the call", "--security-opt seccomp=FILE")
READ_ONLY_PROC = ("could not forbid nested user namespaces: Read-only file system", "systempaths=unconfined")
MASKED_PROC = ("mount too revealing", "systempaths=unconfined")
NO_ROOT_HERE = ("cannot become root inside of a user namespace that has none", "or use another backend")
NO_SETUID = ("no_new_privs is set on this process", "start this program without it")
HELPER_FILTERED = ("the kernel refused the helper its namespaces", "start the container with CAP_SYS_ADMIN")
NO_PROC = ("or is not mounted", "mount /proc for this pid namespace")
PROCESSES = ("no more processes are allowed: ulimit -u", "raise the limit or end other processes")
FILES = ("no more open files are allowed", "raise 'ulimit -n'")

# Surroundings that root makes without a user namespace; in those of others, chrome-sandbox's root is nobody.
IN_OWN_MOUNTS = {"proc-sys-read-only", "proc-masked", "container", "no-proc", "no-shm"}
IN_A_USER_NAMESPACE = {"no-nested-userns", "20-processes", "6-processes", "2-processes"}
NOT_FOR_ROOT = {"20-processes", "6-processes", "2-processes"}
ON_THE_EDGE = {"6-processes"}  # enough for one launch, if no thread of the host's is still there; or not

Refusals = dict[str, tuple[str, ...]]

REFUSED: dict[str, Refusals] = {
    "nothing": {},
    "no-nested-userns": {"namespaces": NO_USER_NAMESPACES, "bubblewrap": NO_USER_NAMESPACES},
    "container-filter": {
        "namespaces": FILTERED,
        "chrome-sandbox": HELPER_FILTERED if IS_ROOT else NO_SETUID,
        "bubblewrap": FILTERED,
    },
    "proc-sys-read-only": {"namespaces": READ_ONLY_PROC, "bubblewrap": MASKED_PROC},
    "proc-masked": {"namespaces": READ_ONLY_PROC, "bubblewrap": MASKED_PROC},
    "container": {"namespaces": FILTERED, "chrome-sandbox": HELPER_FILTERED, "bubblewrap": FILTERED},
    "no-proc": dict.fromkeys((*BACKENDS, "auto"), NO_PROC),
    "no-new-privs": {"chrome-sandbox": NO_SETUID},
    "no-shm": {},
    "20-processes": {},
    "6-processes": {},
    "2-processes": dict.fromkeys((*BACKENDS, "auto"), PROCESSES),
    "32-files": {},
    "14-files": dict.fromkeys((*BACKENDS, "auto"), FILES),
    "odd-signals": {},
    "no-standard-fds": {},
    "odd-folder": {},
}


def usable() -> list[str]:
    """Return the backends that work on this machine where nothing is in their way."""
    machine = probe()
    return [name for name in BACKENDS if not machine.missing(host_half(name).requires)]


@functools.cache
def outcomes(surrounding: str, run_as: str) -> dict[str, Any]:
    """Return what came of each backend and of ``auto`` in *surrounding*; it must end by itself, and alone."""
    needs_userns = surrounding in IN_A_USER_NAMESPACE or (surrounding in IN_OWN_MOUNTS and not IS_ROOT)
    if needs_userns and "namespaces" not in usable():
        pytest.skip("the surrounding itself needs user namespaces")
    argv = [sys.executable, "-I", str(CHILDREN / "surrounded.py"), surrounding, run_as, *usable(), "auto"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["alone"], "a process was left"
    return dict(answer["backends"])


def expected(surrounding: str) -> Refusals:
    """Return who is refused in *surrounding* for this user."""
    refused = dict(REFUSED[surrounding])
    if surrounding in IN_A_USER_NAMESPACE | IN_OWN_MOUNTS and not IS_ROOT and refused.get("chrome-sandbox") != NO_PROC:
        refused["chrome-sandbox"] = PROCESSES if surrounding == "2-processes" else NO_ROOT_HERE
    return refused


def cases() -> list[Any]:
    """Return every surrounding with every backend."""
    exempt = pytest.mark.skipif(IS_ROOT, reason="the kernel exempts uid 0 from RLIMIT_NPROC")
    return [
        pytest.param(surrounding, backend, marks=[exempt] if surrounding in NOT_FOR_ROOT else [])
        for surrounding in REFUSED
        for backend in BACKENDS
    ]


@pytest.mark.parametrize(("surrounding", "backend"), cases())
def test_a_backend_works_or_says_why_not(surrounding: str, backend: str) -> None:
    """A child answers, is sealed as promised and its exit code is known; or one sentence names cause and remedy."""
    if backend not in usable():
        pytest.skip("does not work on this machine in any surrounding")
    found = outcomes(surrounding, "root" if IS_ROOT else "")[backend]
    parts = expected(surrounding).get(backend)
    if parts or (surrounding in ON_THE_EDGE and "refused" in found):
        assert "refused" in found, found
        assert "\n" not in found["refused"]
        for part in parts or PROCESSES:
            assert part in found["refused"]
    else:
        assert found.get("answer") == 42, found
        assert found["chosen"] == backend
        assert found["exit_code"] == 7


@pytest.mark.parametrize("surrounding", [name for name in REFUSED if not (IS_ROOT and name in NOT_FOR_ROOT)])
def test_auto_falls_back_to_the_strongest_that_works(surrounding: str) -> None:
    """``auto`` takes the first backend that nothing is in the way of; where there is none, it says so once."""
    found = outcomes(surrounding, "root" if IS_ROOT else "")["auto"]
    refused = expected(surrounding)
    if "auto" in refused:
        assert all(part in found["refused"] for part in refused["auto"])
        assert found["refused"].count(refused["auto"][1]) == 1
    elif surrounding in ON_THE_EDGE:
        assert "answer" in found or all(part in found["refused"] for part in PROCESSES)
    else:
        assert found["chosen"] == next(name for name in usable() if name not in refused)


@pytest.mark.parametrize("surrounding", ["container-filter", "container"])
def test_the_filter_of_a_container_is_no_layer_of_ours(surrounding: str) -> None:
    """Below an outer filter ``none`` shows no seccomp layer, and whoever promises one shows a filter more."""
    found = outcomes(surrounding, "root" if IS_ROOT else "")
    assert "seccomp" not in found["none"]["layers"]
    assert found["seccomp"]["layers"]["seccomp"] == "Seccomp 2, Seccomp_filters 2"


@pytest.mark.skipif(not IS_ROOT, reason="only root becomes another user")
@pytest.mark.parametrize(
    ("surrounding", "parts"),
    [
        ("no-nested-userns", ("whom the user namespace around this process does not map", "set run_as = 'root'")),
        ("container", ("lacks CAP_SYS_PTRACE", "docker: --cap-add SYS_PTRACE")),
    ],
)
def test_children_that_cannot_become_nobody(surrounding: str, parts: tuple[str, ...]) -> None:
    """A root that is less than root is told at stage 1 why its children cannot be nobody, and what to do."""
    for found in outcomes(surrounding, "").values():
        assert found["refused"].startswith("stage 1 (prepare): children run as uid ")
        assert all(part in found["refused"] for part in parts)
