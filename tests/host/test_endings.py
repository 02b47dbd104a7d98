"""The ends of a child: asked, killed, by its own doing, or because the application goes elsewhere."""

from __future__ import annotations

import errno
import os
import re
from typing import Any

import anyio
import pytest

from belljar.host.ended import Ended
from belljar.host.errors import ChildEnded, LaunchError
from belljar.host.process_host import ProcessHost
from belljar.host.state import State
from belljar.ipc.stage import Stage
from belljar.sandbox.backends.none import HostSide
from belljar.sandbox.base import Launch
from belljar.sandbox.policy import Limits, Policy

from ..helpers import launch, nothing_left, on_both

pytestmark = pytest.mark.anyio


async def ended_in_call(host: ProcessHost, method: str, *arguments: object) -> Ended:
    with pytest.raises(ChildEnded) as caught:
        await host.call(method, *arguments)
    return caught.value.ended


@on_both
async def test_a_child_that_is_asked_ends_with_code_zero(backend: str) -> None:
    """Shutdown lets the child end by itself; to ask again gives the same answer."""
    with nothing_left(backend):
        async with launch(backend=backend) as host:
            ended = await host.shutdown()
            assert (ended.exit_code, ended.signal, ended.stage) == (0, None, Stage.READY)
            assert ended.reason == "it exited with code 0"
            assert host.state is State.ENDED
            assert await host.shutdown() is ended
            assert await host.wait() is ended
            host.kill()
            assert await host.wait() is ended


@on_both
async def test_a_killed_child(backend: str) -> None:
    """Kill ends the child at once; every later call says how it ended."""
    with nothing_left(backend):
        async with launch(backend=backend) as host:
            host.kill("enough of it")
            with pytest.raises(ChildEnded, match="could not call 'add': plain has ended: enough of it"):
                await host.call("add", 1)
            ended = await host.wait()
            assert (ended.exit_code, ended.signal, ended.reason) == (None, "SIGKILL", "enough of it")


@on_both
async def test_a_child_that_does_not_end_in_time_is_killed(backend: str) -> None:
    """A child that is busy when it is asked is killed after the grace, and its call gets ChildEnded."""
    ended: list[Ended] = []

    async def busy() -> None:
        ended.append(await ended_in_call(host, "busy"))

    with nothing_left(backend):
        async with launch(backend=backend) as host, anyio.create_task_group() as tasks:
            tasks.start_soon(busy)
            await anyio.wait_all_tasks_blocked()
            await host.shutdown(grace=0.1)
    assert ended == [await host.wait()]
    assert (ended[0].signal, ended[0].reason) == ("SIGKILL", "it did not end within 0.1 s of being asked")


async def test_everybody_who_waits_gets_the_same_answer() -> None:
    """Several tasks may wait for one end."""
    answers: list[Ended] = []

    async def wait() -> None:
        answers.append(await host.wait())

    async with launch() as host, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert answers == []
        host.kill()
    assert len(answers) == 5
    assert len(set(map(id, answers))) == 1


@on_both
async def test_the_last_words_are_kept(backend: str) -> None:
    """Ended has the exit code, what the child used, and the last lines of its stderr, oldest first."""
    async with launch(backend=backend) as host:
        ended = await ended_in_call(host, "last_words")
    assert (ended.exit_code, ended.signal) == (7, None)
    assert ended.stderr == tuple(f"line {number}" for number in range(50, 100))
    assert ended.max_rss > 1 << 20
    assert 0 < ended.cpu < 10


async def test_a_crash_leaves_the_python_stack() -> None:
    """A segmentation fault is told by the signal's name, and stderr has the line of the plugin."""
    async with launch() as host:
        ended = await ended_in_call(host, "crash")
    assert (ended.exit_code, ended.signal) == (None, "SIGSEGV")
    assert any(re.search(r'File "<bundle>/plain.py", line \d+ in crash', line) for line in ended.stderr)


async def test_a_used_up_cpu_limit_is_told() -> None:
    """A child that computes for longer than its cpu limit is ended by the kernel, and Ended says why."""
    policy = Policy(threads=True, limits=Limits(cpu=1))
    async with launch(policy=policy) as host:
        ended = await ended_in_call(host, "busy")
    assert ended.signal == "SIGKILL"
    assert ended.reason == "it used up its cpu limit of 1 s"
    assert 0.75 <= ended.cpu < 3


@on_both
async def test_a_cancelled_block_leaves_nothing(backend: str) -> None:
    """A timeout around the whole block ends the child and nothing hangs."""
    host = launch(backend=backend)
    with nothing_left(backend):
        with anyio.move_on_after(3) as scope:
            async with host:
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert host.state is State.ENDED
        assert (await host.wait()).signal == "SIGKILL"


@on_both
@pytest.mark.parametrize("kind", [KeyError, SystemExit, KeyboardInterrupt])
async def test_an_error_in_the_block_comes_out_as_it_is(backend: str, kind: type[BaseException]) -> None:
    """Whatever the block raises, exit() included, leaves nothing and is not wrapped in a group."""
    with nothing_left(backend), pytest.raises(kind):
        async with launch(backend=backend):
            raise kind("mine")


@pytest.mark.parametrize("backend", ["none"])
async def test_a_launch_that_cannot_even_be_asked_for(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the launcher cannot be reached, the launch fails at stage 2 with the errno instead of waiting for it."""

    def start(self: HostSide, launch: Launch) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(HostSide, "start", start)
    with nothing_left(backend):
        with pytest.raises(LaunchError, match="Too many open files") as caught:
            await launch(backend=backend).__aenter__()
        assert (caught.value.stage, caught.value.errno) == (Stage.LAUNCH, errno.EMFILE)


@pytest.mark.parametrize("fields", [{}, {"early_init": ("asyncio",)}], ids=["blocking", "on_loop"])
async def test_a_child_that_ends_for_an_error_of_its_own_says_which(fields: dict[str, Any]) -> None:
    """What the host sent is nothing that it can act on: the traceback stands on stderr, and its last line in Ended."""
    async with launch(channel="socket", **fields) as host:
        host._conversation.ready_peer("add").channel.send(b"no frame")
        ended = await host.wait()
    assert ended.exit_code == 1
    assert ended.stderr[0].startswith("Traceback (most recent call last)")
    assert "PeerProtocolError: the host sent" in ended.stderr[-1]
