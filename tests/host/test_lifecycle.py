"""Who dies with whom: SIGKILL of each process of the tree, whatever the child does; launches that leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from belljar.host.errors import ChildEnded, LaunchError
from belljar.host.state import State
from belljar.ipc.pidfds import has_ended
from belljar.sandbox.launch import client

from ..helpers import (
    CHILDREN,
    await_end,
    children_of,
    descendants,
    held,
    launch,
    nothing_left,
    on_both,
    process_tree,
    resident,
)


@on_both
def test_a_host_whose_stderr_is_a_file(backend: str, tmp_path: Path) -> None:
    """A child starts whatever the host's own streams are: a zygote once took its pipes for the host's seekable file."""
    with (tmp_path / "log").open("w") as log:
        argv = [sys.executable, str(CHILDREN / "host_program.py"), backend, "idle"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True) as program:
            assert program.stdout is not None
            assert int(program.stdout.readline()) > 0
            program.kill()


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["guard", "helper", "init", "zygote"])
async def test_the_next_launch_works_after(name: str) -> None:
    """A host whose guard, helper, init or zygote was killed sees its child end, and launches anew."""
    async with launch() as host:
        assert host.child_pid is not None
        target = process_tree("namespaces", host.child_pid)[name]
        with held([target]) as pidfds:
            os.kill(target, signal.SIGKILL)
            await host.wait()
            await_end(pidfds)
        with pytest.raises(ChildEnded):
            await host.call("add", 1)
    async with launch() as host:
        assert await host.call("add", 1) == 3


@pytest.mark.anyio
async def test_a_child_killed_before_it_reads_its_birth_costs_only_itself() -> None:
    """The end of one child, with a message unread, leaves the zygote and the other children alone."""
    async with launch() as other:
        assert other.child_pid is not None
        zygote_pid = process_tree("namespaces", other.child_pid)["zygote"]
        spare_pid = next(pid for pid in children_of(zygote_pid) if pid != other.child_pid)
        with held([spare_pid, zygote_pid]) as pidfds:
            os.kill(spare_pid, signal.SIGSTOP)
            doomed = launch()

            async def kill_when_launched() -> None:
                while doomed.state < State.LAUNCHED:
                    await anyio.lowlevel.checkpoint()
                os.kill(spare_pid, signal.SIGKILL)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kill_when_launched)
                with pytest.raises(LaunchError, match="SIGKILL"):
                    await doomed.__aenter__()
            await_end({spare_pid: pidfds[spare_pid]})
            assert await other.call("add", 1) == 3
            assert not has_ended(pidfds[zygote_pid])


@pytest.mark.anyio
async def test_launches_leave_nothing() -> None:
    """Many launches leave processes and fds as they were, and the memory of this process about so."""
    async with launch() as host:
        await host.call("add", 1)
    with nothing_left():
        before = resident()
        for _ in range(200):
            async with launch() as host:
                assert await host.call("add", 1) == 3
    assert resident() - before < 16 << 20


@pytest.mark.anyio
async def test_launches_from_many_tasks_at_once() -> None:
    """Twenty tasks launch at the same time, each its own child."""
    pids: set[int | None] = set()

    async def one() -> None:
        async with launch() as host:
            pids.add(host.child_pid)
            assert await host.call("add", 1) == 3

    with nothing_left():
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(one)
    assert len(pids) == 20


def test_launches_from_several_threads_at_once() -> None:
    """Event loops in four threads share one guard and one zygote."""
    results: list[int] = []

    async def some() -> None:
        for _ in range(5):
            async with launch() as host:
                results.append(await host.call("add", 1))

    with nothing_left():
        threads = [threading.Thread(target=anyio.run, args=(some,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [3] * 20


@pytest.mark.anyio
@on_both
@pytest.mark.parametrize("state", [State.CREATED, State.LAUNCHED, State.CONNECTED, State.INITIALISED, State.SEALED])
async def test_a_cancelled_launch_leaves_nothing(backend: str, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch that is cancelled in any state leaves no process and no fd."""
    host = launch(backend=backend)
    with nothing_left(backend):
        with anyio.CancelScope() as scope:
            move = host._move

            def cancel_there(new: State, stage: object) -> None:
                move(new, stage)  # type: ignore[arg-type]
                if new > state:
                    scope.cancel()

            monkeypatch.setattr(host, "_move", cancel_there)
            async with host:
                await anyio.lowlevel.checkpoint()
    assert host.state is State.ENDED


@pytest.mark.anyio
@on_both
async def test_a_cancelled_call_leaves_nothing(backend: str) -> None:
    """A call that is cancelled kills its child; no process and no fd is left."""
    with nothing_left(backend):
        async with launch(backend=backend) as host:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(host.call, "hang")
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            ended = await host.wait()
    assert ended.signal == "SIGKILL"


@pytest.mark.anyio
async def test_a_stopped_guard_is_started_again() -> None:
    """`belljar.stop` ends everything now, and the next launch starts it anew."""
    async with launch():
        below = descendants(os.getpid())
    with held([pid for pid in below if os.path.exists(f"/proc/{pid}")]) as pidfds:
        client.stop()
        await_end(pidfds)
    async with launch() as host:
        assert await host.call("add", 1) == 3
