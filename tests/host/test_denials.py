"""What the seal refused, as the kernel tells the host."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from belljar.host.denials import MOST

from ..helpers import launch, write_plugin

pytestmark = pytest.mark.anyio

FLOODER = """
    import os
    class Plug:
        def flood(self, count: int) -> dict[int, int]:
            seen = {}
            for number in range(count):
                try:
                    os.open(f"/nowhere/{number % 100}", os.O_RDONLY)
                except OSError as error:
                    seen[error.errno] = seen.get(error.errno, 0) + 1
            return seen
"""


async def test_refused_files_are_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each refused path is logged once, also where the plugin says nothing of it."""
    async with launch(write_plugin(tmp_path, FLOODER)) as host:
        assert await host.call("flood", 1, returns=dict[int, int]) == {errno.EACCES: 1}
    assert "openat /nowhere/0" in caplog.text


async def test_a_flood_of_refused_calls_is_cut_off(tmp_path: Path) -> None:
    """After so many denials the host stops listening, and the kernel answers ENOSYS; the child is not held up."""
    async with launch(write_plugin(tmp_path, FLOODER)) as host:
        seen = await host.call("flood", MOST + 500, returns=dict[int, int], timeout=30)
        assert seen == {errno.EACCES: MOST, errno.ENOSYS: 500}
        assert await host.call("flood", 1, returns=dict[int, int]) == {errno.ENOSYS: 1}
