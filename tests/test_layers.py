"""Who may import whom: ipc stands alone, sandbox on ipc, child and host on both and never on each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "ipc": set[str](),
    "sandbox": {"ipc"},
    "child": {"ipc", "sandbox"},
    "host": {"ipc", "sandbox"},
}
HEAVY = {"anyio", "asyncio", "trio", "zmq", "pyseccomp", "rich", "typer"}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the level (number of dots) and name of each import in *path*."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_follow_the_layers(package: str) -> None:
    """A package imports its siblings relatively, and only the ones below it."""
    files = list((ROOT / package).rglob("*.py"))
    assert files, f"{package} holds no code"
    for path in files:
        depth = len(path.relative_to(ROOT).parts)
        for level, name in imports(path):
            top = name.split(".")[0]
            assert level or top not in {"belljar", *ALLOWED}, f"{path}: {name}"
            assert level <= depth, f"{path}: {'.' * level}{name}"
            if level == depth:
                assert top in ALLOWED[package], f"{path}: ..{name}"


def test_a_child_loads_little() -> None:
    """A process that runs the child's stages has loaded nothing of the host, and no event loop or policy compiler."""
    command = [sys.executable, "-I", "-c", "import sys, belljar.child.stages; print(*sys.modules, sep='\\n')"]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert "belljar.child.stages" in loaded
    assert not {name for name in loaded if name.split(".")[0] in HEAVY or name.startswith("belljar.host")}
