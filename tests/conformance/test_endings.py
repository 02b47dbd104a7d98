"""How a child ends is told apart on every backend, also where a helper stands between it and whoever waits.

Drawn from Sandbox2's AbortWithoutCoreDumpReturnsSignaled and SandboxeeExternalKill, minijail's
WaitTest.killed_by_sigkill, bubblewrap's "can run as pid 1", Chromium's ForkInNewPidNamespace.ExitWithSignal and
CheckDoesNotReturnZero, and Gecko's browser_utility_hard_kill.

A child that is pid 1 of its pid namespace (namespaces, chrome-sandbox) gets no signal from inside that it has no
handler for, SIGKILL included (pid_namespaces(7)): there the same call has another outcome, which is the kernel's.
"""

from __future__ import annotations

import signal
from typing import Any

import anyio
import pytest

from belljar.host.ended import Ended
from belljar.host.errors import ChildEnded
from belljar.host.process_host import ProcessHost
from belljar.ipc.errors import CallTimeout
from belljar.ipc.pidfds import pids_of
from belljar.ipc.stage import Stage
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Limits, Policy

from ..helpers import held, launch, nothing_left
from .observe import PLUGIN, PRELOAD, engaged_by_report

pytestmark = pytest.mark.anyio


def child(backend: str, **fields: Any) -> ProcessHost:
    """Return a host for a child with all its habits."""
    return launch(PLUGIN, backend=backend, preload=PRELOAD, **fields)


async def ended_by(host: ProcessHost, method: str, *arguments: object) -> Ended:
    """Make a call in which the child ends."""
    with pytest.raises(ChildEnded) as caught:
        await host.call(method, *arguments)
    assert caught.value.ended is await host.wait()
    return caught.value.ended


def is_pid_one(host: ProcessHost) -> bool:
    """Whether the child is the first process of its pid namespace, for which the kernel has other rules."""
    assert host.child_pid is not None
    with held([host.child_pid]) as pidfds:
        by_namespace = pids_of(pidfds[host.child_pid]).by_namespace
    return len(by_namespace) > 1 and by_namespace[-1] == 1


@pytest.mark.parametrize("code", [0, 129])
async def test_an_exit_code_is_told(backend: str, code: int) -> None:
    """What a plugin gives to exit(2) is the exit code, also where a helper would pass 128 and a signal as one."""
    async with child(backend) as host:
        ended = await ended_by(host, "exits", code)
    assert (ended.exit_code, ended.signal, ended.stage) == (code, None, Stage.READY)
    assert ended.reason == f"it exited with code {code}"


@pytest.mark.parametrize("method", ["crashes", "overflows_the_stack"])
async def test_a_crash_is_told(backend: str, method: str) -> None:
    """A wrong pointer and an endless recursion in C are SIGSEGV, and stderr has the line of Python that led there."""
    async with child(backend) as host:
        ended = await ended_by(host, method)
    assert (ended.exit_code, ended.signal, ended.reason) == (None, "SIGSEGV", "SIGSEGV ended it")
    assert any(f"in {method}" in line for line in ended.stderr)


async def test_an_abort_is_told(backend: str) -> None:
    """abort(3) is SIGABRT; pid 1, which that signal does not end, ends by the invalid instruction that follows it."""
    async with child(backend) as host:
        expected = {"SIGSEGV", "SIGILL", "SIGTRAP"} if is_pid_one(host) else {"SIGABRT"}
        ended = await ended_by(host, "aborts")
    assert ended.exit_code is None
    assert ended.signal in expected


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
async def test_a_signal_to_itself_is_told(backend: str, name: str) -> None:
    """A signal that ends a process is told by its name; pid 1 gets none of these from inside and goes on."""
    async with child(backend) as host:
        if is_pid_one(host):
            assert await host.call("kills_itself", signal.Signals[name].value) == "alive"
            return
        ended = await ended_by(host, "kills_itself", signal.Signals[name].value)
    assert (ended.exit_code, ended.signal) == (None, name)


async def test_the_hosts_kill_is_told(backend: str) -> None:
    """A child that the host killed has the host's reason, whatever the kernel calls it."""
    with nothing_left(backend, PRELOAD):
        async with child(backend) as host:
            host.kill("enough of it")
            ended = await host.wait()
    assert (ended.exit_code, ended.signal, ended.reason) == (None, "SIGKILL", "enough of it")


async def test_a_strangers_kill_is_told(backend: str) -> None:
    """SIGKILL from elsewhere is no reason of the host's."""
    with nothing_left(backend, PRELOAD):
        async with child(backend) as host:
            assert host.child_pid is not None
            with held([host.child_pid]) as pidfds:
                signal.pidfd_send_signal(pidfds[host.child_pid], signal.SIGKILL)
            ended = await host.wait()
    assert (ended.exit_code, ended.signal, ended.reason) == (None, "SIGKILL", "SIGKILL ended it")


async def test_a_child_that_is_asked_ends_by_itself(backend: str) -> None:
    """Shutdown gives the child time to exit with code 0."""
    with nothing_left(backend, PRELOAD):
        async with child(backend) as host:
            ended = await host.shutdown()
    assert (ended.exit_code, ended.signal) == (0, None)


async def test_what_a_child_used_is_told(backend: str) -> None:
    """Ended has the memory and the processor time of the child itself, not of a helper that only waited."""
    async with child(backend) as host:
        await host.call("allocates", 40 << 20)
        ended = await host.shutdown()
    assert 40 << 20 < ended.max_rss < 400 << 20
    assert 0 < ended.cpu < 10


async def test_a_child_that_does_not_listen_is_killed_after_the_grace(backend: str) -> None:
    """A child that is busy in C when it is asked to end is killed when the grace is over."""
    with nothing_left(backend, PRELOAD):
        async with child(backend) as host, anyio.create_task_group() as tasks:
            tasks.start_soon(ended_by, host, "computes_for_ever")
            await anyio.wait_all_tasks_blocked()
            await host.shutdown(grace=0.05)
    ended = await host.wait()
    assert (ended.signal, ended.reason) == ("SIGKILL", "it did not end within 0.05 s of being asked")


async def test_a_child_that_does_not_end_a_call_is_killed(backend: str) -> None:
    """The call ends at its caller when its time is over; nothing else stops C code that does not want to stop."""
    with nothing_left(backend, PRELOAD):
        async with child(backend, cancel_grace=0.05) as host:
            with pytest.raises(CallTimeout, match=r"'computes_for_ever' did not answer within 0\.05 s"):
                await host.call("computes_for_ever", timeout=0.05)
            ended = await host.wait()
    assert (ended.signal, ended.reason) == (
        "SIGKILL",
        "it did not end 'computes_for_ever', which was given up, within 0.05 s",
    )


def test_a_used_up_cpu_limit_is_told(backend: str) -> None:
    """The kernel ends a child that computes for longer than its limit, and Ended says which limit it was."""

    async def use_up() -> Ended:
        async with child(backend, policy=Policy(threads=True, limits=Limits(cpu=1))) as host:
            assert host.protection is not None
            engaged_by_report(host.protection, Layer.RLIMITS)
            return await ended_by(host, "computes_for_ever")

    ended = anyio.run(use_up)  # on one loop only: a second of processor time is a second of the test
    assert (ended.signal, ended.reason) == ("SIGKILL", "it used up its cpu limit of 1 s")
