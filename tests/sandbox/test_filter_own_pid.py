"""A child without a pid namespace names no process but itself: the rules, the binding, and the real kernel."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.sandbox.danger import EXECUTABLE_MEMORY, SYSCALLS
from belljar.sandbox.policy import Policy
from belljar.sandbox.seccomp.answers import Choice, Rights
from belljar.sandbox.seccomp.compile import compile_policy, is_compiled
from belljar.sandbox.seccomp.grantable import GRANTABLE
from belljar.sandbox.seccomp.own_pid import PLACEHOLDER, bind_pid
from belljar.sandbox.seccomp.rules import rules_for

from .filtered import answers, number, run

MEDIA = Policy.media()
ALL_CALLS = MEDIA.allow_syscalls(tuple(sorted(GRANTABLE)), SYSCALLS)
GARBAGE = 1 << 40
MINUS_ONE = (1 << 64) - 1
CPU_CLOCK_OF_PID_1 = MINUS_ONE & ~(1 << 3) & ~5  # ((~pid) << 3) | CPUCLOCK_SCHED, see clock_getcpuclockid(3)

# With signal 0 a kill only asks whether the process is there.
ANSWERS: list[tuple[tuple[Any, ...], str]] = [
    (("kill", "@own", 0), "done"),
    (("kill", 0, 0), "done"),
    (("kill", "@host", 0), "EPERM"),
    (("kill", 1, 0), "EPERM"),
    (("kill", GARBAGE | 1, 0), "EPERM"),
    (("kill", MINUS_ONE, 0), "EPERM"),
    (("kill", MINUS_ONE & 0xFFFF_FFFF, 0), "EPERM"),
    (("kill", PLACEHOLDER, 0), "EPERM"),
    (("tgkill", "@own", "@own", 0), "done"),
    (("tgkill", "@host", "@host", 0), "EPERM"),
    (("tgkill", 0, "@own", 0), "EPERM"),
    (("tgkill", MINUS_ONE, "@host", 0), "EPERM"),
    (("tkill", "@own", 0), "EPERM"),
    (("getpriority", 0, 0), "done"),
    (("getpriority", 0, "@own"), "done"),
    (("getpriority", 0, "@host"), "EPERM"),
    (("getpriority", 1, 0), "EPERM"),
    (("getpriority", 2, 0), "EPERM"),
    (("getpgid", 0), "done"),
    (("getpgid", "@own"), "done"),
    (("getpgid", "@host"), "EPERM"),
    (("getsid", "@host"), "EPERM"),
    (("sched_getparam", 0, ""), "done"),
    (("sched_getparam", "@host", ""), "EPERM"),
    (("sched_getscheduler", "@own"), "done"),
    (("sched_getscheduler", "@host"), "EPERM"),
    (("sched_getattr", "@host", "", 56, 0), "EPERM"),
    (("sched_rr_get_interval", "@host", ""), "EPERM"),
    (("sched_getaffinity", 0, 128, ""), "done"),
    (("sched_getaffinity", "@own", 128, ""), "done"),
    (("sched_getaffinity", "@host", 128, ""), "ENOSYS"),
    (("sched_setaffinity", "@host", 128, ""), "ENOSYS"),
    (("prlimit64", 0, 7, 0, ""), "done"),
    (("prlimit64", "@own", 7, 0, ""), "done"),
    (("prlimit64", "@host", 7, 0, ""), "EPERM"),
    (("prlimit64", 0, 7, "", 0), "EPERM"),
    (("capget", "", ""), "EPERM"),
    (("clock_gettime", 2, ""), "done"),
    (("clock_gettime", CPU_CLOCK_OF_PID_1, ""), "EPERM"),
    (("clock_getres", CPU_CLOCK_OF_PID_1, ""), "EPERM"),
    (("clock_nanosleep", CPU_CLOCK_OF_PID_1, 0, "", 0), "EPERM"),
    (("timer_create", CPU_CLOCK_OF_PID_1, 0, ""), "EPERM"),
]


def test_only_itself_is_named(tmp_path: Path) -> None:
    """Signals and questions reach the child itself, by 0 or by its pid, and no process beside it."""
    calls = [call for call, _ in ANSWERS if number(call[0]) >= 0]
    found = answers(MEDIA, calls, tmp_path, own_pid_only=True)
    assert list(zip(calls, found, strict=True)) == [(call, answer) for call, answer in ANSWERS if call in calls]


def test_without_it_others_can_be_named(tmp_path: Path) -> None:
    """Where a pid namespace leaves nobody else, the filter does not look: this is what it would miss."""
    calls = [("kill", "@host", 0), ("getpgid", "@host"), ("clock_gettime", CPU_CLOCK_OF_PID_1, "")]
    assert answers(MEDIA, [*calls], tmp_path) == ["done", "done", "done"]


def test_granted_calls_name_only_itself_too(tmp_path: Path) -> None:
    """Calls that are granted by name and take a pid are held to it as well."""
    calls = [
        *(("setpriority", 0, "@host", 20), ("setpriority", 2, 0, 20), ("setpriority", 0, 0, 19)),
        *(("sched_setparam", "@host", ""), ("sched_setscheduler", "@host", 0, ""), ("sched_setattr", "@host", "", 0)),
        *(("ioprio_get", 1, "@host"), ("ioprio_get", 1, 0), ("ioprio_set", 3, 0, 0)),
    ]
    expected = ["EPERM", "EPERM", "done", "EPERM", "EPERM", "EPERM", "EPERM", "done", "EPERM"]
    assert answers(ALL_CALLS, calls, tmp_path, own_pid_only=True) == expected


def test_libraries_still_find_themselves(tmp_path: Path) -> None:
    """Threads, signals to itself, processor time and pthread_getattr_np of a second thread work."""
    assert run(MEDIA, "itself", tmp_path, own_pid_only=True) == {
        **{"getattr": 0, "affinity": True, "group": True, "cpu": True, "thread_cpu": True},
        "signals": [10, 10, 10],
    }
    assert run(MEDIA, "abort", tmp_path, own_pid_only=True) == "SIGUSR1"


def test_subprocesses_open_signals_again_and_nothing_else(tmp_path: Path) -> None:
    """A child that may start processes may signal others, but not ask about them or move them to other processors."""
    forking = Policy(subprocesses=True)
    assert Rights.of(MEDIA, own_pid_only=True).own_pid_only
    assert not Rights.of(forking, own_pid_only=True).own_pid_only
    calls = [call for call, _ in ANSWERS if number(call[0]) >= 0]
    signals = ("kill", "tgkill", "tkill", "getpgid", "getsid")
    found = dict(zip(calls, answers(forking, calls, tmp_path, own_pid_only=True), strict=True))
    expected = {call: answer for call, answer in ANSWERS if call in calls and call[0] not in signals}
    assert {call: found[call] for call in expected} == expected
    assert found["kill", "@host", 0] == "done"


def test_is_compiled_tells_the_two_apart() -> None:
    """A filter for a child with a pid namespace is not one for a child without."""
    only = Policy(threads=True, executable_memory=True, danger=(EXECUTABLE_MEMORY,))
    compile_policy(only, listener=False)
    assert not is_compiled(only, listener=False, own_pid_only=True)
    compile_policy(only, listener=False, own_pid_only=True)
    assert is_compiled(only, listener=False, own_pid_only=True)


@pytest.mark.parametrize("policy", [Policy(), MEDIA, ALL_CALLS], ids=["least", "media", "all-calls"])
@given(own_pid=st.integers(1, 1 << 22))
def test_binding_changes_the_pid_and_nothing_else(policy: Policy, own_pid: int) -> None:
    """Exactly the comparisons with the placeholder change, one for each place where the rules name it."""
    template = compile_policy(policy, listener=True, own_pid_only=True)
    before, after = (list(struct.iter_unpack("=HBBI", each)) for each in (template, bind_pid(template, own_pid)))
    changed = [(one, two) for one, two in zip(before, after, strict=True) if one != two]
    assert {one for one in before if one[3] == PLACEHOLDER} == {one for one, _ in changed}
    assert all(one[0] == 0x15 and two == (*one[:3], own_pid) for one, two in changed)
    choices = [rule for rule in rules_for(Rights.of(policy, own_pid_only=True)).values() if isinstance(rule, Choice)]
    places = [bits for rule in choices for case in rule.cases for bits in case if bits.value == PLACEHOLDER]
    assert 0 < len(changed) <= len(places)


def test_no_other_rule_has_the_placeholder() -> None:
    """A filter for any process holds the placeholder nowhere, and binding leaves it as it is."""
    for policy in (Policy(), MEDIA, Policy.compute(), ALL_CALLS):
        program = compile_policy(policy, listener=True)
        assert struct.pack("=I", PLACEHOLDER) not in program
        assert bind_pid(program, 7) == program
    assert PLACEHOLDER > 1 << 22


@pytest.mark.parametrize("own_pid", [0, -1, (1 << 22) + 1, PLACEHOLDER])
def test_what_is_no_pid_is_not_bound(own_pid: int) -> None:
    """A number that no process can have is refused."""
    with pytest.raises(ValueError, match="is no pid"):
        bind_pid(b"", own_pid)
