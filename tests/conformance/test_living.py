"""Who dies with whom, who sees whom, whose user it is, and what is left, on every backend.

Drawn from bubblewrap's "die with parent", Sandbox2's SandboxeeNotKilledWhenStartingThreadFinishes and
GlobalForkserverShutdownAndRestartWorks, sandlock's popen_group_killed_on_drop, srt's "should terminate background
processes when sandbox exits", Gecko's browser_zombies and LaunchAllKinds, kernel's scoped_signal_test, codex's
test_no_new_privs_is_enabled, and Sandbox2's UserNamespaceIDMapWritten.
"""

from __future__ import annotations

import functools
import os
import pwd
import signal
import tempfile
from pathlib import Path

import anyio
import pytest

from belljar.host.errors import ChildEnded, ConfigError
from belljar.sandbox.backends import BACKENDS
from belljar.sandbox.protection import Operation, Protection

from ..helpers import (
    PROCESSES,
    await_end,
    descendants,
    held,
    launch,
    nothing_left,
    process_tree,
    require,
    running_host,
    write_plugin,
)
from .observe import outside, refused_by_report

VICTIMS = [(backend, name, "busy") for backend in BACKENDS for name in PROCESSES[backend]]
VICTIMS += [(backend, "host", "stopped") for backend in BACKENDS]


@pytest.mark.parametrize(("backend", "name", "work"), VICTIMS)
def test_killing_one_process_leaves_nothing_below_it(backend: str, name: str, work: str) -> None:
    """Within a second of SIGKILL to any process of the tree, all that it carried is gone, whatever the child does."""
    require(backend)
    with running_host(backend, "busy" if work == "busy" else "idle") as (program, child_pid):
        tree = process_tree(backend, child_pid)
        assert tree["host"] == program.pid
        if work == "stopped":
            os.kill(child_pid, signal.SIGSTOP)
        is_forked = "zygote" in tree  # then the others of the tree are there for the next child
        doomed = {tree[name], *(descendants(program.pid) if name != "child" or not is_forked else ())}
        with held(doomed if name in ("host", "guard") else doomed - {tree["guard"]}) as pidfds:
            os.kill(tree[name], signal.SIGKILL)
            await_end(pidfds)


@pytest.mark.anyio
async def test_the_next_launch_works_after_the_guard_is_gone(backend: str) -> None:
    """A host whose guard was killed sees its child end, and launches anew with another guard."""
    async with launch(backend=backend) as host:
        assert host.child_pid is not None
        guard_pid = process_tree(backend, host.child_pid)["guard"]
        with held([guard_pid, host.child_pid]) as pidfds:
            os.kill(guard_pid, signal.SIGKILL)
            with pytest.raises(ChildEnded):
                await host.call("hang")
            await_end(pidfds)
    async with launch(backend=backend) as host:
        assert await host.call("add", 1) == 3


def test_launches_in_a_row_leave_nothing(backend: str, anyio_backend: str) -> None:
    """Twenty launches leave the processes below this one, and the fds of each, as they were."""

    async def some() -> None:
        for _ in range(20 if anyio_backend == "asyncio" else 3):
            async with launch(backend=backend) as host:
                assert await host.call("add", 1) == 3

    with nothing_left(backend):
        anyio.run(some, backend=anyio_backend)


@pytest.mark.anyio
async def test_launches_at_once_leave_nothing(backend: str) -> None:
    """Children that are launched at the same time do not come in each other's way."""
    pids: set[int | None] = set()

    async def one() -> None:
        async with launch(backend=backend) as host:
            assert await host.call("count", returns=int) == 1
            pids.add(host.child_pid)

    with nothing_left(backend):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(one)
    assert len(pids) == 4


LOOKS = """
    import errno, os, signal
    def attempt(call):
        try:
            return str(call())
        except OSError as error:
            return errno.errorcode[error.errno]
    class Plug:
        def look(self, pid: int) -> list[str]:
            return [
                attempt(lambda: os.kill(pid, 0)),
                attempt(lambda: os.getsid(pid)),
                attempt(lambda: len(open(f"/proc/{pid}/status").read())),
            ]
"""


@functools.cache
def look_at_each_other(backend: str, loop: str) -> tuple[list[list[str]], Protection]:
    """Return what each of two children, alive at the same time, comes to with the other's pid, and a report."""

    async def look(plugin: str) -> tuple[list[list[str]], Protection]:
        async with launch(plugin, backend=backend) as one, launch(plugin, backend=backend) as other:
            assert one.protection is not None
            pairs = ((one, other.child_pid), (other, one.child_pid))
            return [await host.call("look", pid, returns=list[str]) for host, pid in pairs], one.protection

    with tempfile.TemporaryDirectory() as folder:
        return anyio.run(look, write_plugin(Path(folder), LOOKS), backend=loop)


@pytest.mark.parametrize(
    ("way", "operation"),
    [(0, Operation.SIGNAL_OUTSIDE), (1, Operation.SEE_PROCESSES), (2, Operation.READ_FILE)],
    ids=["signal", "see", "read"],
)
def test_two_children_do_not_see_each_other(backend: str, anyio_backend: str, way: int, operation: Operation) -> None:
    """A child can neither signal nor see nor read another one of the same host."""
    found, protection = look_at_each_other(backend, anyio_backend)
    refused_by_report(protection, operation)
    assert {one[way] for one in found} <= {"EPERM", "ESRCH", "EACCES", "ENOENT"}


NOBODY = pwd.getpwnam("nobody")
WANTED = {
    "": [NOBODY.pw_uid, NOBODY.pw_gid],
    "root": [0, 0],
    "12345:23456": [12345, 23456],
}


@pytest.mark.anyio
@pytest.mark.parametrize("run_as", WANTED, ids=["default", "root", "numbers"])
async def test_the_user_that_a_child_runs_as(backend: str, run_as: str) -> None:
    """Root's children are nobody unless it says otherwise; who is not root cannot make them anybody else."""
    ids = WANTED[run_as] if os.geteuid() == 0 else [os.getuid(), os.getgid()]
    if ids != WANTED[run_as] and run_as:
        with pytest.raises(
            ConfigError, match=f"run_as: only root can become another user, and this host has uid {ids[0]}"
        ):
            await launch(backend=backend, run_as=run_as).__aenter__()
        return
    async with launch(backend=backend, run_as=run_as) as host:
        assert await host.call("add", 1) == 3
        status = outside(host.child_pid or 0).status
    assert [list(map(int, status[key].split())) for key in ("Uid", "Gid")] == [[number] * 4 for number in ids]
    assert status["Groups"].split() == ([] if run_as != "root" else list(map(str, sorted(os.getgroups()))))


@pytest.mark.anyio
async def test_a_user_that_is_not_there(backend: str) -> None:
    """An unknown user is an error of the configuration, before anything starts."""
    with pytest.raises(ConfigError, match="run_as: there is no such user") as caught:
        await launch(backend=backend, run_as="no-such-user").__aenter__()
    assert "\n" not in str(caught.value)


def test_the_suite_covers_every_backend() -> None:
    """A new backend of belljar's own comes into these tables, or this fails."""
    assert set(PROCESSES) == set(BACKENDS)
