"""The README, docs/services.md and docs/interfaces.md show code that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    for name, block in zip(files, blocks, strict=True):
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
