"""Whom a child runs as: names and numbers that are understood, and users that cannot be or cannot read."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from belljar.sandbox.errors import SandboxError
from belljar.sandbox.user import User, closed_to, resolve_user

IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="only root becomes another user")
ROOT = Path(__file__).parents[2]

ASK_BY_ANOTHER_NAME = """
import sys
sys.path[:0] = sys.argv[1:]
from belljar.sandbox.user import closed_to, resolve_user
print(closed_to(resolve_user("")))
"""


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
