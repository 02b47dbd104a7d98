"""Launches that fail, hang, are killed or given up: the same error by type, stage and words on every backend.

Drawn from minijail's WaitTest.command_not_found and command_not_run, bubblewrap's "pre-exec failure doesn't include
exit-code in json-status", Sandbox2's MonitorIsNotStarvedByTheSandboxee, sandlock's create_then_discard_reaps_child,
srt's "should not leave orphan processes after timeout kills sandbox", and Gecko's LaunchAllKinds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from belljar.host.config.process_type import Process
from belljar.host.errors import ConfigError, LaunchError
from belljar.host.process_host import ProcessHost
from belljar.host.state import State
from belljar.ipc.errors import ArgumentError, RemoteError, ResultError, UnknownMethod
from belljar.ipc.stage import Stage

from ..helpers import launch, nothing_left, write_plugin
from .observe import Seen, once

pytestmark = pytest.mark.anyio


async def refused(backend: str, stage: Stage, reason: str, plugin: str = "plain.py:Plain", **fields: Any) -> None:
    """Launch, and expect the error of *stage* in one line, and nothing left."""
    with nothing_left(backend), pytest.raises(LaunchError, match=reason) as caught:
        await once(plugin, backend=backend, **fields)
    assert caught.value.stage is stage
    assert "\n" not in str(caught.value)


def test_the_three_pids(seen: Seen) -> None:
    """The pid to wait for, the pid to kill and the pid that the child believes in are what the backend makes them."""
    by_namespace = [int(word) for word in seen.outside.status["NSpid"].split()]
    assert by_namespace[0] == seen.child_pid
    assert by_namespace[-1] == seen.claimed_pid
    assert seen.claimed_pid == {"namespaces": 1, "chrome-sandbox": 1, "bubblewrap": 2}.get(seen.backend, seen.child_pid)
    if seen.backend == "namespaces":  # waited for by the zygote, which has its own number for it
        assert by_namespace[1] == seen.launched_pid
    elif seen.backend in ("chrome-sandbox", "bubblewrap"):  # behind a helper
        assert seen.launched_pid not in by_namespace
    else:
        assert seen.launched_pid == seen.child_pid


async def test_every_stage_is_timed_and_every_state_passed(backend: str) -> None:
    """A launch leaves the milliseconds of all its stages, and the handle goes from created to ended."""
    host = launch(backend=backend)
    states = [host.state]
    async with host:
        states.append(host.state)
        assert {stage.label for stage in Stage} <= set(host.timeline)
        assert host.timeline["total"] > 0
        assert "add" in host.methods
    assert [*states, host.state] == [State.CREATED, State.READY, State.ENDED]


EARLY = {
    "fails": r"warm\.py:fails: ZeroDivisionError: division by zero",
    "hangs": r"warm\.py:hangs did not finish within 0\.2 s",
    "crashes": r"the child ended in warm\.py:crashes: SIGSEGV ended it",
    "eats": r"warm\.py:eats: MemoryError",
    "leaves": r"the child ended in warm\.py:leaves: it exited with code 9",
}
WARM = """
    import ctypes, os, signal
    def fails(): 1 / 0
    def hangs(): signal.pause()
    def crashes(): ctypes.string_at(0)
    def leaves(): os._exit(9)
    def eats(): return bytearray(1 << 45)
"""


@pytest.mark.parametrize("step", EARLY)
async def test_an_early_init_step_that_goes_wrong_is_named(backend: str, step: str, tmp_path: Path) -> None:
    """Whatever a step of early init does, the error has stage 6, its name, and how it went wrong."""
    warm = write_plugin(tmp_path, WARM, name="warm").removesuffix(":Plug")
    await refused(backend, Stage.EARLY_INIT, EARLY[step], early_init=(f"{warm}:{step}",), step_timeout=0.2)


async def test_a_module_that_cannot_be_preloaded_is_named(backend: str) -> None:
    """A preload that does not exist is an error of stage 6 too, wherever it would have been imported."""
    with pytest.raises(LaunchError, match="preload no_such_module: ModuleNotFoundError") as caught:
        await once("plain.py:Plain", backend=backend, preload=("no_such_module",))
    assert caught.value.stage is Stage.EARLY_INIT


LOADS = {
    "raise ValueError('its own words')": r"<bundle>/written\.py:1: ValueError: its own words",
    "import os; os._exit(5)": "exited with code 5",
    "import ctypes; ctypes.string_at(0)": "SIGSEGV ended it",
}


@pytest.mark.parametrize("source", LOADS)
async def test_a_plugin_that_cannot_be_loaded_is_named(backend: str, source: str, tmp_path: Path) -> None:
    """Whatever a plugin does when it is loaded, the error has stage 9, its line, and what it did."""
    await refused(backend, Stage.LOAD, LOADS[source], write_plugin(tmp_path, source))


def test_a_launch_that_takes_too_long(backend: str, tmp_path: Path) -> None:
    """The deadline of the whole launch names the stage and the step that it was in."""
    warm = write_plugin(tmp_path, WARM, name="warm").removesuffix(":Plug")
    reason = r"the child did not get past this stage in warm\.py:hangs within 1 s"
    fields: dict[str, Any] = {"early_init": (f"{warm}:hangs",), "launch_timeout": 1.0}

    async def launch_it() -> None:
        await refused(backend, Stage.EARLY_INIT, reason, **fields)

    anyio.run(launch_it)  # on one loop only: it takes a second


def act_in(state: State, host: ProcessHost, act: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have *act* called when *host* leaves *state*."""
    move = host._move

    def move_and_act(new: State, stage: Stage) -> None:
        move(new, stage)
        if new > state:
            monkeypatch.undo()
            act()

    monkeypatch.setattr(host, "_move", move_and_act)


@pytest.mark.parametrize("state", [State.LAUNCHED, State.CONNECTED, State.SEALED])
async def test_a_launch_that_is_given_up(backend: str, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch that is cancelled in any state leaves no process and no fd."""
    host = launch(backend=backend)
    with nothing_left(backend):
        with anyio.CancelScope() as scope:
            act_in(state, host, scope.cancel, monkeypatch)
            async with host:
                await anyio.lowlevel.checkpoint()
    assert host.state is State.ENDED


@pytest.mark.parametrize("state", [State.LAUNCHED, State.INITIALISED])
async def test_a_child_that_is_killed_in_its_launch(
    backend: str, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launch whose child is killed in any state fails, keeps the reason of the kill, and leaves nothing."""
    host = launch(backend=backend)
    act_in(state, host, lambda: host.kill("changed its mind"), monkeypatch)
    with nothing_left(backend), pytest.raises(LaunchError):
        await host.__aenter__()
    assert (host.state, (await host.wait()).reason) == (State.ENDED, "changed its mind")


async def test_the_errors_of_calls(backend: str) -> None:
    """What does not fit is told before it runs, what the plugin raises as its own; the child outlives all of it."""
    async with launch(backend=backend) as host:
        with pytest.raises(UnknownMethod, match=r"no method 'nothing_such'; it has .*add"):
            await host.call("nothing_such")
        with pytest.raises(UnknownMethod, match="that is no name of one"):
            await host.call("../add")
        with pytest.raises(
            ArgumentError, match=r"could not call 'add': Expected `int`, got `str` - at argument `first`"
        ):
            await host.call("add", "one")
        with pytest.raises(ArgumentError, match=r"3 arguments do not fit add"):
            await host.call("add", 1, 2, 3)
        with pytest.raises(ResultError, match="the result of 'unsendable' cannot be sent"):
            await host.call("unsendable")
        with pytest.raises(ResultError, match="does not fit"):
            await host.call("add", 1, returns=str)
        with pytest.raises(RemoteError, match="'boom' raised ValueError: the plugin's own words"):
            await host.call("boom")
        assert await host.call("add", 1) == 3


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [("/nowhere/plugin.py:Plug", "no such file"), ("no colon", "expected a plugin such as"), ("plain.py:", "expected")],
)
async def test_a_plugin_that_cannot_be_named(backend: str, plugin: str, reason: str) -> None:
    """A mistake of the user is a ConfigError of one line, before anything starts."""
    with pytest.raises(ConfigError, match=reason) as caught:
        await ProcessHost(Process(plugin=plugin, name="bad", backend=backend)).__aenter__()
    assert "\n" not in str(caught.value)


async def test_large_payloads_travel_both_ways(backend: str) -> None:
    """Megabytes go in and come out through sealed memfds."""
    async with launch(backend=backend) as host:
        assert await host.call("length", bytes(9 << 20)) == 9 << 20
        assert await host.call("blob", 7 << 20, returns=bytes) == b"x" * (7 << 20)
        assert await host.call("echo", ["ä" * 100, {"k": 1.5}, None]) == ["ä" * 100, {"k": 1.5}, None]


async def test_a_flood_of_output_is_capped(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """A child that writes without end is drained, logged up to a mark, and neither it nor the host stops."""
    caplog.set_level("INFO", "belljar")
    async with launch(backend=backend) as host:
        await host.call("flood", 600)
        assert await host.call("add", 1) == 3
    assert sum(len(record.getMessage()) for record in caplog.records) < 2 << 20
    assert "more output is not logged" in caplog.text
