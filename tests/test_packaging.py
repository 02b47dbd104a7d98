"""The wheel holds what a checkout holds, although the code lies beside the import name and not inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("child", "host", "ipc", "sandbox")
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
IMPORT = """
import sys
sys.path.insert(0, sys.argv[1])
import belljar.child.stages, belljar.host
print(belljar.child.stages.__file__, belljar.host.__file__, sep="\\n")
"""


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
        metadata = archive.read(next(n for n in archive.namelist() if n.endswith("METADATA"))).decode()
    assert {top for top in tops if not top.endswith(".dist-info")} == {"belljar"}
    assert "License-Expression: MPL-2.0" in metadata


def test_an_installed_wheel_starts_a_child(wheel: Path, tmp_path: Path) -> None:
    """From the unpacked wheel alone, an isolated interpreter imports the child's stages and the host."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    command = [sys.executable, "-I", "-c", IMPORT, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(line.startswith(os.fspath(tmp_path)) for line in ran.stdout.splitlines())
