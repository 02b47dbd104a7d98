"""docs/sync.md shows code that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

PAGE = Path(__file__).parents[1] / "docs" / "sync.md"

PLUGIN = """
    from collections.abc import Iterator

    class Counter:
        def double(self, number: int) -> int:
            return 2 * number

        def count(self, limit: int) -> Iterator[int]:
            yield from range(limit)

        def total(self, numbers: Iterator[int]) -> int:
            return sum(numbers)
"""


def test_the_example_counts(tmp_path: Path) -> None:
    """The host of the page works as it stands there."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "host.py").write_text(block)
    (tmp_path / "counter.py").write_text(dedent(PLUGIN))
    tmp_path.chmod(0o755)
    argv = [sys.executable, "host.py"]
    run_as = {"PATH": os.environ["PATH"]}
    ended = subprocess.run(argv, cwd=tmp_path, env=run_as, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("42 45 45\n[0, 2, 4]\n", "")
