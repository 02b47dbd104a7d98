"""What was left against what was declared: nothing is missed, and what is offered to paste allows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.host.plan.at_seal import Seen, at_seal, look
from belljar.host.plan.compare import observed, undeclared, unseen
from belljar.ipc.messages import Fd, Left
from belljar.sandbox.declaration import FD_KINDS, Leaves

names = st.text(st.characters(codec="utf-8"), max_size=15)
lefts = st.builds(
    Left,
    threads=st.dictionaries(names | st.sampled_from(["pool-1", "pool-2", "[x]", "*", "a?"]), st.integers(1, 9)),
    fds=st.lists(st.builds(Fd, kind=st.sampled_from(FD_KINDS), what=names)).map(tuple),
    executable_memory=st.integers(0, 1 << 40),
    environment=st.lists(names).map(tuple),
    signals=st.lists(st.sampled_from(["SIGSEGV caught", "SIGUSR1 ignored", ""])).map(tuple),
)
leaves = st.builds(
    Leaves,
    threads=st.lists(names | st.sampled_from(["*", "pool-*", "["])).map(tuple),
    fds=st.lists(st.sampled_from(FD_KINDS)).map(tuple),
    executable_memory=st.booleans(),
    environment=st.lists(names).map(tuple),
    signals=st.lists(st.sampled_from(["SIGSEGV", "SIGUSR1"])).map(tuple),
)


@given(lefts, leaves)
def test_what_is_observed_is_then_declared(left: Left, declared: Leaves) -> None:
    """Whatever a step left, and whatever its threads are called: the leaves that are offered allow it."""
    offered = msgspec.convert(observed(left, declared), Leaves)
    assert undeclared(left, offered) is None
    assert set(declared.threads) <= set(offered.threads)
    assert set(declared.fds) <= set(offered.fds)


@pytest.mark.parametrize(
    ("left", "declared", "words", "sentence"),
    [
        (Left(threads={"a": 2, "b": 1}), Leaves(threads=("b",)), {"threads": ["a"]}, "threads a (2)"),
        (
            Left(threads={"llvmpipe-0": 1, "llvmpipe-1": 1, "gl-3": 1}),
            Leaves(),
            {"threads": ["gl-3", "llvmpipe-*"]},
            "threads llvmpipe-0 (1), llvmpipe-1 (1), gl-3 (1)",
        ),
        (Left(threads={"a*": 1}), Leaves(), {"threads": ["a[*]"]}, "threads a* (1)"),
        (
            Left(fds=(Fd("socket", "socket:[7]"), Fd("file", "/etc/hosts"))),
            Leaves(fds=("file",)),
            {"fds": ["socket"]},
            "fds socket socket:[7]",
        ),
        (Left(fds=(Fd("a lie", "x"),)), Leaves(), {"fds": ["other"]}, "fds a lie x"),
        (
            Left(executable_memory=4096),
            Leaves(),
            {"executable_memory": True},
            "4KiB of executable memory",
        ),
        (
            Left(environment=("HOME", "LANG"), signals=("SIGSEGV caught", "SIGUSR1 ignored")),
            Leaves(environment=("L*",), signals=("SIGSEGV",)),
            {"environment": ["HOME"], "signals": ["SIGUSR1"]},
            "changed variables HOME; signals SIGUSR1 ignored",
        ),
    ],
)
def test_what_is_not_declared_is_named(left: Left, declared: Leaves, words: dict[str, Any], sentence: str) -> None:
    """Each kind by its words for TOML, and in a sentence with numbers."""
    found = undeclared(left, declared)
    assert found is not None
    assert (found.leaves, found.sentence) == (words, sentence)


def test_what_was_not_seen_is_no_difference() -> None:
    """A declaration may allow what only another machine leaves; it is said, and nothing more."""
    declared = Leaves(("a-*", "b"), ("file", "socket"), True, ("X", "Y"), ("SIGSEGV", "SIGUSR1"))
    left = Left({"a-1": 1}, (Fd("file", "x"),), 0, ("X",), ("SIGUSR1 ignored",))
    assert undeclared(left, declared) is None
    assert unseen(left, declared) == {
        "threads": ["b"],
        "fds": ["socket"],
        "executable_memory": True,
        "environment": ["Y"],
        "signals": ["SIGSEGV"],
    }
    assert unseen(Left(), Leaves()) == {}


def test_at_the_seal_only_surprises_are_told() -> None:
    """What was there before, what a step declares, and what it has reported are none."""
    before = Seen({}, {(3, "socket:[1]"): "socket"})
    after = Seen(
        {11: "declared-1", 12: "reported", 13: "late"},
        {(3, "socket:[1]"): "socket", (4, "pipe:[2]"): "pipe", (5, "/x"): "file", (6, "socket:[9]"): "socket"},
    )
    reported = [Left(threads={"reported": 1}, fds=(Fd("file", "/x"),))]
    found = at_seal(before, after, [Leaves(threads=("declared-*",)), Leaves(fds=("pipe",))], reported)
    assert found.left.threads == {"declared-1": 1, "reported": 1, "late": 1}
    assert [fd.kind for fd in found.left.fds] == ["pipe", "file", "socket"]
    assert found.undeclared is not None
    assert found.undeclared.sentence == "threads late (1); fds socket socket:[9]"
    assert at_seal(after, after, [], []).undeclared is None


def test_a_look_sees_threads_and_fds_of_another_process(tmp_path: Path) -> None:
    """Threads but for the first by name, fds by kind."""
    code = (
        "import sys, threading\n"
        "file, wait = open(sys.argv[1], 'w'), threading.Event().wait\n"
        "threading.Thread(target=wait, daemon=True).start()\n"
        "print('ready', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "file")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        found = look(program.pid)
        program.communicate()
    assert len(found.threads) == 1
    assert program.pid not in found.threads
    kinds = {what: kind for (_, what), kind in found.fds.items()}
    assert kinds[str(tmp_path / "file")] == "file"
    assert sorted(kind for (number, _), kind in found.fds.items() if number < 2) == ["pipe", "pipe"]
