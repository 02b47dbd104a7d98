"""The zygote: preloads with one thread only, keeps a spare, ends with its helper and its host."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from belljar.host.errors import LaunchError
from belljar.ipc.stage import Stage
from belljar.sandbox.launch import client
from belljar.sandbox.launch.client import ZygoteClient
from belljar.sandbox.launch.wire import Shared
from belljar.sandbox.user import User

from ..helpers import (
    CHANNEL_THREADS,
    await_end,
    children_of,
    command,
    descendants,
    guard_of,
    held,
    launch,
    nothing_left,
    open_fds,
    preloaded,
)

THREADED = "tests.children.starts_thread"
HANGING = "tests.children.hangs_on_import"


@pytest.fixture
def zygote() -> Iterator[ZygoteClient]:
    """A zygote of its own below the common guard."""
    made = ZygoteClient(client.guard(), User.current())
    yield made
    made.close()


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was left to the children is forgotten before and after."""
    monkeypatch.setattr(client, "_left_to_children", set())


def zygote_pid(of: ZygoteClient) -> int:
    """Return the pid of *of*'s zygote: the only child of the only child of its helper."""
    fields = Path(f"/proc/self/fdinfo/{of.launched_pidfd}").read_text().split()
    (init_pid,) = children_of(int(fields[fields.index("Pid:") + 1]))
    return children_of(init_pid)[0]


def test_a_preload_is_answered_with_what_became_of_it(zygote: ZygoteClient) -> None:
    """An import is reported with its error, if any, and the threads that there are now; the zygote lives on."""
    assert zygote.share(*preloaded("colorsys")) == Shared(1, 0, 0, "")
    missing = zygote.share(*preloaded("no_such_module_at_all"))
    assert missing == Shared(1, 0, 0, "ModuleNotFoundError: No module named 'no_such_module_at_all'")
    assert zygote.share(*preloaded(THREADED)) == Shared(2, 0, 0, "")
    assert zygote.is_alive()


def test_a_zygote_has_one_thread_and_few_fds(zygote: ZygoteClient) -> None:
    """A fresh zygote has one thread, two namespaces and one socket open, and nothing of the host's."""
    pid = zygote_pid(zygote)
    assert len(os.listdir(f"/proc/{pid}/task")) == 1
    kinds = sorted(kind.split(":")[0] for fd, kind in open_fds(pid).items() if int(fd) > 2)
    assert kinds == ["mnt", "pid", "socket"]
    assert Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")[:-1] == [
        f"{key}={value}".encode() for key, value in client.ENVIRONMENT.items()
    ]


def test_a_zygote_ends_with_its_host_and_with_its_helper() -> None:
    """End of file on the requests, or the end of the helper, is the end of zygote and spare."""
    for end in ("requests", "helper"):
        made = ZygoteClient(client.guard(), User.current())
        made.settle()
        pid = zygote_pid(made)
        with held([pid, *descendants(pid)]) as pidfds:
            assert len(pidfds) == 2
            if end == "requests":
                made.requests.close()
            else:
                signal.pidfd_send_signal(made.launched_pidfd, signal.SIGKILL)
            await_end(pidfds)
        made.close()


@pytest.mark.anyio
@pytest.mark.usefixtures("forgetful")
async def test_a_module_that_starts_a_thread_is_left_to_the_children() -> None:
    """Where a preload would give the zygote a thread, each child imports it in early init, and it is sealed too."""
    async with launch(preload=(THREADED, "colorsys")) as host:
        assert client._left_to_children == {*preloaded(THREADED)}
        assert host.protection is not None
        assert host.protection.threads == 2 + CHANNEL_THREADS
        assert host.protection.shortfall() is None
        assert host.timeline[f"preload {THREADED}"] > 0
    running = client.warm_zygote(preloaded(THREADED, "colorsys"), User.current())
    assert running is not None
    assert len(os.listdir(f"/proc/{zygote_pid(running)}/task")) == 1
    client.forget_zygote(preloaded(THREADED, "colorsys"), User.current())


@pytest.mark.anyio
@pytest.mark.usefixtures("forgetful")
async def test_a_module_that_hangs_is_named_by_early_init(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preload that never comes back costs a zygote and then each child its deadline, which names the module."""
    monkeypatch.setattr(client, "SHARE_TIMEOUT", 0.3)
    with pytest.raises(LaunchError, match=f"preload {HANGING} did not finish within 0.3 s") as caught:
        await launch(preload=(HANGING,), step_timeout=0.3, launch_timeout=10.0).__aenter__()
    assert caught.value.stage is Stage.EARLY_INIT
    assert client._left_to_children == {*preloaded(HANGING)}
    client.forget_zygote(preloaded(HANGING), User.current())


def spare_of(of: ZygoteClient) -> int:
    return children_of(zygote_pid(of))[0]


@pytest.mark.anyio
async def test_a_spare_is_used_and_another_one_made() -> None:
    """The child of a launch is the spare that was there before it, and afterwards there is another one."""
    running = client.zygote((), User.current())
    async with launch() as host:
        first = host.child_pid
        others = [pid for pid in children_of(zygote_pid(running)) if pid != first]
        assert len(others) == 1
        async with launch() as second:
            assert second.child_pid == others[0]


@pytest.mark.anyio
async def test_a_spare_that_was_killed_costs_no_launch() -> None:
    """A launch whose request arrives together with the end of the spare still gets a child."""
    running = client.zygote((), User.current())
    pid = zygote_pid(running)
    with nothing_left(), held([spare_of(running)]) as pidfds:
        os.kill(pid, signal.SIGSTOP)
        try:
            os.kill(next(iter(pidfds)), signal.SIGKILL)
            await_end(pidfds)
            host = launch()
            started = host._launching.launch

            def start_and_continue(*arguments: object) -> None:
                started(*arguments)  # type: ignore[arg-type]
                os.kill(pid, signal.SIGCONT)

            host._launching.launch = start_and_continue  # type: ignore[assignment, method-assign]
            async with host:
                assert await host.call("add", 1) == 3
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.anyio
async def test_zygotes_are_told_apart_by_what_they_preload() -> None:
    """Each list of preloads has one zygote, which all launches with that list share."""
    async with launch(preload=("colorsys",)) as one, launch(preload=("colorsys",)) as two, launch() as other:
        helpers = [pid for pid in children_of(guard_of(os.getpid())) if "belljar.child zygote" in command(pid)]
        zygotes = {child: children_of(pid)[0] for pid in helpers for child in descendants(pid)}
        assert zygotes[one.child_pid or 0] == zygotes[two.child_pid or 0] != zygotes[other.child_pid or 0]
    client.forget_zygote(preloaded("colorsys"), User.current())
