"""What the host reads back, against processes whose confinement is known."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from belljar.ipc.errors import RemoteError
from belljar.sandbox import protection
from belljar.sandbox.errors import SandboxError
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Limits, Policy
from belljar.sandbox.protection.verify import Expectation
from belljar.sandbox.seccomp.answers import Rights
from belljar.sandbox.seccomp.compile import compile_policy

from ..helpers import CHANNEL_THREADS, launch, write_plugin


def expecting(*promised: Layer, policy: Policy | None = None) -> Expectation:
    """Return what a host expects of a child from which it was promised these layers, wholly."""
    policy = policy or Policy()
    return Expectation("a test", dict.fromkeys(promised, ""), policy, Rights.of(policy))


ONE_THREAD_ESCAPES = """
import ctypes, sys, threading
from belljar.sandbox import syscalls as sc
bpf = open(sys.argv[1], "rb").read()
threading.Thread(target=threading.Event().wait, daemon=True).start()
sc.prctl(38, 1)
sc.seccomp_set_filter(bpf, 0)
print("on", flush=True)
threading.Event().wait()
"""


def test_a_thread_without_the_filter_is_named(tmp_path: Path) -> None:
    """A filter on one thread only is no seccomp layer: the other thread is named."""
    filter_file = tmp_path / "filter"
    filter_file.write_bytes(compile_policy(Policy(threads=True), listener=False))
    argv = [sys.executable, "-I", "-c", ONE_THREAD_ESCAPES, str(filter_file)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as program:
        pidfd = os.pidfd_open(program.pid)
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == b"on\n"
            found = protection.verify(outer_pid=program.pid, pidfd=pidfd, expected=expecting(Layer.SECCOMP))
            short = found.shortfall()
            assert found.threads == 2
            assert short is not None
            assert (short.layer, short.thread is not None, short.thread != program.pid) == (Layer.SECCOMP, True, True)
        finally:
            program.kill()
            os.close(pidfd)


def test_an_ended_process_cannot_be_verified() -> None:
    """The numbers in /proc mean nothing once the process has ended."""
    with subprocess.Popen(["true"]) as program:
        pidfd = os.pidfd_open(program.pid)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
        with pytest.raises(SandboxError):
            protection.verify(outer_pid=program.pid, pidfd=pidfd, expected=expecting())
        os.close(pidfd)


@pytest.mark.anyio
async def test_every_promised_layer_is_engaged_on_every_thread(tmp_path: Path) -> None:
    """A child with threads from early init shows all layers for all of them."""
    warm = tmp_path / "warm.py"
    warm.write_text(
        "import threading\ndef threads():\n"
        "    for _ in range(8): threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    async with launch(early_init=(f"{warm}:threads",)) as host:
        assert host.protection is not None
        assert host.protection.threads == 9 + CHANNEL_THREADS
        assert host.protection.shortfall() is None
        assert host.protection.engaged() == frozenset(Layer) - {Layer.LANDLOCK}
        assert "engaged" in str(host.protection)


@pytest.mark.anyio
async def test_limits_are_read_back() -> None:
    """Each limit that the policy names is in the report."""
    limits = Limits(memory=1 << 30, cpu=30, open_files=64, file_size=1 << 20)
    async with launch(policy=Policy(threads=True, limits=limits)) as host:
        assert host.protection is not None
        rlimits = next(status for status in host.protection.layers if status.layer is Layer.RLIMITS)
        assert rlimits.engaged
        assert "cpu time 30" in rlimits.detail


@pytest.mark.anyio
async def test_named_paths_stay_and_nothing_else(tmp_path: Path) -> None:
    """A policy's read-only and read-write paths are in the child's root; writing obeys them; the rest is gone."""
    readable, writable = tmp_path / "readable", tmp_path / "writable"
    readable.mkdir()
    writable.mkdir()
    (readable / "file").write_text("content")
    source = """
        import os
        class Plug:
            def read(self, path: str) -> str: return open(path).read()
            def write(self, path: str) -> int: return open(path, "w").write("written")
            def names(self, path: str) -> list[str]: return os.listdir(path)
    """
    policy = Policy(read_only=(str(readable),), read_write=(str(writable),))
    async with launch(write_plugin(tmp_path, source), policy=policy) as host:
        assert await host.call("read", str(readable / "file")) == "content"
        assert await host.call("write", str(writable / "new")) == 7
        assert await host.call("names", "/") == [readable.parts[1]]
        for method, path in (("write", readable / "new"), ("read", Path("/etc/hostname")), ("write", Path("/new"))):
            with pytest.raises(RemoteError):
                await host.call(method, str(path))
    assert (writable / "new").read_text() == "written"
    assert not (readable / "new").exists()


SOFT_LIMIT_ONLY = """
import resource, threading
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
print("on", flush=True)
threading.Event().wait()
"""


def test_a_limit_that_can_be_raised_is_none() -> None:
    """A soft limit below a higher hard one is not engaged: the process itself may raise it."""
    with subprocess.Popen([sys.executable, "-I", "-c", SOFT_LIMIT_ONLY], stdout=subprocess.PIPE) as program:
        pidfd = os.pidfd_open(program.pid)
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == b"on\n"
            policy = Policy(limits=Limits(open_files=64))
            found = protection.verify(outer_pid=program.pid, pidfd=pidfd, expected=expecting(policy=policy))
            assert Layer.RLIMITS not in found.engaged()
        finally:
            program.kill()
            os.close(pidfd)


COMING_AND_GOING = """
import threading
print("on", flush=True)
while True:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
"""


def test_threads_that_end_meanwhile_are_no_error() -> None:
    """A thread that ends between being listed and being read is simply not there."""
    with subprocess.Popen([sys.executable, "-I", "-c", COMING_AND_GOING], stdout=subprocess.PIPE) as program:
        pidfd = os.pidfd_open(program.pid)
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == b"on\n"
            for _ in range(1000):
                protection.verify(outer_pid=program.pid, pidfd=pidfd, expected=expecting())
        finally:
            program.kill()
            os.close(pidfd)


@pytest.mark.anyio
@pytest.mark.parametrize(("require", "level"), [(("capabilities",), "WARNING"), ((), "INFO")])
async def test_a_layer_that_is_partly_there_is_said_aloud(
    require: tuple[str, ...], level: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A limit of a layer stands in the log, as a warning where the layer was asked for by name, and in the report."""
    caplog.set_level("INFO", "belljar.host")
    run_as = "nobody" if os.geteuid() == 0 else ""  # without CAP_SETPCAP the bounding set stays full
    async with launch(backend="seccomp", require=require, run_as=run_as) as host:
        assert host.protection is not None
        status = host.protection.layer(Layer.CAPABILITIES)
    said = [record.levelname for record in caplog.records if "capabilities is only partly there" in record.getMessage()]
    assert (status.mark, said) == ("partly", [level])
