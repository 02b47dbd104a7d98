"""Attacks that once worked, each with the rule that now keeps them out."""

from __future__ import annotations

import os
import platform
import signal
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from belljar import Policy, ProcessHost
from belljar.host.errors import ChildEnded, LaunchError, PluginError, ProtectionError
from belljar.sandbox.backends import names
from belljar.sandbox.layers import Layer

from ..helpers import descendants, launch

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the attacks call by the numbers of x86_64"),
]

LEFTOVERS = Path(__file__).parent.parent / "children/leftovers.py"
CONFINING = tuple(name for name in names() if name != "none")
WITH_NAMESPACES = ("namespaces", "bubblewrap", "chrome-sandbox")

on_confining = pytest.mark.parametrize("backend", CONFINING)
on_namespaces = pytest.mark.parametrize("backend", WITH_NAMESPACES)


def finder(backend: str = "namespaces", **fields: Any) -> ProcessHost:
    """Return a host for the plugin of these attacks."""
    return launch("finder.py:Finder", backend=backend, **fields)


# ---- the host is held ----


async def test_child_that_hangs_up_and_stays_is_killed() -> None:
    """A child that closes its channel and lives on is killed, and the call ends as if it had died."""
    async with finder() as host:
        with anyio.fail_after(5), pytest.raises(ChildEnded, match="closed its channel"):
            await host.call("hang_up_and_stay")


async def test_plugin_that_hangs_up_while_it_is_loaded_is_killed(tmp_path: Path) -> None:
    """A plugin whose module closes the channel and does not come back fails the launch, within its time."""
    source = "import os, signal\nos.closerange(3, 16)\nwhile True:\n    signal.pause()\n\n\nclass Plug:\n    pass\n"
    (tmp_path / "hangs_up.py").write_text(source)
    with anyio.fail_after(8), pytest.raises(LaunchError, match="closed its channel"):
        async with launch(str(tmp_path / "hangs_up.py") + ":Plug"):
            pass


async def test_output_without_end_does_not_hold_the_event_loop() -> None:
    """While a child writes faster than the host reads, the host's other tasks get their turns."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    async with finder() as host, anyio.create_task_group() as tasks:
        await host.call("flood")  # once before: starting threads and the first lines take their own time
        tasks.start_soon(count_turns)
        await checkpoint()
        turns = 0
        with anyio.fail_after(10):
            await host.call("flood")
        tasks.cancel_scope.cancel()
    assert turns > 20


@on_namespaces
async def test_process_group_ends_at_the_pid_namespace(backend: str) -> None:
    """Nobody outside of a child's pid namespace is in its process group, which kill(0, ...) signals."""
    async with finder(backend) as host:
        pid = host.child_pid
        assert pid is not None
        group = [other for other in descendants(os.getpid()) if os.getpgid(other) == os.getpgid(pid)]
        assert pid in group
        assert {os.readlink(f"/proc/{other}/ns/pid") for other in group} == {os.readlink(f"/proc/{pid}/ns/pid")}


# ---- what early init leaves is outside of the seal ----


@on_confining
@pytest.mark.parametrize(
    ("warm_up", "words"), [("process", "which early init started, is not sealed"), ("ring", "an io_uring")]
)
async def test_leftover_that_no_filter_reaches_fails_the_launch(backend: str, warm_up: str, words: str) -> None:
    """A process or an io_uring that early init leaves is a broken promise, because the filter does not reach it."""
    with pytest.raises(ProtectionError, match=words) as caught:
        async with finder(backend, warm_up=(f"{LEFTOVERS}:{warm_up}",), preload=("ctypes",)):
            pass
    assert caught.value.layer is Layer.SECCOMP


@on_confining
async def test_no_orphan_of_early_init_outlives_the_seal(backend: str) -> None:
    """A process that early init has left to itself is found, or killed, before the plugin comes."""
    try:
        async with finder(backend, warm_up=(f"{LEFTOVERS}:orphan",)) as host:
            session = os.getsid(host.child_pid or 0)
            left = [pid for pid in descendants(os.getpid()) if os.getsid(pid) == session and pid != host.child_pid]
            assert left == []
    except ProtectionError as error:
        assert error.layer is Layer.SECCOMP


@on_confining
async def test_names_of_threads_are_no_text_that_must_be_right(backend: str) -> None:
    """A thread whose name is not UTF-8 is read like any other."""
    warm_up = (f"{LEFTOVERS}:thread_with_half_a_letter",)
    async with finder(backend, warm_up=warm_up, preload=("ctypes", "threading")) as host:
        assert host.protection is not None
        assert host.protection.threads == 2
