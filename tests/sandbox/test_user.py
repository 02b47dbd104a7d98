"""Whom a child runs as: names and numbers that are understood, and users that cannot be or cannot read."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from belljar import LaunchError, Policy, Process, ProcessHost, Stage
from belljar.sandbox.errors import SandboxError
from belljar.sandbox.user import User, closed_to, resolve_user

IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="only root becomes another user")
ROOT = Path(__file__).parents[2]
OTHER = User(12345, 12345)
PLUGIN = f"{ROOT}/tests/children/plain.py:Plain"

ASK_BY_ANOTHER_NAME = """
import sys
sys.path[:0] = sys.argv[1:]
from belljar.sandbox.user import closed_to, resolve_user
print(closed_to(resolve_user("")))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that all may enter: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_by_default_root_becomes_nobody_and_others_stay() -> None:
    """Without a word, root's children are nobody's, and everybody else's are their own."""
    default = resolve_user("")
    if IS_ROOT:
        entry = pwd.getpwnam("nobody")
        assert (default.uid, default.gid) == (entry.pw_uid, entry.pw_gid)
    else:
        assert default == User.current()


def test_the_own_user_can_be_named() -> None:
    """The own name, or the own numbers, mean this very process, its groups included."""
    assert resolve_user(f"{os.geteuid()}:{os.getegid()}") == User.current()
    assert resolve_user(pwd.getpwuid(os.geteuid()).pw_name) == User.current()


@as_root
def test_root_stays_root_only_by_that_word() -> None:
    """``root`` is a user like any other, who has to be named."""
    assert resolve_user("root").is_root
    assert not resolve_user("").is_root


@as_root
def test_numbers_need_no_entry() -> None:
    """UID:GID means these two and no further group, whether anybody has them or not."""
    assert resolve_user("31234:31235") == User(31234, 31235, ())


@pytest.mark.skipif(IS_ROOT, reason="root may become anybody")
@pytest.mark.parametrize("other", ["root", "0:0", "31234:31235"])
def test_others_stay_themselves(other: str) -> None:
    """Who is not root cannot run children as another user, and reads why."""
    with pytest.raises(SandboxError, match=f"run_as = '{other}': only root can become another user, and this host has"):
        resolve_user(other)


@pytest.mark.parametrize(
    "text", ["no such user", "31234", ":", "1:", ":1", "-1:0", "1:4294967295", "1:2:3", "a\0b", "²:²"]
)
def test_what_names_nobody_is_refused(text: str) -> None:
    """Half a pair, a number beyond the kernel's and an unknown name are one sentence that says what is expected."""
    with pytest.raises(SandboxError, match=r"there is no such user \(expected a user's name, or UID:GID as"):
        resolve_user(text)


def test_nothing_is_closed_to_oneself() -> None:
    """The own user runs this Python already."""
    assert closed_to(User.current()) == ""


@as_root
def test_a_python_in_a_closed_folder_is_named(tmp_path: Path) -> None:
    """An interpreter in a folder that is closed to the child's user is refused, with that folder and remedies."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "python").symlink_to(os.path.realpath(sys.executable))
    tmp_path.chmod(0o755)
    argv = [str(closed / "python"), "-S", "-c", ASK_BY_ANOTHER_NAME, str(ROOT), *sys.path]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert said.startswith("children run as uid ")
    assert "who may not use /" in said
    assert "(mode 0700), where this Python lives" in said
    assert "let that user in, use a Python that it can run, or set run_as = 'root'" in said


@as_root
def test_file_that_keeps_the_user_out_is_named(folder: Path) -> None:
    """A file that another user cannot read, or a folder that it cannot enter, is named; root enters all."""
    file = folder / "warm.py"
    file.touch(0o644)
    assert closed_to(OTHER, str(file)) == ""
    file.chmod(0o640)
    assert f"who may not use {file} (mode 0640), which they need; let that user in" in closed_to(OTHER, str(file))
    folder.chmod(0o700)
    assert f"who may not use {folder} (mode 0700), which they need" in closed_to(OTHER, str(file))
    assert closed_to(User(0, 0), str(file)) == ""
    assert closed_to(User.current(), str(file)) == ""


@as_root
def test_closed_folder_behind_a_link_is_found(folder: Path) -> None:
    """The folders on the way that the links lead count too."""
    (folder / "real").mkdir(0o700)
    (folder / "real/warm.py").touch(0o644)
    (folder / "warm.py").symlink_to("real/warm.py")
    assert f"{folder}/real (mode 0700)" in closed_to(OTHER, str(folder / "warm.py"))


@as_root
def test_closed_warm_up_is_refused_before_any_process(folder: Path) -> None:
    """A warm-up that root's children cannot read is refused in stage 1, with what to do."""
    (folder / "closed").mkdir(0o700)
    warm = folder / "closed/warm.py"
    warm.write_text("def up(): pass\n")

    async def launch() -> None:
        async with ProcessHost(Process(plugin=PLUGIN, policy=Policy.compute(), early_init=(f"{warm}:up",))):
            pass

    with pytest.raises(
        LaunchError, match=r"closed \(mode 0700\), which they need; let that user in, or set run_as = 'root'"
    ) as caught:
        anyio.run(launch)
    assert caught.value.stage is Stage.PREPARE
