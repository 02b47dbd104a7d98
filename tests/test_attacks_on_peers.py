"""What docs/attacks-on-peers.md says is what happens: the same attacks, on a peer and on belljar."""

from __future__ import annotations

import os

import pytest

from belljar.ipc.frames import Share
from benchmarks.attacks.hostile import damage
from benchmarks.attacks.table import ATTACKS, PAGE, Attack, row, run


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
def test_an_attack_that_works_on_a_peer_fails_here(attack: Attack) -> None:
    """Each attack gets through where nothing is in its way, does not in belljar, and the page says what was seen."""
    there, here = run(attack, "peer"), run(attack, "belljar")
    assert there.got_through, there.seen
    assert not here.got_through, here.seen
    assert row(attack, there, here) in PAGE.read_text().splitlines(), "run scripts/bench attacks"


def test_the_page_has_no_other_row() -> None:
    """Each row of the page is one of the attacks."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) - 1 == len(ATTACKS)


def test_memory_without_seals_is_damaged() -> None:
    """What is tried on an arena works on memory that has no seal."""
    fd = os.memfd_create("arena")
    try:
        assert damage(fd, Share(1, 4096, "host")) == ["taken: host", "shrunk", "grown", "written"]
    finally:
        os.close(fd)
