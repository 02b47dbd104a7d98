"""A hostile plugin tries each way out: unconfined it succeeds, or the attack proves nothing; sealed it fails."""

from __future__ import annotations

import os
import platform
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from belljar import Policy, Process, ProcessHost
from tests.children.attacker import Attacker

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the attacker calls by the numbers of x86_64")

PLUGIN = str(Path(__file__).parent.parent / "children/attacker.py") + ":Attacker"
ANYBODY, ROOT_ONLY = Attacker().names()
PRELOAD = ("ctypes", "mmap", "platform", "resource", "signal", "socket", "struct")

NOT_IN_THIS_KERNEL = ("ENOSYS", "EAFNOSUPPORT")


async def attack(backend: str, folder: str) -> dict[str, str]:
    """Let a child under *backend* try everything."""
    run_as = "root" if os.geteuid() == 0 else ""  # what root may do is tried too
    process = Process(plugin=PLUGIN, backend=backend, policy=Policy.media(), preload=PRELOAD, run_as=run_as)
    async with ProcessHost(process) as host:
        results: dict[str, str] = await host.call("try_all", os.getpid(), folder, returns=dict[str, str], timeout=30)
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of the host with a listening socket in it."""
    path = tmp_path_factory.mktemp("attacked")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path / "socket"))
        sock.listen()
        yield path


@pytest.fixture(scope="module")
def unconfined(folder: Path) -> dict[str, str]:
    """What each attempt gives under ``none``."""
    return anyio.run(attack, "none", str(folder))


@pytest.fixture(scope="module")
def sealed(folder: Path) -> dict[str, str]:
    """What each attempt gives under ``namespaces``."""
    return anyio.run(attack, "namespaces", str(folder))


@pytest.mark.parametrize("name", ANYBODY + ROOT_ONLY)
def test_attack_works_without_a_sandbox(name: str, unconfined: dict[str, str]) -> None:
    """An attack succeeds under ``none``, as far as this user may do such a thing at all."""
    if name in ROOT_ONLY and os.geteuid() != 0:
        pytest.skip("needs root even without a sandbox")
    if unconfined[name].startswith(NOT_IN_THIS_KERNEL):
        pytest.skip(f"this kernel was built without it: {unconfined[name]}")
    assert unconfined[name] == ""


@pytest.mark.parametrize("name", ANYBODY + ROOT_ONLY)
def test_attack_fails_when_sealed(name: str, sealed: dict[str, str]) -> None:
    """The same attack is refused in a sealed child."""
    assert sealed[name] != ""


def test_nothing_was_written(unconfined: dict[str, str], sealed: dict[str, str], folder: Path) -> None:
    """What the attacks left in the host's folder is what the unconfined child made."""
    assert {path.name for path in folder.iterdir()} == {"socket", "written", "made"}
    assert stat.S_ISDIR((folder / "made").stat().st_mode)
