"""docs/launch-order.md, `belljar.ipc.stage` and the code say the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from belljar.ipc.stage import Stage

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| (\d+) \| ([a-z ]+) \|.*\| ([^|]+) \|$", re.MULTILINE)
CODE = re.compile(r"`(\w+/[\w/]+\.py)`(?: `(\w+)\.(\w+)`)?")


def rows() -> dict[int, tuple[str, str]]:
    """Return the stages of the document: number -> name and code column."""
    found = ROW.findall((ROOT / "docs/launch-order.md").read_text())
    return {int(number): (name, code) for number, name, code in found}


def test_document_and_enum_have_the_same_stages() -> None:
    """The document lists every stage of the enum under its number, and no other."""
    assert {number: name for number, (name, _) in rows().items()} == {int(stage): stage.label for stage in Stage}


@pytest.mark.parametrize("stage", list(Stage))
def test_code_of_a_stage_is_where_the_document_says(stage: Stage) -> None:
    """Each function that the document names for a stage exists, and its docstring begins with the stage's number."""
    named = CODE.findall(rows()[stage][1])
    assert named
    for file, class_name, function in named:
        tree = ast.parse((ROOT / file).read_text())
        if function:
            docstring = docstrings(tree, class_name)[function]
            assert re.match(rf"Stages? {int(stage)}\b", docstring), f"{file}: {function}: {docstring}"


def docstrings(tree: ast.Module, class_name: str) -> dict[str, str]:
    """Return the docstring of each method of *class_name*."""
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    functions = [node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {node.name: ast.get_docstring(node) or "" for node in functions}


def test_child_takes_its_stages_in_their_order() -> None:
    """The calls in `Child.take_stages` and `ProcessHost._take_stages` follow the numbers."""
    for file, function in (("child/stages.py", "take_stages"), ("host/process_host.py", "_take_stages")):
        tree = ast.parse((ROOT / file).read_text())
        body = next(node for node in ast.walk(tree) if getattr(node, "name", "") == function)
        called = [
            node.func.attr
            for node in ast.walk(body)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        ]
        lines = {name: i for i, name in enumerate(ordered(body))}
        numbered = [(number, name) for number in Stage for name in called if name in stage_functions()[number]]
        positions = [lines[name] for _, name in numbered]
        assert positions
        assert positions == sorted(positions)


def ordered(body: ast.AST) -> list[str]:
    """Return the names of the methods called in *body*, in the order of their lines."""
    calls = [node for node in ast.walk(body) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    return [
        call.func.attr for call in sorted(calls, key=lambda call: call.lineno) if isinstance(call.func, ast.Attribute)
    ]


def stage_functions() -> dict[int, set[str]]:
    """Return the functions that the document names, by stage."""
    return {number: {function for _, _, function in CODE.findall(code)} for number, (_, code) in rows().items()}
