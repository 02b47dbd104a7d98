"""Rights other than files, granted and not granted, and limits, on every backend.

Drawn from Sandbox2's PthreadsWork, TestInterfacesNoNetwork and RLimitASMmapAboveLimit, sandlock's
memory_limit_enforced and max_open_files_does_not_raise_inherited_limit, hakoniwa's setrlimit_fsize, firejail's
memwrexe.exp and rlimit.exp, codex's sandbox_blocks_{curl,nc}, Gecko's pipe2, Chromium's ForkErrno.
"""

from __future__ import annotations

import os
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from belljar.ipc.errors import RemoteError
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Limits, Policy
from belljar.sandbox.protection import Operation, Protection, Verdict

from ..helpers import launch
from .observe import PLUGIN, PRELOAD, able, dangerous, engaged_by_report, refused_by_report

pytestmark = pytest.mark.anyio

LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
LOADER = next(os.path.realpath(path) for path in LOADERS if os.path.exists(path))
"""What the kernel would start for a program. A policy grants no path that leads through a link, as /lib64 does."""


async def reach(backend: str, policy: Policy, *attempts: tuple[str, list[Any]]) -> tuple[list[Any], Protection]:
    """Have a child under *policy* make *attempts*; return what came of each, and its report."""
    able(backend, policy)
    async with launch(PLUGIN, backend=backend, preload=PRELOAD, policy=policy) as host:
        found = await host.call("reach", list(attempts), returns=dict[str, Any])
        assert host.protection is not None
        return list(found.values()), host.protection


@contextmanager
def greeter() -> Iterator[int]:
    """Listen on a port of 127.0.0.1 and greet whoever connects; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:  # nobody came
                return
            with connection:
                connection.sendall(b"hello")

        thread = threading.Thread(target=greet)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


async def test_the_network_that_is_granted(backend: str) -> None:
    """With inet, the child reaches what listens on the host's loopback; the report says who granted it."""
    with greeter() as port:
        found, protection = await reach(backend, dangerous(network=("inet",)), ("connect", [port]))
    assert found == ["hello"]
    assert protection.operation(Operation.INET).granted == "inet"


async def test_local_sockets_that_are_granted(backend: str) -> None:
    """With unix, the child can listen and connect inside of itself."""
    found, protection = await reach(backend, Policy(network=("unix",)), ("talk_to_itself", ["belljar-conformance"]))
    assert found == ["hello"]
    assert protection.operation(Operation.UNIX_PATH).granted == "unix"


async def test_sub_processes_that_are_granted(backend: str) -> None:
    """With sub-processes, fork works and the child reaps; without files there is nothing to execute."""
    policy = Policy(threads=True, subprocesses=True)
    (forked, threaded, run), protection = await reach(
        backend, policy, ("fork", [7]), ("start_a_thread", []), ("run", ["/bin/true"])
    )
    assert (forked, threaded) == (7, True)
    assert protection.operation(Operation.MAKE_PROCESS).verdict is Verdict.GRANTED
    refused_by_report(protection, Operation.EXECUTE)
    assert run == "EACCES"


async def test_programs_that_are_granted(backend: str) -> None:
    """With sub-processes, the files of a program and executable memory, it runs."""
    policy = dangerous(subprocesses=True, executable_memory=True, read_only=("/usr",))
    found, _ = await reach(backend, policy, *(("run", [LOADER, f"/usr/bin/{name}"]) for name in ("true", "false")))
    assert found == [0, 1]


async def test_executable_memory_that_is_granted(backend: str) -> None:
    """With it, code that the child has just written runs, as that of a JIT compiler does."""
    found, protection = await reach(backend, dangerous(executable_memory=True), ("run_own_code", []))
    assert found == [42]
    assert protection.operation(Operation.EXECUTABLE_MEMORY).verdict is Verdict.GRANTED


async def test_nothing_is_granted(backend: str) -> None:
    """An empty policy gives no thread, no executable memory, no channel and no connection; calls still work."""
    others: list[tuple[str, list[Any]]] = [("start_a_thread", []), ("run_own_code", [])]
    others += [("make_a_channel", [kind]) for kind in ("pipe", "socket pair", "eventfd")]
    with greeter() as port:
        found, protection = await reach(backend, Policy(), ("connect", [port]), *others)
    engaged_by_report(protection, Layer.SECCOMP)
    assert found == ["EACCES", "RuntimeError: can't start new thread", "EACCES", "EACCES", "EACCES", "EACCES"]
    assert Operation.MAKE_THREAD in protection.enforced()


MOST = resource.getrlimit(resource.RLIMIT_NPROC)[1]
"""Threads of all children count, so the limit must leave room; and no limit is ever raised."""

LIMITS = Limits(
    memory=512 << 20,
    cpu=60,
    open_files=64,
    processes=20_000 if MOST == resource.RLIM_INFINITY else min(MOST, 20_000),
    file_size=1 << 20,
)
LIMITED = {
    "RLIMIT_AS": LIMITS.memory,
    "RLIMIT_CPU": LIMITS.cpu,
    "RLIMIT_NOFILE": LIMITS.open_files,
    "RLIMIT_NPROC": LIMITS.processes,
    "RLIMIT_FSIZE": LIMITS.file_size,
    "RLIMIT_CORE": 1,
}


async def test_limits_hold(backend: str) -> None:
    """Each limit is soft and hard the policy's; memory, fds and files over it are errors that the child outlives."""
    policy = Policy(threads=True, local_channels=True, limits=LIMITS)
    async with launch(PLUGIN, backend=backend, preload=PRELOAD, policy=policy) as host:
        assert host.protection is not None
        engaged_by_report(host.protection, Layer.RLIMITS)
        shown = (await host.call("works", returns=dict[str, Any]))["all_limits"]
        with pytest.raises(RemoteError) as caught:
            await host.call("allocates", 1 << 30)
        attempts: list[tuple[str, list[Any]]] = [("copy_fds_without_end", []), ("fill_a_memfd", [2 << 20])]
        found = await host.call("reach", attempts, returns=dict[str, Any])
        assert await host.call("add", 1) == 3
    assert {name: shown[name] for name in LIMITED} == {name: [value, value] for name, value in LIMITED.items()}
    assert caught.value.remote_type == "MemoryError"
    assert list(found.values()) == [64, "EFBIG"]
