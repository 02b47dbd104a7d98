"""Whom a child runs as: resolved by name or by number, and told apart from whom the files keep out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from belljar import LaunchError, Policy, Process, ProcessHost, Stage
from belljar.sandbox.errors import SandboxError
from belljar.sandbox.user import User, closed_to, resolve_user

OTHER = User(12345, 12345)
PLUGIN = f"{Path(__file__).parents[1]}/children/plain.py:Plain"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that all may enter: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_root_becomes_nobody_and_others_stay_themselves() -> None:
    """Without a word, root's children are nobody and another user's are that user."""
    own = User.current()
    assert (resolve_user("") == own) == (own.uid != 0)
    assert resolve_user("").uid != 0


def test_two_numbers_are_taken_as_they_are() -> None:
    """``UID:GID`` needs no entry in the list of users, and only root may name another one."""
    if os.geteuid() == 0:
        assert resolve_user("12345:54321") == User(12345, 54321)
    else:
        with pytest.raises(SandboxError, match="only root can become another user"):
            resolve_user("12345:54321")


@pytest.mark.parametrize("name", ["no-such-user-here", "1:", ":1", "-1:1", "4294967295:0", "a\0b"])
def test_unknown_user_is_refused(name: str) -> None:
    """A user that does not exist, and the number that means no change, are refused."""
    with pytest.raises(SandboxError, match="there is no such user"):
        resolve_user(name)


def test_file_that_keeps_the_user_out_is_named(folder: Path) -> None:
    """A file that another user cannot read, or a folder that it cannot enter, is named; root enters all."""
    file = folder / "warm.py"
    file.touch(0o644)
    assert closed_to(OTHER, str(file)) == ""
    file.chmod(0o640)
    assert closed_to(OTHER, str(file)) == f"children run as uid 12345, who may not use {file} (mode 0640)"
    folder.chmod(0o700)
    assert closed_to(OTHER, str(file)) == f"children run as uid 12345, who may not use {folder} (mode 0700)"
    assert closed_to(User(0, 0), str(file)) == ""
    assert closed_to(User.current(), str(file)) == ""


def test_closed_folder_behind_a_link_is_found(folder: Path) -> None:
    """The folders on the way that the links lead count too."""
    (folder / "real").mkdir(0o700)
    (folder / "real/warm.py").touch(0o644)
    (folder / "warm.py").symlink_to("real/warm.py")
    assert f"{folder}/real (mode 0700)" in closed_to(OTHER, str(folder / "warm.py"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's children become another user")
def test_closed_warm_up_is_refused_before_any_process(folder: Path) -> None:
    """A warm-up that root's children cannot read is refused in stage 1, with what to do."""
    (folder / "closed").mkdir(0o700)
    warm = folder / "closed/warm.py"
    warm.write_text("def up(): pass\n")

    async def launch() -> None:
        async with ProcessHost(Process(plugin=PLUGIN, policy=Policy.compute(), warm_up=(f"{warm}:up",))):
            pass

    with pytest.raises(LaunchError, match=r"closed \(mode 0700\); let that user in.*or set run_as = 'root'") as caught:
        anyio.run(launch)
    assert caught.value.stage is Stage.PREPARE
