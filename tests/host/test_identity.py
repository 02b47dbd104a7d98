"""Whose hello is believed: every rule of docs/protocol.md, each broken by a real process."""

from __future__ import annotations

import os
import sys
from types import ModuleType

import pytest

from belljar.host.errors import LaunchError
from belljar.host.process_host import ProcessHost
from belljar.ipc.stage import Stage
from belljar.sandbox import backends
from belljar.sandbox.backends import none
from belljar.sandbox.base import Launch, Started
from belljar.sandbox.launch import client
from belljar.sandbox.launch.executed import NothingMore

from ..helpers import CHILDREN, nothing_left, process

pytestmark = pytest.mark.anyio


class RogueSide(none.HostSide):
    """Launches tests/children/rogue.py instead of a child; the name of the process type is the mode."""

    def start(self, launch: Launch) -> Started:
        argv = [sys.executable, "-I", str(CHILDREN / "rogue.py"), launch.birth.name]
        fds = {1: launch.stdout, 2: launch.stderr, 3: launch.control.fileno()}
        client.guard().spawn(argv, client.ENVIRONMENT, fds, launch.report, launch.user)
        return NothingMore()


@pytest.fixture(autouse=True)
def rogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend ``rogue``, as if its file were among the others."""
    module = ModuleType("belljar.sandbox.backends.rogue")
    vars(module)["HostSide"] = RogueSide
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(backends.BACKENDS, "rogue", "rogue")


def host(mode: str, timeout: float = 10.0) -> ProcessHost:
    return ProcessHost(process(backend="rogue", name=mode, launch_timeout=timeout))


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("grandchild", "which the backend did not launch"),
        ("thief", "which the backend did not launch"),
        ("truncated", "more bytes than the channel allows"),
        ("stuffed", "more fds than the channel allows"),
        ("one_fd", "1 surplus fds"),
        ("too_old", "the child speaks version 0 of the protocol and the host version 1; update the child$"),
        ("too_new", "the child speaks versions 2 to 4 of the protocol and the host version 1; update the host$"),
        ("other_message", "is Ready instead of a hello"),
        ("garbage", "does not fit the protocol"),
        ("empty", "does not fit the protocol"),
        ("hangs_up", "exited with code 3"),
    ],
)
async def test_a_wrong_hello_is_refused(mode: str, reason: str) -> None:
    """A first message that breaks a rule ends the launch at stage 4 and leaves no process and no fd."""
    with nothing_left("rogue"):
        with pytest.raises(LaunchError, match=reason) as caught:
            await host(mode).__aenter__()
        assert caught.value.stage is Stage.HELLO


async def test_a_hello_that_never_comes() -> None:
    """A child that says nothing is killed at the deadline, and the error names the stage."""
    with nothing_left("rogue"):
        with pytest.raises(LaunchError, match=r"did not get past this stage within 0\.3 s") as caught:
            await host("never", timeout=0.3).__aenter__()
        assert caught.value.stage is Stage.HELLO


async def test_a_second_hello_is_refused() -> None:
    """A hello where the seal is due breaks the protocol."""
    with nothing_left("rogue"), pytest.raises(LaunchError, match="sent Hello instead of sealing itself"):
        await host("twice").__aenter__()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may forge credentials at all")
async def test_forged_credentials_of_another_process_are_refused() -> None:
    """Even where the kernel lets a sender lie, the pid must be that of the launched process."""
    with nothing_left("rogue"), pytest.raises(LaunchError) as caught:
        await host("forged").__aenter__()
    assert caught.value.stage is Stage.HELLO


@pytest.mark.parametrize("passes_pidfd", [True, False])
async def test_the_claimed_pid_is_never_used(passes_pidfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A false claim changes nothing: the host knows the child by the kernel, with SO_PASSPIDFD and without."""
    if not passes_pidfd:
        monkeypatch.setenv("BELLJAR_FAKE_MISSING", "passpidfd")
    liar = host("liar", timeout=1.0)
    with nothing_left("rogue"), pytest.raises(LaunchError) as caught:
        await liar.__aenter__()
    assert caught.value.stage > Stage.HELLO
    assert liar.claimed_pid == 1
    assert liar.child_pid == liar.launched_pid
    assert liar.child_pid != 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_another_uid_is_refused() -> None:
    """A process that is no longer of the host's user is not believed, nor can it claim to be."""
    with nothing_left("rogue"), pytest.raises(LaunchError, match="came from uid 65534 instead of 0"):
        await host("other_uid").__aenter__()


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("fork_seals", "a message came from process"),
        ("boasts_of_landlock", "it speaks of landlock ABI 7 instead of 0"),
        ("garbage_after_hello", "does not fit the protocol"),
        ("stuffed_after_hello", "more fds than the channel allows"),
    ],
)
async def test_a_wrong_message_after_the_hello_is_refused(mode: str, reason: str) -> None:
    """Between hello and seal too, each message must come from the known child and be valid, or the launch fails."""
    with nothing_left("rogue"):
        with pytest.raises(LaunchError, match=reason) as caught:
            await host(mode).__aenter__()
        assert Stage.HELLO < caught.value.stage < Stage.VERIFY


async def test_behind_a_helper_the_child_is_a_descendant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a helper stands between, its descendant is believed and called, and the helper is not its own child."""
    monkeypatch.setattr(RogueSide, "has_helper", True)
    with nothing_left("rogue"):
        async with host("below") as behind:
            assert behind.child_pid not in (None, behind.launched_pid)
            assert await behind.call("pid") == behind.child_pid
            behind.kill()
        with pytest.raises(LaunchError, match="which the backend did not launch") as caught:
            await host("liar").__aenter__()
        assert caught.value.stage is Stage.HELLO
