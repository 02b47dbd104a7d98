"""docs/backends.md and the code say the same of the backends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from belljar.sandbox.backends import BACKENDS, host_half
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Policy
from belljar.sandbox.probe import FEATURES, faked_names
from belljar.sandbox.programs import PROGRAMS
from belljar.sandbox.protection.operations import requirement_names

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/backends.md").read_text(encoding="utf-8")


def rows_below(heading: str) -> list[list[str]]:
    """Return the cells of the first table below *heading*, without the line that draws it."""
    table = re.search(r"((?:^\|.*\n)+)", PAGE.partition(f"\n## {heading}\n")[2], re.MULTILINE)
    assert table is not None
    lines = [line.strip("|").split("|") for line in table[1].splitlines()]
    return [[cell.strip() for cell in line] for number, line in enumerate(lines) if number != 1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_layers_of_a_backend_are_those_it_promises(backend: str) -> None:
    """The page's column of each backend is what its host half promises for the media preset, with its limits."""
    heading, *rows = rows_below("What each promises, layer by layer")
    column = heading.index(f"`{backend}`")
    promised = host_half(backend).promises(Policy.media())
    expected = {str(layer): "-" if layer not in promised else "partly" if promised[layer] else "yes" for layer in Layer}
    assert {row[0]: row[column] for row in rows} == expected


@pytest.mark.parametrize("heading", ["Which one", "What each costs"])
def test_each_backend_is_in_each_table(heading: str) -> None:
    """When to pick a backend and what it costs is said of each."""
    named = [name for row in rows_below(heading)[1:] for name in re.findall(r"`([a-z-]+)`", row[0])]
    assert named == list(BACKENDS)


def test_each_backend_has_a_section() -> None:
    """Each backend is described below a heading of its own, strongest first."""
    sections = PAGE.partition("\n## The six\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### (.+)$", sections, re.MULTILINE) == list(BACKENDS)


def test_words_of_require_are_listed() -> None:
    """The page lists every word that ``require`` may hold, and no other."""
    section = PAGE.partition("What `require` may name:")[2].partition("\nA layer that")[0]
    words = re.findall(r"`([^`]+)`", section.partition("| layers")[2])
    assert words == list(requirement_names())


def test_variables_are_listed() -> None:
    """The page names the variables of the programs, and every feature that it fakes is one."""
    variables = {row[0]: row[1] for row in rows_below("Environment variables")[1:]}
    assert {f"`{program.variable}`" for program in PROGRAMS.values()} <= set(variables)
    faked = [name for name in re.findall(r"`([^`]+)`", variables["`BELLJAR_FAKE_MISSING`"]) if name != "doctor"]
    assert faked_names(",".join(faked))
    assert {"userns", "landlock", "proc"} <= set(faked) & set(FEATURES)


def test_readme_names_each_backend() -> None:
    """The table of the README has a row for each backend, in the same order."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Backends\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE) == list(BACKENDS)
