"""Seal and verification: what early init leaves behind is sealed or refused, and a promise that is not kept kills.

Drawn from Sandbox2's TsyncNoMemoryChecks and TestCloseFDs, the kernel's TSYNC tests and landlock's
tsync_test.multi_threaded.restrict, go-landlock's TestRestrictInPresenceOfThreading, Chromium's
DropFileSystemAccessIsSafe, and minijail's LandlockTest.test_deny_rule_with_close_open_fds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from belljar.host.errors import LaunchError, ProtectionError
from belljar.host.process_host import ProcessHost
from belljar.ipc.stage import Stage
from belljar.sandbox.backends import load
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Policy
from belljar.sandbox.protection import Operation

from ..helpers import launch, nothing_left, only_over_socket, write_plugin
from .observe import able, ended, once, refused_by_report

pytestmark = pytest.mark.anyio

WARM = """
    import os, queue, sys, threading
    asked, answers = queue.SimpleQueue(), queue.SimpleQueue()
    def serve():
        while True:
            answers.put(asked.get()())
    def thread():
        sys.old_thread = lambda work: (asked.put(work), answers.get())[1]
        threading.Thread(target=serve, daemon=True).start()
    def directory():
        os.open("/etc", os.O_RDONLY)
    def seal():
        frame = sys._getframe()
        while "configuration" not in frame.f_locals or "self" not in frame.f_locals:
            frame = frame.f_back
        frame.f_locals["self"].seal(frame.f_locals["configuration"])
    def file():
        sys.opened_early = open(__file__)  # which is in any view of files
"""

PLUGIN = """
    import errno, os, sys
    def attempt(call):
        try:
            return str(call())
        except OSError as error:
            return errno.errorcode[error.errno]
    class Plug:
        def old_thread(self, path: str) -> list[str]:
            open_it, fork = lambda: os.open(path, os.O_RDONLY), lambda: os.waitpid(os.fork() or os._exit(0), 0)
            return [sys.old_thread(lambda: attempt(open_it)), sys.old_thread(lambda: attempt(fork))]
        def early_file(self) -> str:
            return sys.opened_early.readline()
        def nothing(self) -> None: pass
"""


def child(folder: Path, step: str, **fields: Any) -> ProcessHost:
    """Return a host for a child whose early init takes *step*."""
    warm = write_plugin(folder, WARM, name="warm").removesuffix(":Plug")
    return launch(
        write_plugin(folder, PLUGIN), early_init=(f"{warm}:{step}",), preload=("queue", "threading"), **fields
    )


@only_over_socket
async def test_a_thread_of_early_init_is_sealed(backend: str, tmp_path: Path) -> None:
    """The seal reaches threads that were there before it, and the host has read each of them."""
    async with child(tmp_path, "thread", backend=backend) as host:
        assert host.protection is not None
        assert host.protection.threads == 2
        refused_by_report(host.protection, Operation.READ_FILE)
        found = await host.call("old_thread", "/etc/passwd", returns=list[str])
    assert found == ["EACCES", "EPERM"]


@only_over_socket
async def test_an_old_thread_and_granted_files(backend: str, tmp_path: Path) -> None:
    """Where only landlock tells files apart, a child with an older thread is not let go; elsewhere it is sealed."""
    policy = Policy(threads=True, read_only=("/usr",))
    able(backend, policy)
    half = load(backend).HostSide()
    if Layer.LANDLOCK in half.promises(policy):
        with pytest.raises(ProtectionError, match="1 thread was there before the seal") as caught:
            await child(tmp_path, "thread", backend=backend, policy=policy).__aenter__()
        assert (caught.value.stage, caught.value.layer) == (Stage.VERIFY, Layer.LANDLOCK)
        return
    async with child(tmp_path, "thread", backend=backend, policy=policy) as host:
        assert host.protection is not None
        refused_by_report(host.protection, Operation.READ_FILE)
        assert (await host.call("old_thread", "/etc/passwd", returns=list[str]))[0] == "ENOENT"


@only_over_socket
async def test_an_old_thread_makes_landlock_partly(backend: str, tmp_path: Path) -> None:
    """Without granted files the filter covers older threads, and the report says of landlock what lacks."""
    async with child(tmp_path, "thread", backend=backend) as host:
        assert host.protection is not None
        status = host.protection.layer(Layer.LANDLOCK)
    if status.promised:
        assert (status.mark, "1 thread was there before the seal" in status.limit) == ("partly", True)
    else:
        assert not status.engaged


async def test_a_directory_that_early_init_left_open(backend: str, tmp_path: Path) -> None:
    """An open directory leads around every rule for files, so the child does not seal itself."""
    with pytest.raises(LaunchError, match="early init left the directory /etc open") as caught:
        refused_by_report(await ended(child(tmp_path, "directory", backend=backend)), Operation.READ_FILE)
    assert caught.value.stage is Stage.SEAL


async def test_a_file_that_early_init_left_open(backend: str, tmp_path: Path) -> None:
    """An open file is what early init is for: it can be read after the seal."""
    async with child(tmp_path, "file", backend=backend) as host:
        first = await host.call("early_file", returns=str)
    assert first == (tmp_path / "warm.py").read_text().splitlines(keepends=True)[0]


async def test_a_child_that_seals_itself_twice(backend: str, tmp_path: Path) -> None:
    """A step of early init that takes the seal for itself ends the child, which cannot even look at what it left."""
    twice = child(tmp_path, "seal", backend=backend)
    with nothing_left(backend, twice.process.preload), pytest.raises(LaunchError) as caught:
        await ended(twice)
    if backend == "none":  # nothing in it refuses anything, so that it says twice that it is sealed
        assert str(caught.value) == "stage 10 (ready): the child sent Sealed instead of being ready"
    else:
        assert str(caught.value) == "stage 10 (ready): the sealed child says that stage 6 failed"


async def test_a_plugin_that_says_it_is_sealed(backend: str, tmp_path: Path) -> None:
    """A second word on the seal, from the plugin's own file while it is loaded, breaks the protocol."""
    source = """
        from belljar.ipc.messages import Sealed
        import sys
        frame = sys._getframe()
        while getattr(frame.f_locals.get("self"), "link", None) is None:
            frame = frame.f_back
        frame.f_locals["self"].link.send(Sealed({}))
        class Plug: pass
    """
    plugin = write_plugin(tmp_path, source)
    with nothing_left(backend), pytest.raises(LaunchError, match="the child sent Sealed instead of being ready"):
        await once(plugin, backend=backend)


LACKING = {
    "namespaces": Layer.LANDLOCK,
    "chrome-sandbox": Layer.MOUNT_NS,
    "bubblewrap": Layer.EMPTY_ROOT,
    "landlock": Layer.PID_NS,
    "seccomp": Layer.NET_NS,
    "none": Layer.NO_NEW_PRIVS,
}
"""One layer for each backend that it does not have."""


@only_over_socket
async def test_a_promise_that_is_not_kept_kills(backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A backend that promises one layer more than the kernel shows gets no child, and no code of the plugin runs."""
    half: Any = load(backend).HostSide

    class Boastful(half):  # type: ignore[misc]
        def promises(self, policy: Policy) -> dict[Layer, str]:
            return {**super().promises(policy), LACKING[backend]: ""}

    monkeypatch.setattr(load(backend), "HostSide", Boastful)
    plugin = write_plugin(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Plug: pass\n")
    reason = f"does not show {LACKING[backend]}, which {backend} promises"
    with nothing_left(backend), pytest.raises(ProtectionError, match=reason) as caught:
        await once(plugin, backend=backend)
    assert (caught.value.stage, caught.value.layer) == (Stage.VERIFY, LACKING[backend])
    assert not (tmp_path / "ran").exists()


async def test_a_floor_that_is_not_met_is_refused(backend: str) -> None:
    """What ``require`` names and the backend has not is an error at stage 1 that names the layer."""
    with pytest.raises(LaunchError, match=f"below the floor.*it has no {LACKING[backend]}") as caught:
        await once("plain.py:Plain", backend=backend, require=(LACKING[backend].value,))
    assert caught.value.stage is Stage.PREPARE


async def test_a_floor_that_is_met_is_shown(backend: str) -> None:
    """What ``require`` names and the backend has is marked in the report as asked for."""
    promised = load(backend).HostSide().promises(Policy.compute())
    layers = tuple(layer.value for layer, limit in promised.items() if not limit)
    protection = await once("plain.py:Plain", backend=backend, require=layers)
    assert {status.layer for status in protection.layers if status.asked} == set(layers)
