"""docs/errors.md names each error that belljar exports, with its bases, and shows code that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import belljar

PAGE = (Path(__file__).parents[1] / "docs" / "errors.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (`[^|]+`) \|", re.MULTILINE)

PLUGIN = """
    import os
    import threading

    class Fragile:
        def work(self, what: str) -> str:
            if what == "die":
                os._exit(3)
            if what == "fail":
                raise ValueError(what)
            if what == "sleep":
                threading.Event().wait()
            return what
"""

PRINTED = """\
live
the plugin raised ValueError
too slow
ended: it exited with code 3
ended: it exited with code 3
it ends each time
"""


def test_each_error_has_its_row() -> None:
    """The rows are the exported classes that can be raised, each once, with the classes that it is made from."""
    exported = {name: getattr(belljar, name) for name in belljar.__all__}
    errors = {name: value for name, value in exported.items() if isinstance(value, type)}
    bases = {
        name: ", ".join(f"`{base.__name__}`" for base in value.__bases__)
        for name, value in errors.items()
        if issubclass(value, BaseException)
    }
    found = ROW.findall(PAGE)
    assert dict(found) == bases
    assert len(found) == len(bases)


def test_what_the_page_says_they_carry_is_there() -> None:
    """The attributes of `RemoteError`, `LaunchError`, `ProtectionError` and `Ended` stand on the page."""
    remote = belljar.RemoteError("", remote_type="", remote_traceback="", refused=())
    protection = belljar.ProtectionError(belljar.Stage.VERIFY, "", layer=belljar.Layer.SECCOMP)
    assert [name for error in (remote, protection) for name in vars(error) if f"`{name}`" not in PAGE] == []


def test_the_example_runs(tmp_path: Path) -> None:
    """It tells the errors apart, and a child that ended is replaced once."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "main.py").write_text(block)
    (tmp_path / "fragile.py").write_text(dedent(PLUGIN))
    tmp_path.chmod(0o755)
    argv = [sys.executable, "main.py"]
    run_as = {"PATH": os.environ["PATH"]}
    ended = subprocess.run(argv, cwd=tmp_path, env=run_as, capture_output=True, text=True, check=False)
    assert ended.stdout == PRINTED, ended.stderr
