"""docs/early-init.md is true: its files, what its commands print, its words, and the picture."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from belljar.host.config.load import load_config
from belljar.host.plan.show.picture import picture
from belljar.host.plan.show.report import plan_report
from belljar.ipc.messages import Option
from belljar.sandbox.declaration import FD_KINDS, GRAPHICS_DRIVER, RIGHTS, SINGLE_THREADED, Declaration, Leaves

from .helpers import require

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "early-init.md").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that the page shows, each under the name in its first line. Root's children stay root: see helpers."""
    run_as = "\nrun_as = 'root'" if os.geteuid() == 0 else ""
    for name, text in re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(text.replace("[process.painter]", f"[process.painter]{run_as}"))
    (tmp_path / "palette.json").write_text('{"sky": "#7ec8e3", "grass": "#4f7942"}')
    return tmp_path


def belljar(folder: Path, *words: str) -> str:
    """Return what a command prints, stdout before stderr, as wide as the page."""
    done = subprocess.run(
        [sys.executable, "-m", "belljar", *words],
        cwd=folder,
        env={**os.environ, "COLUMNS": "110"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.rstrip() for line in (done.stdout + done.stderr).splitlines()]
    return "\n".join(lines) + "\n"


COMMANDS = re.findall(r"```console\n\$ belljar (.*?)\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("words", "expected"), COMMANDS, ids=[words for words, _ in COMMANDS])
def test_each_command_prints_what_the_page_shows(words: str, expected: str, folder: Path) -> None:
    """Dots leave something out; all else stands there, in that order."""
    require("namespaces")
    said = belljar(folder, *words.split())
    at = 0
    for part in expected.split("..."):
        assert part.strip("\n") in said[at:], said
        at = said.index(part.strip("\n"), at) + len(part.strip("\n"))


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("known", "2"),
        ("seconds", "0"),
        ("painted", "nothing: the step history handed nothing on: FileNotFoundError: [Errno 2] No such file"),
    ],
)
def test_the_example_works(method: str, answer: str, folder: Path) -> None:
    """The plugin has what the steps have handed on: a late step's, a thread's that rested, none of one that failed."""
    require("namespaces")
    assert belljar(folder, "run", "belljar.toml", "painter", method).startswith(answer)


def test_the_picture_is_that_of_the_example(folder: Path) -> None:
    """docs/early-init.svg is what ``belljar plan belljar.toml --picture early-init.svg`` writes."""
    require("namespaces")
    report = plan_report(load_config(folder / "belljar.toml").process("painter"))
    drawn = picture(f"{report.process.name} ({report.backend})", report.rows, report.plan.edges)
    assert (DOCS / "early-init.svg").read_text() == drawn


def test_every_word_is_explained() -> None:
    """Each key of a declaration and each of its values stands on the page; so does each type of an option."""
    words = [*Declaration.__struct_fields__, *Leaves.__struct_fields__, *RIGHTS, *FD_KINDS]
    missing = [word for word in (*words, SINGLE_THREADED, GRAPHICS_DRIVER) if f"`{word}`" not in PAGE]
    assert missing == []
    plain = [kind.__name__ for kind in get_args(Option) if isinstance(kind, type)]
    assert [kind for kind in plain if f"`{kind}`" not in PAGE and kind != "tuple"] == []
