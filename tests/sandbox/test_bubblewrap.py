"""What bwrap says becomes our error, and only the process that it says it started is believed to be its child."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from belljar.host.errors import LaunchError
from belljar.sandbox.backends.bubblewrap import HostSide, Status, step_of
from belljar.sandbox.errors import BackendUnavailable
from belljar.sandbox.policy import Policy
from belljar.sandbox.probe import probe
from belljar.sandbox.programs import BWRAP, find

from ..helpers import launch, nothing_left


@pytest.fixture
def bwrap() -> str:
    """The program; skips where there is none or it does not work."""
    if not probe().results["bwrap"].works:
        pytest.skip(probe().results["bwrap"].cause)
    try:
        return find(BWRAP)
    except BackendUnavailable as error:
        pytest.skip(str(error))


def said_by(*argv: str) -> str:
    """Return the line with which bwrap fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr.strip().removeprefix("bwrap: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--ro-bind", "/nonexistent", "/x", "--", "true"], ("show a path of the policy", errno.ENOENT)),
        (["--bind", "/", "/", "--ro-bind", "/etc/hostname", "/proc/x", "true"], None),
        (["--nonsense"], None),
        (["--ro-bind", "/", "/", "/nonexistent"], None),
    ],
)
def test_a_real_failure_is_a_step(bwrap: str, arguments: list[str], expected: tuple[str, int] | None) -> None:
    """A line that bwrap really says is read as step and errno where a hint can help, and else left as it is."""
    assert step_of(said_by(bwrap, *arguments)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("No permissions to create new namespace, likely because", ("make a user namespace", errno.EPERM)),
        ("Creating new namespace failed: Resource temporarily unavailable", ("make a user namespace", errno.EAGAIN)),
        (
            "Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces exceeded (ENOSPC)",
            ("make a user namespace", errno.ENOSPC),
        ),
        (
            "Creating new namespace failed, likely because the kernel does not support user namespaces.",
            ("make a user namespace", errno.EINVAL),
        ),
        ("setting up uid map: Permission denied", ("write uid_map", errno.EACCES)),
        ("Can't mount proc on /newroot/proc: Operation not permitted", ("mount /proc", errno.EPERM)),
        ("loopback: Failed RTM_NEWADDR: Operation not permitted", ("use a capability", errno.EPERM)),
        ("Can't fork for pid 1: Resource temporarily unavailable", ("fork", errno.EAGAIN)),
        ("something else", None),
        ("", None),
    ],
)
def test_known_lines_of_other_machines(line: str, expected: tuple[str, int] | None) -> None:
    """Lines that this machine does not provoke are read as well."""
    assert step_of(line) == expected


def test_a_path_that_is_gone_is_bwraps_error_and_ours(bwrap: str) -> None:
    """The launch's error is what bwrap said, with what to do; no process is left."""

    async def refused() -> str:
        with nothing_left("bubblewrap"), pytest.raises(LaunchError) as caught:
            await launch(backend="bubblewrap", policy=Policy(read_only=("/nonexistent/x",))).__aenter__()
        return str(caught.value)

    said = anyio.run(refused)
    assert said.startswith("stage 2 (launch): bwrap could not start the child: Can't find source path /nonexistent/x")
    assert "a path of the policy does not exist" in said
    assert "correct it in the policy" in said


def test_an_older_bwrap_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bwrap that lacks an option says so, and the remedy is the version that has it."""
    older = tmp_path / "bwrap"
    older.write_text("#!/bin/sh\necho 'bwrap: Unknown option --disable-userns' >&2\nexit 1\n")
    older.chmod(0o755)
    monkeypatch.setenv("BELLJAR_BWRAP", str(older))
    found = probe(refresh=True).results["bwrap"]
    monkeypatch.undo()
    probe(refresh=True)
    assert found.cause == f"{older} is too old: Unknown option --disable-userns"
    assert found.remedy == "install bubblewrap 0.8.0 or newer"


@pytest.fixture
def status() -> Iterator[tuple[Status, int]]:
    """What the host knows of a bwrap, and the end on which bwrap writes."""
    reader, writer = os.pipe()
    made = Status(reader)
    yield made, writer
    made.close()
    os.close(writer)


@pytest.fixture
def child() -> Iterator[int]:
    """A process below this one."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_the_child_of_the_process_that_bwrap_named(status: tuple[Status, int], child: int) -> None:
    """The sender's launcher must be the one that bwrap calls its child."""
    made, writer = status
    os.write(writer, json.dumps({"child-pid": os.getpid(), "cgroup-namespace": 1}).encode() + b"\n{}\n")
    assert made.confirm(child) == ""


@pytest.mark.parametrize("named", ["the sender itself", "a grandparent", "pid 1", "nobody"])
def test_another_sender_is_not_believed(status: tuple[Status, int], child: int, named: str) -> None:
    """A sender that is bwrap's own child, or deeper or elsewhere, is not the one that was launched."""
    made, writer = status
    wrong = {"the sender itself": child, "a grandparent": os.getppid(), "pid 1": 1, "nobody": 2**30}[named]
    os.write(writer, json.dumps({"child-pid": wrong}).encode())
    assert made.confirm(child) == f"its launcher is [{os.getpid()}] instead of {wrong}, which bwrap started"


@pytest.mark.parametrize(
    "said", [b"", b"{}", b"[]", b"nonsense", b'{"child-pid": "x"}', b'{"child-pid": null}', b"\xff"]
)
def test_a_bwrap_that_does_not_say_it_is_not_believed(status: tuple[Status, int], child: int, said: bytes) -> None:
    """Without a pid from bwrap nothing confirms the sender."""
    made, writer = status
    os.write(writer, said)
    assert made.confirm(child).startswith("bwrap did not say which process it started: ")


@pytest.mark.parametrize(
    ("exit_code", "expected"), [(0, 0), (7, 7), (127, 127), (128, 128), (137, -9), (139, -11), (250, 250)]
)
def test_how_a_child_ended_behind_bwrap(exit_code: int, expected: int) -> None:
    """bwrap's exit code is the child's, or 128 and its signal."""
    status = HostSide().child_status(exit_code << 8)
    assert status is not None
    assert os.waitstatus_to_exitcode(status) == expected
