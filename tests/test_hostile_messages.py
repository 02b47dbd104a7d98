"""A sealed child that says all there is to say: its host lives, forgets nothing and keeps nothing."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from benchmarks.hostile.babbler import WEIGHTS, Speech
from benchmarks.hostile.page import spread
from benchmarks.hostile.run import Run, hostile_host, run

from .conftest import LOOPS
from .helpers import nothing_left

pytestmark = pytest.mark.anyio

SLOWEST = 0.25
"""Seconds for a call of another child meanwhile, at p99: a machine with two cores that launches without end."""


@pytest.fixture(scope="module", params=["asyncio", "trio"] if LOOPS == "all" else ["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """One loop is enough here, but every night."""
    return str(request.param)


def check(found: Run) -> None:
    """Every message was counted, by both sides alike; each breach was the end of one child, and of nothing else."""
    assert found.account.messages == sum(found.said.values())
    assert found.account.breaches == found.launches == sum(found.reasons.values())
    assert set(found.said) == set(WEIGHTS)
    assert min(found.account.ignored, found.account.acted) > found.account.messages // 20
    assert max(each.fds for each in found.samples) == min(each.fds for each in found.samples)
    assert found.grown < 8 << 20
    assert spread(found.latencies["hostile messages"])[1] < SLOWEST


async def checked(messages: int, **options: Any) -> None:
    async with hostile_host() as host:  # its zygote stays
        host.kill()
    with nothing_left():
        check(await run(messages, **options))


@pytest.mark.slow
async def test_twenty_thousand_hostile_messages() -> None:
    """Each is ignored by a rule, acted on, or ends its child; memory and fds stay, and another child answers."""
    await checked(20_000, calm=0.2)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
async def test_a_million_hostile_messages() -> None:
    """The same holds of a million, by other children."""
    await checked(1_000_000, seed=1_000_000)


async def test_the_same_seed_says_the_same() -> None:
    """Else the host could not know what it was sent; another seed says something else."""
    first, again, other = (list(islice(Speech(seed), 50)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
