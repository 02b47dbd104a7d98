"""The step channel-zmq: calls travel over zmq, on every backend, and nothing of it is left."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from belljar.host.config.process_type import plan_of
from belljar.host.errors import ChildEnded, LaunchError
from belljar.host.plan.available import Surroundings
from belljar.host.plan.check import problems
from belljar.host.process_host import ProcessHost
from belljar.ipc.errors import BelljarError
from belljar.ipc.stage import Stage
from belljar.sandbox.graphics import find_driver
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Policy
from belljar.sandbox.user import User

from ...helpers import launch, nothing_left, process

pytestmark = pytest.mark.anyio


def over_zmq(**fields: Any) -> ProcessHost:
    """Return a host that talks to its child over zmq, under the policy that grants nothing."""
    return launch(**{"policy": Policy(), "channel": "zmq", **fields})


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this test's folders for channels are made, beside those of other processes; the child's user may enter."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o711)
        monkeypatch.setattr("tempfile.tempdir", made)
        yield Path(made)


async def test_calls_travel_over_zmq(backend: str, folder: Path) -> None:
    """Small and large ones, under the policy that grants nothing; the folder is gone, and what stays is as declared."""
    async with over_zmq(backend=backend) as host:
        assert not list(folder.iterdir())
        report = host.early_init["channel-zmq"]
        assert (report.undeclared, set(report.left.threads)) == (None, {"ZMQbg/IO/0", "ZMQbg/Reaper"})
        assert host.at_seal is None or host.at_seal.undeclared is None
        assert host.timeline["channel-zmq"] > 0
        for size in (1, 1000, 60_000, 3 << 20):
            assert await host.call("echo", bytes(size), returns=bytes) == bytes(size)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
async def test_a_child_of_another_user_finds_its_host(backend: str) -> None:
    """The folder is the child's user's, and nobody else's."""
    async with over_zmq(backend=backend, run_as="65534:65534") as host:
        assert await host.call("echo", b"x", returns=bytes) == b"x"


async def test_the_end_of_a_child_is_seen(backend: str) -> None:
    """A child that exits, or is killed, ends the call under way."""
    async with over_zmq(backend=backend) as host:
        with pytest.raises(ChildEnded, match="7"):
            await host.call("leave", 7)
    async with over_zmq(backend=backend) as host:
        host.kill("for a test")
        with pytest.raises(ChildEnded):
            await host.call("echo", b"x")


async def test_nothing_is_left(folder: Path) -> None:
    """After a life, after a launch that fails before the step, in it, and behind it: no folder, fd or process."""
    async with over_zmq():  # the host's context stays
        pass
    with nothing_left():
        async with over_zmq() as host:
            await host.call("echo", b"x")
        failing: list[dict[str, Any]] = [
            {"early_init": ("channel-zmq",)},
            {"launch_timeout": 0.01},
            {"plugin": "hangs_on_import.py:Plug", "launch_timeout": 1.0},
        ]
        for fields in failing:
            with pytest.raises(BelljarError):
                await over_zmq(**fields).__aenter__()
        assert not list(folder.iterdir())


def test_the_plan_knows_its_threads() -> None:
    """Where landlock does not reach threads that are there already, files and this channel do not go together."""
    plan = plan_of(process(channel="zmq").resolve())
    policy = Policy().allow_files("/usr/share")
    for reaches, words in ((False, ["threads"]), (True, [])):
        around = Surroundings("landlock", {Layer.LANDLOCK: ""}, policy, landlock_reaches_threads=reaches)
        found = list(problems(plan, around, find_driver(User.current())))
        assert [(problem.step, problem.word) for problem in found] == [("channel-zmq", word) for word in words]


async def test_the_step_alone_says_what_it_stands_for() -> None:
    """Listed without channel = "zmq" it fails by name."""
    with pytest.raises(LaunchError, match=r"channel-zmq: it stands for channel = 'zmq'") as caught:
        await launch(channel="socket", early_init=("channel-zmq",)).__aenter__()
    assert caught.value.stage is Stage.EARLY_INIT
