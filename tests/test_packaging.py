"""The wheel holds what a checkout holds, although the code lies beside the import name and not inside."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = ("trio", "zmq", "x11", "demo", "graphics")
PACKAGES = ("child", "host", "ipc", "sandbox")
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
IMPORT = """
import sys
sys.path.insert(0, sys.argv[1])
import belljar.child.stages, belljar.host
print(belljar.child.stages.__file__, belljar.host.__file__, sep="\\n")
"""


def _imported(path: Path) -> set[str]:
    """Return the top-level names of what a module imports, also within its functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module)
    return {name.partition(".")[0] for name in found}


def test_what_is_imported_is_declared() -> None:
    """What a module of ours imports comes with Python or is asked for by name, and not by what something else brings.

    But for what a step warms up: whoever names a library there has it.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [each for name in EXTRAS for each in project["optional-dependencies"][name]]
    declared = {re.split(r"[^\w.-]", each)[0].lower() for each in (*project["dependencies"], *extras)}
    known = metadata.packages_distributions()
    for name in PACKAGES:
        for path in {*(ROOT / name).rglob("*.py")} - {*(ROOT / "child" / "steps" / "_warm").iterdir()}:
            for module in _imported(path) - sys.stdlib_module_names - {"belljar"}:
                assert declared & {each.lower() for each in known[module]}, f"{path}: {module}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy, for a build writes into its source tree; with the setuptools installed here."""
    tree = tmp_path_factory.mktemp("tree")
    out = tmp_path_factory.mktemp("out")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("belljar", *PACKAGES):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", BUILD, str(out)]
    built = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_module(wheel: Path) -> None:
    """Each module of the four packages is in the wheel under the import name, with the marker of its types."""
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    wanted = {f"belljar/{path.relative_to(ROOT)}" for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    assert wanted | {"belljar/__init__.py", "belljar/__main__.py", "belljar/py.typed"} <= held


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    """Tests, examples and benchmarks stay out of the wheel, and nothing in it is installed beside belljar."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        said = archive.read(next(n for n in archive.namelist() if n.endswith("METADATA"))).decode()
    assert {top for top in tops if not top.endswith(".dist-info")} == {"belljar"}
    assert "License-Expression: MPL-2.0" in said


def test_an_installed_wheel_starts_a_child(wheel: Path, tmp_path: Path) -> None:
    """From the unpacked wheel alone, an isolated interpreter imports the child's stages and the host."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    command = [sys.executable, "-I", "-c", IMPORT, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(line.startswith(os.fspath(tmp_path)) for line in ran.stdout.splitlines())
