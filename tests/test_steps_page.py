"""docs/steps.md and the code say the same of the steps that ship."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from belljar.host.config.place import Place
from belljar.host.plan.declared import find_declared, shipped_names
from belljar.sandbox.declaration import Leaves

PAGE = (Path(__file__).parent.parent / "docs/steps.md").read_text(encoding="utf-8")


def rows(number: int) -> dict[str, list[str]]:
    """Return the rows of a table of the page by the step in their first cell."""
    table = re.findall(r"((?:^\|.*\n)+)", PAGE, re.MULTILINE)[number]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in table.splitlines()[2:]]
    return {row[0].strip("`"): row[1:] for row in cells}


def left(leaves: Leaves) -> str:
    """Return *leaves* as the page writes it."""
    parts = [
        f"{what} {', '.join(names)}"
        for what, names in (
            ("threads", leaves.threads),
            ("fds", leaves.fds),
            ("environment", leaves.environment),
            ("signals", leaves.signals),
        )
        if names
    ]
    return "; ".join(parts + ["executable memory"] * leaves.executable_memory).replace("*", r"\*") or "-"


@pytest.mark.parametrize("name", shipped_names())
def test_the_page_says_of_a_step_what_it_declares(name: str) -> None:
    """Its options, needs, what it leaves, and whether a zygote may take it."""
    step = find_declared(name, Path(), Place("the page"))
    options, needs, leaves, shared = rows(0)[name]
    assert options == ", ".join(f"`{parameter.name}`" for parameter in step.parameters)
    assert needs == ", ".join(step.declaration.needs)
    assert leaves == left(step.declaration.leaves)
    assert shared == ("yes" if step.declaration.shared else "no")


@pytest.mark.parametrize("name", shipped_names())
def test_the_page_says_what_breaks_without_a_step(name: str) -> None:
    """Each step has its row."""
    assert all(rows(1)[name])
