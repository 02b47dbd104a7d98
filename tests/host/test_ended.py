"""How a child ended, as a value made of what wait(2) said."""

from __future__ import annotations

import signal

import pytest

from belljar.host.ended import Ended, ended_from
from belljar.ipc.stage import Stage
from belljar.sandbox.launch.wire import Exited


def ended(status: int, *, why: str = "", cpu: float = 0.5, cpu_limit: int | None = None) -> Ended:
    exited = Exited(status, cpu, 1 << 20)
    return ended_from(exited, stage=Stage.READY, why=why, stderr=("last words",), cpu_limit=cpu_limit)


@pytest.mark.parametrize(
    ("status", "code", "name", "reason"),
    [
        (0, 0, None, "it exited with code 0"),
        (7 << 8, 7, None, "it exited with code 7"),
        (signal.SIGSEGV, None, "SIGSEGV", "SIGSEGV ended it"),
        (signal.SIGABRT | 0x80, None, "SIGABRT", "SIGABRT ended it"),
        (signal.SIGSYS, None, "SIGSYS", "the filter killed it: a system call of a foreign architecture"),
        (signal.SIGKILL, None, "SIGKILL", "SIGKILL ended it"),
    ],
)
def test_a_wait_status_is_told_in_words(status: int, code: int | None, name: str | None, reason: str) -> None:
    """An exit code or the name of a signal, never both, and one sentence."""
    found = ended(status)
    assert (found.exit_code, found.signal, found.reason) == (code, name, reason)
    assert (found.max_rss, found.cpu) == (1 << 20, 0.5)


def test_what_the_host_did_is_the_reason() -> None:
    """If the host killed the child, its reason stands instead of the signal's."""
    assert ended(signal.SIGKILL, why="the call of 'x' was given up").reason == "the call of 'x' was given up"


@pytest.mark.parametrize(
    ("cpu", "limit", "named"), [(2.0, 2, True), (1.99, 2, True), (1.6, 2, True), (1.4, 2, False), (9.0, None, False)]
)
def test_a_used_up_cpu_limit_is_named(cpu: float, limit: int | None, named: bool) -> None:
    """SIGKILL after about as much processor time as the limit allows is told as the limit."""
    reason = ended(signal.SIGKILL, cpu=cpu, cpu_limit=limit).reason
    assert (reason == f"it used up its cpu limit of {limit} s") is named


def test_an_end_that_nobody_saw() -> None:
    """If the process that waits ended first, the child was killed with it, and nothing more is known."""
    found = ended_from(None, stage=Stage.SEAL, why="", stderr=(), cpu_limit=None)
    assert found == Ended(None, "SIGKILL", Stage.SEAL, "the process that waits for it ended", (), 0, 0.0)


def test_a_helper_that_does_not_tell() -> None:
    """Behind a helper that hides how its child ended, neither a code nor a signal is made up."""
    found = ended_from(Exited(None, 0.5, 1 << 20), stage=Stage.READY, why="", stderr=(), cpu_limit=None)
    assert (found.exit_code, found.signal) == (None, None)
    assert found.reason == "it ended, and the helper before it does not say how"


def test_text_for_people() -> None:
    """The text has reason, stage and the last line of stderr, if there is one."""
    assert str(ended(0)) == "it exited with code 0 (stage 10, ready); last on stderr: last words"
    silent = ended_from(Exited(0, 0.0, 0), stage=Stage.EARLY_INIT, why="", stderr=(), cpu_limit=None)
    assert str(silent) == "it exited with code 0 (stage 6, early init)"
