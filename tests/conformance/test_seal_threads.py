"""The seal with threads: each is covered, counted and named, whatever it does meanwhile, or the launch fails.

Drawn from the kernel's own TSYNC tests (selftests/seccomp, TSYNC_siblings_*), Chromium's ThreadHelpers and its test
of a watchdog thread over the seal, and landlock's tsync_test.competing_enablement and .interrupt.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from belljar.host.errors import ProtectionError
from belljar.host.process_host import ProcessHost
from belljar.ipc.stage import Stage
from belljar.sandbox import protection
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Policy

from ..children.lingering import MANY
from ..helpers import CHILDREN, launch, nothing_left, only_over_socket, require
from .observe import ended

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="threads are awaited in calls by the numbers of x86_64"),
]

PRELOAD = ("ctypes", "fcntl", "hashlib", "pathlib", "queue", "threading")


def lingering(folder: Path, function: str, **fields: Any) -> ProcessHost:
    """Return a host for a child whose early init runs *function* of tests/children/lingering.py."""
    early = shutil.copy(CHILDREN / "lingering.py", folder)
    return launch("lingering.py:Lingering", early_init=(f"{early}:{function}",), preload=PRELOAD, **fields)


def named(host: ProcessHost, name: str) -> int:
    """Return how many threads of *name* the report has."""
    assert host.protection is not None
    assert sum(host.protection.thread_names.values()) == host.protection.threads
    return host.protection.thread_names.get(name, 0)


async def outcome(host: ProcessHost, name: str) -> str:
    """Wait until the thread *name* has got what it asked for, and return what."""
    found: str | None = None
    while found is None:  # pytest's own timeout is the deadline
        found = await host.call("outcome", name, returns=str | None)
    return found


@only_over_socket
async def test_many_threads_are_covered(backend: str, tmp_path: Path) -> None:
    """All of 64 threads are sealed, counted and named."""
    async with lingering(tmp_path, "many", backend=backend) as host:
        assert host.protection is not None
        assert (host.protection.threads, named(host, "many")) == (MANY + 1, MANY)
        met = await host.call("ask_many", "/etc/passwd", returns=dict[int, str])
    assert len(met) == MANY
    assert set(met.values()) == {"opened" if backend == "none" else "EACCES"}


@pytest.mark.parametrize("threads", [True, False])
async def test_threads_that_come_and_go(backend: str, tmp_path: Path, *, threads: bool) -> None:
    """A thread that is started while the seal happens, or after it where the policy lets it, is sealed too."""
    async with lingering(tmp_path, "churn", backend=backend, policy=Policy(threads=threads)) as host:
        assert named(host, "churn") >= 1
        met = await host.call("next_born", returns=str)
    refusals = ("EACCES", "ENOSYS")  # the latter once the host, flooded with refused opens, listens no more
    assert met in (("opened",) if backend == "none" else refusals if threads else ("not born",))


async def test_a_thread_in_a_call_that_the_filter_allows(backend: str, tmp_path: Path) -> None:
    """A thread that blocks in read over the seal is sealed, and gets its bytes afterwards."""
    async with lingering(tmp_path, "in_read", backend=backend) as host:
        assert named(host, "read") == 1
        assert await host.call("outcome", "read") is None
        await host.call("give")
        assert await outcome(host, "read") == "x"


@pytest.mark.parametrize("call", ["flock", "splice"])
async def test_a_thread_in_a_call_that_the_filter_refuses(backend: str, tmp_path: Path, *, call: str) -> None:
    """What a thread asked for before the seal, and the filter refuses, it does not get after it."""
    async with lingering(tmp_path, f"in_{call}", backend=backend) as host:
        assert named(host, call) == 1
        await host.call("unlock" if call == "flock" else "give")
        granted, refused = ("locked", "EACCES") if call == "flock" else ("1", "EPERM")
        assert await outcome(host, call) == (granted if backend == "none" else refused)


async def test_a_thread_in_the_open_of_a_fifo(backend: str, tmp_path: Path) -> None:
    """Nor does a file that an open waits for over the seal ever become an fd."""
    if backend == "bubblewrap":
        pytest.skip("its early init sees no folder in which a FIFO could be made")
    tmp_path.chmod(0o777)
    async with lingering(tmp_path, "in_open", backend=backend) as host:
        assert named(host, "open") == 1
        fifo = os.open(f"{tmp_path}/lingering.py.fifo", os.O_RDWR | os.O_NONBLOCK)  # the other end that open waits for
        try:
            assert await outcome(host, "open") == ("opened" if backend == "none" else "EACCES")
        finally:
            os.close(fifo)


@pytest.mark.parametrize("function", ["in_c", "in_c_with_lock"])
async def test_a_thread_in_a_long_c_call(backend: str, tmp_path: Path, *, function: str) -> None:
    """A thread that computes all the time, with the interpreter's lock or without, is stopped and sealed like any."""
    async with lingering(tmp_path, function, backend=backend) as host:
        assert named(host, function) == 1


async def test_a_thread_that_sleeps_uninterruptibly(backend: str, tmp_path: Path) -> None:
    """A thread that no signal wakes ends the launch: the error names it, and where it sleeps; the host is well."""
    host = lingering(tmp_path, "in_vfork", backend=backend)
    if backend == "none":
        assert (await ended(host)).thread_names["vfork"] == 2  # the one that was made has the name of its maker
        return
    with nothing_left(backend, PRELOAD), pytest.raises(ProtectionError, match=r"\(vfork\) does not stop") as caught:
        await ended(host)
    assert (caught.value.stage, caught.value.layer) == (Stage.VERIFY, Layer.SECCOMP)
    assert caught.value.thread is not None
    assert "disk sleep in clone at " in str(caught.value)


TESTS: dict[str, Callable[[str, Path], Awaitable[None]]] = {
    "many": test_many_threads_are_covered,
    "churn": partial(test_threads_that_come_and_go, threads=False),
    "churn that goes on": partial(test_threads_that_come_and_go, threads=True),
    "read": test_a_thread_in_a_call_that_the_filter_allows,
    "flock": partial(test_a_thread_in_a_call_that_the_filter_refuses, call="flock"),
    "splice": partial(test_a_thread_in_a_call_that_the_filter_refuses, call="splice"),
    "C": partial(test_a_thread_in_a_long_c_call, function="in_c"),
    "C with the lock": partial(test_a_thread_in_a_long_c_call, function="in_c_with_lock"),
    "vfork": test_a_thread_that_sleeps_uninterruptibly,
}
IN_A_ROW = {"namespaces": 500, "landlock": 500, "seccomp": 500, "chrome-sandbox": 100, "bubblewrap": 100}
"""How often for each backend; those that start an interpreter for each launch take longer."""


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("backend", IN_A_ROW)
async def test_all_of_it_many_times_in_a_row(
    backend: str, test: Callable[[str, Path], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What holds once, holds hundreds of times in a row."""
    require(backend)
    if test is test_a_thread_that_sleeps_uninterruptibly:  # which is all waiting
        monkeypatch.setattr(protection, "PAUSES", (0.01,) * 20)
    for number in range(IN_A_ROW[backend]):
        folder = tmp_path / str(number)
        folder.mkdir(mode=0o755)
        await test(backend, folder)
        shutil.rmtree(folder)
