"""The host's own look at the seal: what nobody declared or reported is said, and what was is not."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from ...helpers import launch, on_all, require, write_plugin

pytestmark = pytest.mark.anyio

STEPS = """
import os, threading
from belljar import around_seal, early_init

kept = []

def later():
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    kept.append(os.pipe())

@early_init(needs=[])
def sneaky():
    around_seal(quiesce=later)

@early_init(needs=[], leaves={"threads": ["*"], "fds": ["pipe"]})
def honest():
    around_seal(quiesce=later)
"""


async def warnings(caplog: pytest.LogCaptureFixture, **fields: Any) -> list[str]:
    """Launch a child, and return what was said of its seal."""
    async with launch(channel="socket", **fields) as host:
        assert host.at_seal is not None
        assert sum(host.at_seal.left.threads.values()) == 1
    said = [record.getMessage() for record in caplog.records]
    return [text for text in said if "at the seal there is what no step declares" in text]


@on_all
async def test_what_comes_between_the_steps_and_the_seal_is_found(
    backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread and a pipe that a step makes when its report is sent already are warned of, unless it declares them."""
    require(backend)
    (tmp_path / "steps.py").write_text(dedent(STEPS))
    [said] = await warnings(caplog, backend=backend, early_init=(f"{tmp_path}/steps.py:sneaky",))
    assert said.startswith("plain: at the seal there is what no step declares: threads ")
    assert said.count("pipe:[") == 2
    caplog.clear()
    assert not await warnings(caplog, backend=backend, early_init=(f"{tmp_path}/steps.py:honest",))


async def test_a_plugin_that_is_loaded_early_declares_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What ``load = "early"`` leaves is no step's, and not warned of."""
    plugin = write_plugin(
        tmp_path,
        """
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        class Plug: pass
        """,
    )
    assert not await warnings(caplog, plugin=plugin, load="early", preload=("threading",))


async def test_a_child_without_steps_is_not_looked_at() -> None:
    """There is nothing to compare, and no time is spent."""
    async with launch(channel="socket") as host:
        assert host.at_seal is None
