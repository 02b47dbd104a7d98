"""The README, docs/services.md and docs/interfaces.md show code that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import anyio
import pytest

import belljar
from belljar.ipc.interface.fd import FdKind
from belljar.ipc.memory.arena import Use
from belljar.ipc.peer.records import PeerUse
from belljar.ipc.peer.store import StoreUse

from .helpers import launch, require

DOCS = Path(__file__).parents[1] / "docs"

DECODED = """\
Size(width=14, height=2)
[b'8 by', b'tes.']
15
50%
b'hello'
bad picture: it is empty
"""


@pytest.mark.parametrize(
    ("page", "files", "expected"),
    [
        ("services.md", ("interfaces.py", "counter.py", "host.py"), "2\n"),
        ("interfaces.md", ("decoding.py", "decoder.py", "main.py"), DECODED),
    ],
)
def test_the_program_of_a_page_runs(page: str, files: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    """The interface, the plugin and the host of the page work together as they stand there."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    for name, block in zip(files, blocks[: len(files)], strict=True):
        (tmp_path / name).write_text(block)
    tmp_path.chmod(0o755)
    argv = [sys.executable, files[-1]]
    run_as = {"PATH": os.environ["PATH"]}
    ended = subprocess.run(argv, cwd=tmp_path, env=run_as, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == (expected, "")


def test_the_first_program_runs(tmp_path: Path) -> None:
    """The README's program and plugin work together as they stand there, and print what its comments say."""
    page = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    for name, block in re.findall(r"```python\n# (\S+)\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(block)
    tmp_path.chmod(0o755)
    argv = [sys.executable, "hello.py"]
    run_as = {"PATH": os.environ["PATH"]}
    ended = subprocess.run(argv, cwd=tmp_path, env=run_as, capture_output=True, text=True, check=True)
    said = [re.escape(text).replace(r"\.\.\.", ".*") for text in re.findall(r"\)  # (.*)", page)[:2]]
    assert re.match("\n".join([*said, r"\d+ \d+ \d+", "engaged "]), ended.stdout)


def cells(page: str) -> set[str]:
    """Return the names in code in the first cells of the tables of *page*, without what they are a field of."""
    rows = re.findall(r"^\| (`.*?`) \|", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {name.rpartition(".")[2] for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_every_kind_of_fd_is_explained() -> None:
    """docs/interfaces.md has each kind in a table."""
    assert set(get_args(FdKind)) <= cells("interfaces.md")


def test_every_number_of_use_is_explained() -> None:
    """docs/large-data.md has each field of `host.use`, of its memory and of an arena in a table."""
    assert {*PeerUse._fields, *StoreUse._fields, *Use._fields} <= cells("large-data.md")


IMPORTING = """
import belljar

class Importing:
    def missing(self) -> list[str]:
        return [name for name in belljar.__all__ if not self.has(name)]

    def has(self, name: str) -> bool:
        try:
            return getattr(belljar, name) is not None
        except ImportError:
            return False
"""


def test_the_names_that_a_plugin_cannot_have_are_listed(tmp_path: Path) -> None:
    """docs/interfaces.md names just those of `belljar` that a sealed child cannot import."""
    require("namespaces")
    (tmp_path / "importing.py").write_text(IMPORTING)
    section = (DOCS / "interfaces.md").read_text(encoding="utf-8").partition("\n## What a plugin can import\n")[2]
    named = re.findall(r"`(\w+)`", section.partition("but these:")[2].partition("\n## ")[0])

    async def missing() -> list[str]:
        async with launch(str(tmp_path / "importing.py:Importing"), backend="namespaces") as host:
            found: list[str] = await host.call("missing", returns=list[str])
            return found

    assert named == anyio.run(missing)
    assert set(named) <= set(belljar.__all__)
