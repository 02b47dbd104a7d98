"""docs/process.md names the keys of a process type with their defaults, and shows code that runs."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from belljar import Policy, Process, load_config

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "process.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \|(.*?)\|(.*?)\|(.*)\|$", re.MULTILINE)
ROWS = [[cell.strip() for cell in row] for row in ROW.findall(PAGE)]
NEEDED = Process(plugin="hello_plugin.py:Greeter")


def written(folder: Path) -> Path:
    """Write the files of the page to *folder*, each under the name in its first line, and the README's plugin."""
    for name, text in re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL):
        (folder / name).write_text(text)
    shutil.copy(ROOT / "examples" / "hello_plugin.py", folder)
    folder.chmod(0o755)
    return folder


def test_the_page_names_the_fields_of_a_process() -> None:
    """Each key has a row that says something, in the order of the class, and there is no other."""
    assert [row[0] for row in ROWS] == list(Process.__struct_fields__)
    assert all(row[3] for row in ROWS)


def test_each_default_of_python_is_that_of_the_code() -> None:
    """The cell, as Python reads it, equals the default of the field; `plugin` alone has none."""
    defaults = {name: cell.strip("`") for name, _, cell, _ in ROWS}
    assert [name for name, cell in defaults.items() if not cell] == ["plugin"]
    assert (defaults.pop("name"), defaults.pop("policy")) == ('""', "Policy.compute()")
    assert Process(plugin=NEEDED.plugin, name="", policy=Policy.compute()) == NEEDED
    for name, cell in defaults.items():
        assert not cell or ast.literal_eval(cell) == getattr(NEEDED, name), name


def test_each_default_of_toml_is_that_of_the_code(tmp_path: Path) -> None:
    """A file that says all of them is one that says none; what has no such cell cannot be said."""
    said = [f"{name} = {cell.strip('`')}" for name, cell, _, _ in ROWS if cell]
    config = '[process.greeter]\nplugin = "hello_plugin.py:Greeter"\n'
    folder = written(tmp_path)
    (folder / "silent.toml").write_text(config)
    (folder / "said.toml").write_text(config + "\n".join(said))
    loud, silent = (load_config(folder / name).process("greeter") for name in ("said.toml", "silent.toml"))
    assert loud == silent
    assert [name for name, cell, _, _ in ROWS if not cell] == ["plugin", "name", "prefer", "require"]


def test_the_examples_run_and_are_the_same(tmp_path: Path) -> None:
    """The program answers, and the process type in Python is that in TOML."""
    folder = written(tmp_path)
    compare = "from belljar import load_config; from same import greeter; "
    compare += "print(load_config('belljar.toml').process('greeter') == greeter.resolve())"
    for argv, expected in ((["main.py"], "hello, world\n"), (["-c", compare], "True\n")):
        run_as = {"PATH": os.environ["PATH"]}
        ended = subprocess.run(
            [sys.executable, *argv], cwd=folder, env=run_as, capture_output=True, text=True, check=False
        )
        assert (ended.stdout, ended.stderr) == (expected, "")
