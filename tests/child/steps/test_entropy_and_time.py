"""The step entropy-and-time: numbers of one's own, a time zone and a locale, each also without the step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from belljar.host.errors import LaunchError
from belljar.host.plan.step import Step
from belljar.host.process_host import ProcessHost
from belljar.sandbox.launch import client

from ...helpers import CHILDREN, launch

pytestmark = pytest.mark.anyio

DRAWS = CHILDREN / "steps" / "draws.py"
PRELOAD = ("locale", "ssl", "uuid", "zoneinfo")
FORKED = ("namespaces", "landlock", "seccomp")
"""The backends whose children are forked from a zygote, and not executed."""

KATHMANDU = 5 * 3600 + 45 * 60


def draws(backend: str, *steps: Step | str, preload: tuple[str, ...] = PRELOAD, **fields: Any) -> ProcessHost:
    """Return a host of a child that takes *steps*."""
    plugin = "steps/draws.py:Draws"
    return launch(plugin, backend=backend, preload=preload, early_init=steps, load="early", **fields)


def step(**options: Any) -> Step:
    """Return the step with *options*."""
    return Step("entropy-and-time", options=options)


@pytest.fixture
def one_processor() -> Iterator[None]:
    """Let processes that start now see one processor, so that numpy starts no threads and can be in a zygote."""
    client.stop()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)
    client.stop()


async def drawn(backend: str, method: str, *steps: Step | str, **fields: Any) -> list[Any]:
    """Return what two children, one after the other, draw."""
    found = []
    for _ in range(2):
        async with draws(backend, *steps, **fields) as host:
            found.append(await host.call(method))
    return found


@pytest.mark.usefixtures("one_processor")
async def test_children_draw_the_same_numbers_from_numpy_without_the_step(backend: str) -> None:
    """numpy does not notice a fork, so the step seeds it in each child; its new generators ask the kernel anyway."""
    first, second = await drawn(backend, "numpy", preload=("numpy.random",))
    assert (first[0] == second[0]) is (backend in FORKED)
    assert first[1] != second[1]
    first, second = await drawn(backend, "numpy", step(), preload=("numpy.random",))
    assert first[0] != second[0]


async def test_which_state_a_zygote_leaves_to_all_its_children(backend: str) -> None:
    """Python and OpenSSL notice a fork themselves; a step's own generator and the seed of hashes are shared."""
    first, second = await drawn(backend, "numbers", step(), f"{DRAWS}:generator")
    same = {name for name in first if first[name] == second[name]}
    assert same == ({"hash", "handed"} if backend in FORKED else set())


async def test_the_device_is_gone_and_the_call_is_not(backend: str) -> None:
    """/dev/urandom cannot be opened after the seal; `numbers` above needs only getrandom(2)."""
    async with draws(backend, step()) as host:
        answer = await host.call("device", returns=str)
    assert answer == "8 bytes" if backend == "none" else answer in ("PermissionError", "FileNotFoundError")


async def test_without_the_step_the_time_is_silently_utc(backend: str) -> None:
    """The C library finds no zone after the seal and does not say so; Python does."""
    async with draws(backend) as host:
        offset = await host.call("set_zone", "Asia/Kathmandu", returns=int)
        there = await host.call("in_zone", "Asia/Kathmandu", returns=str)
    if backend == "none":
        assert (offset, there) == (19800, "2024-07-01T05:45:00+05:45")  # in 1970 it was half past
    else:
        assert (offset, there) == (0, "'No time zone found with key Asia/Kathmandu'")


async def test_with_the_step_there_is_a_time_zone(backend: str) -> None:
    """Local time is of the zone, and Python finds it by its name."""
    async with draws(backend, step(time_zone="Asia/Kathmandu")) as host:
        assert host.early_init["entropy-and-time"].undeclared is None
        assert host.early_init["entropy-and-time"].left.environment == ("TZ",)
        assert await host.call("local_offset", 1720000000.0, returns=int) == KATHMANDU
        assert await host.call("in_zone", "Asia/Kathmandu", returns=str) == "2024-07-01T05:45:00+05:45"


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    """A folder for LOCPATH with the locale xx_XX, a copy of C.UTF-8: a machine need have no other."""
    own = Path("/usr/lib/locale/C.utf8")
    if not own.is_dir():
        pytest.skip(f"this C library has no locale in {own} to copy")
    shutil.copytree(own, tmp_path / "locales" / "xx_XX.utf8")
    return tmp_path / "locales"


async def test_a_locale_is_set_before_the_seal(backend: str, made_up: Path) -> None:
    """Without the step the seal refuses it; with it, it is set, and found again after another."""
    shows = Step(f"{DRAWS}:shows", options={"folder": str(made_up)})
    env = {"LOCPATH": str(made_up)}
    async with draws(backend, shows, env=env) as host:
        set_late = await host.call("set_locale", "xx_XX.UTF-8", returns=str)
        assert set_late == ("xx_XX.UTF-8" if backend == "none" else "unsupported locale setting")
    async with draws(backend, shows, step(locale="xx_XX.UTF-8"), env=env) as host:
        assert await host.call("locale", returns=str) == "xx_XX.UTF-8"
        assert await host.call("set_locale", "C", returns=str) == "C"
        assert await host.call("set_locale", "xx_XX.UTF-8", returns=str) == "xx_XX.UTF-8"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"time_zone": "Europe/Berln"}, r"there is no time zone 'Europe/Berln' \(did you mean 'Europe/Berlin'\?\)"),
        ({"time_zone": "../etc/passwd"}, r"there is no time zone '\.\./etc/passwd'"),
        ({"locale": "xx_YY.UTF-8"}, "could not set the locale 'xx_YY.UTF-8': unsupported locale setting"),
    ],
)
async def test_what_is_not_there_is_named(options: dict[str, Any], reason: str) -> None:
    """The launch ends in early init, with the nearest name."""
    with pytest.raises(LaunchError, match=f"entropy-and-time: .*{reason}"):
        await draws("namespaces", step(**options)).__aenter__()
