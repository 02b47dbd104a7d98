"""What a child says of landlock is held against what it was told to use: a lie that contradicts itself is one."""

from __future__ import annotations

import pytest

from belljar.ipc.messages import Landlock
from belljar.sandbox import landlock
from belljar.sandbox.policy import Policy

WISH = landlock.inner(Policy())


@pytest.mark.parametrize("abi", range(landlock.LATEST_ABI + 1))
def test_what_was_granted_is_believed(abi: int) -> None:
    """The word of a child that did what it was told raises no doubt, on any ABI."""
    assert landlock.doubt(landlock.grant(WISH, abi), abi) == ""
    assert landlock.doubt(None, abi) == ""


@pytest.mark.parametrize(
    ("word", "doubt"),
    [
        (Landlock(8, ("file",), (), False), "ABI 8 instead of 7"),
        (Landlock(7, ("file", "all-threads"), (), True), "ABI 7 gave it all-threads"),
        (Landlock(7, ("file",), (), True), "all threads, without the feature"),
        (Landlock(7, ("file", "\x1b[2Jnetwork"), (), False), "1 features that landlock does not have"),
        (Landlock(7, ("file",), ("truncate",), False), "ABI 7 does not know truncate"),
        (Landlock(7, ("unix-path",), (), False), "ABI 7 gave it unix-path"),
    ],
)
def test_a_lie_is_doubted(word: Landlock, doubt: str) -> None:
    """A feature beyond the ABI, one that does not exist, and threads that cannot have been reached are told apart."""
    assert doubt in landlock.doubt(word, 7)
