"""What several tests share: process types of tests/children, processes below one, what a block leaves behind."""

from __future__ import annotations

import functools
import gc
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from belljar.host.config.place import Place
from belljar.host.config.process_type import Process
from belljar.host.plan.plan import make_plan
from belljar.host.process_host import ProcessHost
from belljar.ipc.credentials import Credentials
from belljar.ipc.messages import RunStep
from belljar.ipc.pidfds import ancestors
from belljar.sandbox.backends import host_half, names
from belljar.sandbox.landlock import ALL_THREADS_ABI
from belljar.sandbox.policy import Policy
from belljar.sandbox.probe import explain, probe
from belljar.sandbox.user import User

CHILDREN = Path(__file__).parent / "children"

SOON = 1.0
"""Seconds within which a process must have ended after whatever should end it."""

CHANNEL = os.environ.get("BELLJAR_CHANNEL", "socket")
"""The channel of tests that do not care: ``BELLJAR_CHANNEL=zmq scripts/test`` runs them over the other one."""

CHANNEL_THREADS = 2 if CHANNEL == "zmq" else 0
"""Threads of a child that are its channel's: libzmq has one for I/O and one that closes sockets."""

MUST_WORK = os.environ.get("BELLJAR_MUST_WORK", "")

on_both = pytest.mark.parametrize("backend", ["namespaces", "none"])
on_all = pytest.mark.parametrize("backend", names())


def process(plugin: str = "plain.py:Plain", **fields: Any) -> Process:
    """Return a process type of a plugin in tests/children, which may start threads but do little else.

    Root's children stay root: pytest's folders are closed to others, and scripts/test runs all once more as nobody.
    """
    run_as = "root" if os.geteuid() == 0 else ""
    policy = fields.get("policy", Policy.compute())
    channel = CHANNEL if _goes_with_threads(fields.get("backend", ""), policy) else "socket"
    own = {"plugin": str(CHILDREN / plugin), "policy": policy, "run_as": run_as, "channel": channel}
    return Process(**{**own, **fields})


def _goes_with_threads(backend: str, policy: Policy) -> bool:
    """Whether early init may leave threads, as the channel zmq does: not where landlock alone tells files apart."""
    named = policy.read_only or policy.read_write or policy.devices
    return not named or backend not in ("bubblewrap", "landlock") or probe().landlock_abi >= ALL_THREADS_ABI


only_over_socket = pytest.mark.skipif(CHANNEL != "socket", reason="counts what early init leaves, with the socket")


def launch(plugin: str = "plain.py:Plain", **fields: Any) -> ProcessHost:
    """Return a host for `process`, not entered yet."""
    return ProcessHost(process(plugin, **fields))


def preloaded(*modules: str) -> tuple[RunStep, ...]:
    """Return what a zygote is told to run that shall import *modules*."""
    return make_plan(modules, (), Path("/"), Place("a test")).shared


def require(backend: str, user: User | None = None) -> None:
    """Fail if *backend* does not work here and ``BELLJAR_MUST_WORK`` names it; skip, saying why, if it does not."""
    missing = explain(probe(user).missing(host_half(backend).requires))
    if missing and backend in MUST_WORK.split(","):
        pytest.fail(f"BELLJAR_MUST_WORK names {backend}, which does not work here: {missing}")
    if missing:
        pytest.skip(f"{backend} does not work here: {missing}")


@functools.cache
def _graphics_trouble() -> str:
    kind = "standalone=True, backend='egl', libgl='libEGL.so.1', libegl='libEGL.so.1'"
    code = f"import moderngl; moderngl.create_context({kind})"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


def require_graphics() -> None:
    """The same of an OpenGL context without a window: a test that needs one fails or skips where there is none."""
    trouble = _graphics_trouble()
    if trouble and "graphics" in MUST_WORK.split(","):
        pytest.fail(f"BELLJAR_MUST_WORK names graphics, which does not work here: {trouble}")
    if trouble:
        pytest.skip(f"graphics does not work here: {trouble} (scripts/setup --graphics)")


def write_plugin(folder: Path, source: str, *, name: str = "written") -> str:
    """Write a plugin of a few lines, and return what ``Process.plugin`` calls its class ``Plug``."""
    path = folder / f"{name}.py"
    path.write_text(dedent(source))
    return f"{path}:Plug"


def children_of(pid: int) -> list[int]:
    """Return the pids that all threads of *pid* have forked, zombies included; none if it is gone."""
    found: list[int] = []
    try:
        for tid in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{tid}/children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return found
    return found


def descendants(pid: int) -> list[int]:
    """Return the pids below *pid*, nearest first, zombies included."""
    found = children_of(pid)
    for child in found:
        found += children_of(child)
    return found


def command(pid: int) -> str:
    """Return the command line of *pid*, empty for a zombie."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def guard_of(pid: int) -> int:
    """Return the pid of the guard of the host *pid*."""
    return next(child for child in children_of(pid) if "belljar.sandbox.launch.guard" in command(child))


PROCESSES = {
    "namespaces": ("child", "zygote", "init", "helper", "guard", "host"),
    "chrome-sandbox": ("child", "launched", "guard", "host"),
    "bubblewrap": ("child", "inner", "launched", "guard", "host"),
    "landlock": ("child", "zygote", "guard", "host"),
    "seccomp": ("child", "zygote", "guard", "host"),
    "none": ("child", "guard", "host"),
}
"""What stands between a child and its host, by backend, the child first."""


def process_tree(backend: str, child_pid: int) -> dict[str, int]:
    """Return the pids of `PROCESSES` by their names."""
    tree = dict(zip(PROCESSES[backend], ancestors(child_pid), strict=False))
    assert "belljar.sandbox.launch.guard" in command(tree["guard"])
    return tree


@contextmanager
def running_host(backend: str, work: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run tests/children/host_program.py; yield it and the pid of its child."""
    argv = [sys.executable, str(CHILDREN / "host_program.py"), backend, work]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        try:
            assert program.stdout is not None
            yield program, int(program.stdout.readline())
        finally:
            program.kill()


@contextmanager
def held(pids: Iterable[int]) -> Iterator[dict[int, int]]:
    """Yield a pidfd for each of *pids*, so that no number can come to mean another process."""
    pidfds = {pid: os.pidfd_open(pid) for pid in pids}
    try:
        yield pidfds
    finally:
        for pidfd in pidfds.values():
            os.close(pidfd)


def await_end(pidfds: Mapping[int, int], seconds: float = SOON) -> None:
    """Block until each process has ended; fail with the command lines of those that have not."""
    poll = select.poll()
    waiting = {pidfd: pid for pid, pidfd in pidfds.items()}
    for pidfd in waiting:
        poll.register(pidfd, select.POLLIN)
    deadline = time.monotonic() + seconds
    while waiting:
        ended = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ended:
            pytest.fail(f"after {seconds:g} s there is still {[command(pid) for pid in waiting.values()]}")
        for pidfd, _ in ended:
            poll.unregister(pidfd)
            del waiting[pidfd]


def open_fds(pid: int | str = "self") -> dict[str, str]:
    """Return what each fd of a process is, without the one that this look itself needs."""
    found: dict[str, str] = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[fd] = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
    return found


def resident(pid: int | str = "self") -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def footprint() -> list[list[str]]:
    """Return the fds of this process and of each below it, sorted: a zygote's spare is another one each time."""
    pids: list[int | str] = ["self", *descendants(os.getpid())]
    return sorted(sorted(kind.split(":")[0] for kind in open_fds(pid).values()) for pid in pids)


def _warm_channel() -> None:
    """Have the context of this process, which stays."""
    if CHANNEL == "zmq":
        from belljar.ipc.channel.zmq_ends import Meeting

        with closing(Meeting()) as meeting:
            meeting.open(Credentials(os.getpid(), os.geteuid(), os.getegid()))


@contextmanager
def nothing_left(backend: str = "namespaces", preload: tuple[str, ...] = ()) -> Iterator[None]:
    """Fail unless the block leaves the processes below this one, and the fds of each, as they were."""
    host_half(backend).warm(preloaded(*preload), User.current())
    _warm_channel()
    gc.collect()  # what holds an fd in a cycle is garbage of an earlier test
    before: list[list[str]] = footprint()
    settling: list[list[str]] = []
    while before != settling:  # an earlier test's zygotes may still be busy with a new spare
        before, settling = footprint(), before
    yield
    if footprint() != before:
        gc.collect()
    deadline = time.monotonic() + SOON
    while (after := footprint()) != before and time.monotonic() < deadline:
        os.sched_yield()  # a zygote's new spare is closing what it inherited
    assert after == before
