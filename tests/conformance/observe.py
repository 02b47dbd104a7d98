"""One child for many tests: it shows all its habits once, and is looked at from outside meanwhile.

The tests then only compare, so a behaviour costs a comparison and not a launch. Whether a refusal may be missing is
asked of the child's own protection report, which is so under test itself: `refused_by_report` skips a test with the
report's words, and nothing else does.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from belljar.host.process_host import ProcessHost
from belljar.ipc.errors import RemoteError
from belljar.sandbox.backends import host_half
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Policy
from belljar.sandbox.policy_check import dangers
from belljar.sandbox.probe import probe
from belljar.sandbox.protection import Operation, Protection, Verdict

from ..helpers import guard_of, launch, open_fds

PLUGIN = "behaves:Behaves"

PRELOAD = (
    *("asyncio", "base64", "concurrent.futures", "ctypes", "datetime", "decimal", "fcntl", "gc", "hashlib", "json"),
    *("locale", "logging", "math", "mmap", "platform", "random", "re", "resource", "secrets", "select", "signal"),
    *("socket", "ssl", "statistics", "struct", "subprocess", "tempfile", "threading", "traceback", "uuid", "zlib"),
    *("zoneinfo",),
)
"""What the plugin imports: it is loaded after the seal."""


@dataclass(frozen=True)
class Outside:
    """What /proc says of a child: the fields of status and stat, its fds, its working directory."""

    status: dict[str, str]
    session: int
    terminal: int
    fds: dict[str, str]
    cwd: str


@dataclass
class Seen:
    """What one child did, what it was refused, and what the host saw of it."""

    backend: str
    folder: Path
    works: dict[str, Any] = field(default_factory=dict)
    tries: dict[str, Any] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    errors: dict[str, RemoteError] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    child_pid: int = 0
    launched_pid: int = 0
    claimed_pid: int = 0
    guard_session: int = 0
    protection: Protection = field(default_factory=lambda: Protection((), 0))
    outside: Outside = Outside({}, 0, 0, {}, "")


def able(backend: str, policy: Policy) -> None:
    """Skip, with the backend's own words, if *backend* cannot give what *policy* grants without giving more."""
    if why := host_half(backend).unable(policy, probe()):
        pytest.skip(f"{backend} refuses this policy: {why}")


async def once(plugin: str, **fields: Any) -> Protection:
    """Launch a child, let it go, and return its report: for launches that are expected to fail."""
    return await ended(launch(plugin, **fields))


async def ended(host: ProcessHost) -> Protection:
    """Launch *host*, let it go, and return its report."""
    async with host:
        pass
    assert host.protection is not None
    return host.protection


def dangerous(**fields: Any) -> Policy:
    """Return a policy with rights that weaken a seal most, each with its token."""
    return Policy(**fields, danger=tuple(dangers(Policy(**fields))))


def refused_by_report(protection: Protection, operation: Operation) -> None:
    """Skip, with the report's words, if it does not say that *operation* is enforced."""
    status = protection.operation(operation)
    if status.verdict is not Verdict.ENFORCED:
        pytest.skip(f"{protection.backend} does not enforce it: {operation}: {status.verdict} {status}".rstrip())


def engaged_by_report(protection: Protection, layer: Layer) -> None:
    """Skip, with the report's words, if it does not say that *layer* is engaged; a promised one that is not fails."""
    status = protection.layer(layer)
    if not status.engaged and not status.promised:
        pytest.skip(f"{protection.backend} does not enforce it: {layer}: {status.detail}")
    assert status.engaged


@functools.cache
def see(backend: str, loop: str) -> Seen:
    """Launch a child under *backend* from the event loop *loop*, and return all that can be seen of it."""
    with tempfile.TemporaryDirectory() as folder, _listening(Path(folder)), _records() as log:
        seen = Seen(backend, Path(folder), log=log)
        anyio.run(_observe, seen, backend=loop)
        seen.left = set(os.listdir(folder))
    return seen


@contextmanager
def _listening(folder: Path) -> Iterator[None]:
    """Fill the folder that the child shall not touch, and listen on a path in it and on an abstract name."""
    for name in ("file", "other", "third"):
        (folder / name).write_text("content")
    with socket.socket(socket.AF_UNIX) as named, socket.socket(socket.AF_UNIX) as abstract:
        named.bind(str(folder / "socket"))
        abstract.bind(b"\0belljar-conformance")
        named.listen()
        abstract.listen()
        yield


@contextmanager
def _records() -> Iterator[list[tuple[str, str]]]:
    """Yield the list to which each record of belljar's loggers is added, as its logger and its text."""
    found: list[tuple[str, str]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append((record.name, record.getMessage()))

    logger, handler = logging.getLogger("belljar"), Handler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


async def _observe(seen: Seen) -> None:
    async with launch(PLUGIN, backend=seen.backend, preload=PRELOAD) as host:
        _look(seen, host)
        seen.works = await host.call("works", returns=dict[str, Any])
        seen.tries = await host.call("tries", str(seen.folder), os.getpid(), returns=dict[str, Any], timeout=30)
        await host.call("say")
        for method in ("raises", "recurses", "imports_late", "fails_in_the_kernel"):
            try:
                await host.call(method)
            except RemoteError as error:
                seen.errors[method] = error
        seen.works["answer after all of it"] = await host.call("add", 1, 2, returns=int)


def _look(seen: Seen, host: ProcessHost) -> None:
    assert host.child_pid is not None
    assert host.protection is not None
    seen.child_pid, seen.launched_pid, seen.claimed_pid = host.child_pid, host.launched_pid or 0, host.claimed_pid or 0
    seen.guard_session = os.getsid(guard_of(os.getpid()))
    seen.protection = host.protection
    seen.outside = outside(host.child_pid)


def outside(pid: int) -> Outside:
    """Return what /proc says of *pid*. See proc_pid_stat(5): after the name come state, ppid, pgrp, session, tty."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Outside(status, int(stat[3]), int(stat[4]), open_fds(pid), os.readlink(f"/proc/{pid}/cwd"))


@functools.cache
def fresh_import_path() -> list[str]:
    """Return the import path of ``python -I``."""
    argv = [sys.executable, "-I", "-c", "import sys; print('\\n'.join(sys.path))"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
