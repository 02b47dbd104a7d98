"""docs/sync.md shows code that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "sync.md"


def test_the_example_counts(tmp_path: Path) -> None:
    """The plugin and the host of the page work together as they stand there."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for name, block in zip(("counter.py", "host.py"), blocks, strict=True):
        (tmp_path / name).write_text(block)
    tmp_path.chmod(0o755)
    argv = [sys.executable, "host.py"]
    run_as = {"PATH": os.environ["PATH"]}
    ended = subprocess.run(argv, cwd=tmp_path, env=run_as, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("42 45 45\n[0, 2, 4]\n", "")
