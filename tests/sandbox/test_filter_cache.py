"""Compiled filters on disk: nothing that others could have written, or that is damaged, is ever used."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from belljar.sandbox.policy import Policy
from belljar.sandbox.seccomp import cache
from belljar.sandbox.seccomp.answers import Rights
from belljar.sandbox.seccomp.rules import rules_for

PROGRAM = bytes(range(64))
OTHER_UID = 12345
RULES = rules_for(Rights.of(Policy.media()))

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

COMPILE = """
import sys
from belljar.sandbox.policy import Policy
from belljar.sandbox.seccomp.compile import compile_policy, is_compiled
assert not is_compiled(Policy.media(), listener=True)
program = compile_policy(Policy.media(), listener=True)
assert is_compiled(Policy.media(), listener=True) and compile_policy(Policy.media(), listener=True) is program
print("pyseccomp" in sys.modules, program.hex())
"""

WRITE_AND_READ = """
import sys
from belljar.sandbox.seccomp import cache
key, mine, other = sys.argv[1], *(bytes([int(n)]) * 32000 for n in sys.argv[2:])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(300):
    cache.store(key, mine)
    assert cache.load(key) in (mine, other)
"""


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own cache out of it."""
    chosen = tmp_path / "caches"
    monkeypatch.setenv("XDG_CACHE_HOME", str(chosen))
    return chosen


@pytest.fixture
def key() -> str:
    """Return the key of an entry that is there."""
    made = cache.key_of(RULES, listener=False)
    assert made is not None
    cache.store(made, PROGRAM)
    assert cache.load(made) == PROGRAM
    return made


def compile_in_a_process() -> tuple[bool, bytes]:
    """Compile the media policy elsewhere; tell whether that took libseccomp, and the program."""
    ended = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, check=True)
    built, program = ended.stdout.split()
    return built == "True", bytes.fromhex(program)


def test_second_process_does_not_compile(base: Path) -> None:
    """What one process compiled the next one reads, without importing pyseccomp."""
    built, program = compile_in_a_process()
    assert built
    assert compile_in_a_process() == (False, program)
    assert base.stat().st_mode & 0o777 == 0o700
    assert (base / "belljar").stat().st_mode & 0o777 == 0o700
    assert [entry.stat().st_mode & 0o777 for entry in (base / "belljar").iterdir()] == [0o600]


def test_damaged_entry_is_rebuilt(base: Path) -> None:
    """A process that finds a damaged entry compiles, and leaves a whole one."""
    _, program = compile_in_a_process()
    [entry] = (base / "belljar").iterdir()
    content = bytearray(entry.read_bytes())
    content[-1] ^= 1
    entry.write_bytes(content)
    assert compile_in_a_process() == (True, program)
    assert compile_in_a_process() == (False, program)


def test_key_depends_on_all_that_the_program_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other rules, a listener and another machine have other keys; the same rules have the same."""
    keys = [cache.key_of(RULES, listener=False), cache.key_of(RULES, listener=True), cache.key_of({}, listener=False)]
    assert cache.key_of(rules_for(Rights.of(Policy.media())), listener=False) == keys[0]
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "here", "6", "1", "mips")))
    assert len({*keys, cache.key_of(RULES, listener=False)}) == 4


def truncate(entry: Path) -> None:
    os.truncate(entry, entry.stat().st_size // 2)


def empty(entry: Path) -> None:
    os.truncate(entry, 0)


def lengthen(entry: Path) -> None:
    entry.write_bytes(entry.read_bytes() + bytes(8))


def bloat(entry: Path) -> None:
    os.truncate(entry, 1 << 30)


def flip(entry: Path) -> None:
    content = bytearray(entry.read_bytes())
    content[40] ^= 1
    entry.write_bytes(content)


def link(entry: Path) -> None:
    entry.rename(entry.parent / "elsewhere")
    entry.symlink_to("elsewhere")


def make_fifo(entry: Path) -> None:
    entry.unlink()
    os.mkfifo(entry)


def open_to_group(entry: Path) -> None:
    entry.chmod(entry.stat().st_mode | 0o020)


def give_away(entry: Path) -> None:
    os.chown(entry, OTHER_UID, -1)


SPOILERS = [
    truncate,
    empty,
    lengthen,
    bloat,
    flip,
    link,
    make_fifo,
    open_to_group,
    pytest.param(give_away, marks=as_root),
]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_spoilt_entry_is_not_used_and_is_replaced(spoil: Callable[[Path], None], base: Path, key: str) -> None:
    """An entry that is damaged, of another kind, of another owner or open to others is as good as none."""
    spoil(base / "belljar" / key)
    assert cache.load(key) is None
    cache.store(key, PROGRAM)
    assert cache.load(key) == PROGRAM


def test_entry_under_another_name_is_not_used(base: Path, key: str) -> None:
    """A whole entry that was renamed is damaged: it would be the wrong filter."""
    other = "0" * len(key)
    (base / "belljar" / key).rename(base / "belljar" / other)
    assert cache.load(other) is None


def test_folder_in_the_way_of_an_entry_is_survived(base: Path, key: str) -> None:
    """What cannot be replaced costs the entry only, and leaves no litter."""
    (base / "belljar" / key).unlink()
    (base / "belljar" / key).mkdir()
    cache.store(key, PROGRAM)
    assert cache.load(key) is None
    assert os.listdir(base / "belljar") == [key]


@pytest.mark.parametrize("which", ["base", "folder"])
@pytest.mark.parametrize("spoil", [open_to_group, link, pytest.param(give_away, marks=as_root)])
def test_spoilt_folder_is_not_used(which: str, spoil: Callable[[Path], None], base: Path, key: str) -> None:
    """A folder that is a link, of another owner or open to others is neither read nor written."""
    spoil(base if which == "base" else base / "belljar")
    assert cache.load(key) is None
    cache.store("1" * len(key), PROGRAM)
    assert not (base / "belljar" / ("1" * len(key))).exists()


@pytest.mark.parametrize("home", ["", "relative", "/nonexistent", "/proc"])
def test_unusable_home_means_memory_only(home: str, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Without a home of ours nothing is kept on disk, and nothing fails."""
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", home)
    cache.store(key, PROGRAM)
    assert cache.load(key) is None


def test_home_is_used_if_it_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries go to ~/.cache, which is made if it is not there, unless others can write to the home."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    tmp_path.chmod(0o770)
    cache.store("k", PROGRAM)
    assert not (tmp_path / ".cache").exists()
    tmp_path.chmod(0o755)
    cache.store("k", PROGRAM)
    assert (tmp_path / ".cache" / "belljar" / "k").exists()


def test_unusable_folder_is_said_once(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What keeps the cache from working stands in the log, once."""
    base.mkdir(0o700)
    base.chmod(0o777)
    caplog.set_level(logging.INFO, "belljar.sandbox")
    for _ in range(3):
        cache.load("k")
        cache.store("k", PROGRAM)
    assert [record.getMessage() for record in caplog.records] == [
        f"filter cache: filters are kept in memory only: {base} is open to others (mode 0777)"
    ]


def test_two_processes_write_at_once(base: Path) -> None:
    """Readers see one writer's entry or the other's, never a mix, and no half-written file stays."""
    base.mkdir(0o700)
    cache.store("shared", b"\1" * 32000)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE_AND_READ, "shared", mine, other],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for mine, other in (("1", "2"), ("2", "1"))
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n", timeout=30)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert os.listdir(base / "belljar") == ["shared"]
