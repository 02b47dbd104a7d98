"""Which driver a child is said to find: by the modes of real files, which stand for nodes that may lack here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from belljar.sandbox import graphics
from belljar.sandbox.graphics import LLVMPIPE, find_driver
from belljar.sandbox.user import User

OWNER, GROUP = os.geteuid(), os.getegid()
STRANGER = User(OWNER + 4242, GROUP + 4242)


@pytest.mark.parametrize(
    ("mode", "user", "opens"),
    [
        (0o666, STRANGER, True),
        (0o660, STRANGER, False),
        (0o660, User(STRANGER.uid, GROUP), True),
        (0o660, User(STRANGER.uid, STRANGER.gid, (GROUP,)), True),
        (0o606, User(STRANGER.uid, GROUP), False),
        (0o444, STRANGER, False),
        (0o600, User(OWNER, STRANGER.gid), True),
        (0o000, User(0, 0), True),
    ],
)
def test_a_node_counts_if_the_childs_user_may_open_it(
    mode: int, user: User, opens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A render node is the child's if its mode lets the child's user, whoever the host is; a card node is not."""
    monkeypatch.setattr(graphics, "RENDER_NODES", tmp_path)
    (tmp_path / "card0").touch(0o666)
    assert find_driver(user) == LLVMPIPE
    node = tmp_path / "renderD128"
    node.touch()
    node.chmod(mode)
    assert (find_driver(user).name == str(node)) == opens
    if opens:
        assert find_driver(user).rights == ("gpu", "threads")
