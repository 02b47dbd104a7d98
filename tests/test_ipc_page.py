"""docs/ipc.md, the code that it names and its numbers are the same."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from belljar import Process
from belljar.ipc.peer.blocking import QUICK

PAGE = (Path(__file__).parents[1] / "docs" / "ipc.md").read_text(encoding="utf-8")
CODE = re.compile(r"`(\w+/[\w/]+)\.py` `([\w.]+)`")
BOUND = re.compile(r"^\| (\d+)(?: (KiB|MiB|s))? \| .* \| `(\w+/[\w/]+)\.py` `([\w.]+)` \|$", re.MULTILINE)
UNITS = {"": 1, "s": 1, "KiB": 1 << 10, "MiB": 1 << 20}


def found(module: str, name: str) -> Any:
    """Return what has that *name*; of a field of a process type, its default."""
    value: Any = import_module(f"belljar.{module.replace('/', '.')}")
    for part in name.split("."):
        fields = inspect.signature(value).parameters if value is Process else {}
        value = fields[part].default if part in fields else getattr(value, part)
    return value


def test_what_the_page_names_is_there() -> None:
    """Each function and class stands in the file that the page says."""
    named = CODE.findall(PAGE)
    assert len(named) > 30
    for module, name in named:
        value = found(module, name)
        assert getattr(value, "__module__", "").endswith(module.replace("/", ".")) or not callable(value), name


def test_each_bound_is_that_of_the_code() -> None:
    """The number and unit of each row are the value of what the row names, and every row has one."""
    table = PAGE[PAGE.index("| bound |") :]
    rows = BOUND.findall(table)
    assert len(rows) == table.count("\n| ") - 1
    for number, unit, module, name in rows:
        assert found(module, name) == int(number) * UNITS[unit], name


def test_steps_are_numbered_without_a_gap() -> None:
    """The life of a call is told in order."""
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \| (?:host|child) \|", PAGE, re.MULTILINE)]
    assert numbers == [*range(1, len(numbers) + 1)]


def test_the_page_says_what_is_quick() -> None:
    """The microseconds of a quick call are those of the code."""
    assert f"at most {QUICK * 1e6:.0f} µs (`ipc/peer/blocking.py` `QUICK`)" in PAGE
