"""Find the step that an entry names, and read what it declares: from its text, for the host runs none of it.

A step is a function with the decorator ``early_init`` of `belljar.child.step`. Its arguments are literals, so that what
a step needs can be known before any process exists, and in a process that could not even import the libraries of the
step. A plain function is a step too: one that needs files and leaves nothing.
"""

from __future__ import annotations

import ast
import functools
import os
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from ...sandbox.declaration import Declaration
from ..files import step_file
from ..place import Place, nearest, quoted

GROUP = "belljar.early_init"
"""The entry points of packages that bring steps."""

DECORATOR = "early_init"

_SHIPPED = Path(__file__).parents[2] / "child" / "steps"


class Parameter(NamedTuple):
    """One parameter of a step's function: an option."""

    name: str
    required: bool
    is_path: bool


class Declared(NamedTuple):
    """A step as its text has it. ``function`` is what the child calls, ``file`` where it stands."""

    name: str
    function: str
    file: Path
    declaration: Declaration
    parameters: tuple[Parameter, ...]


def shipped_names() -> tuple[str, ...]:
    """Return the names of the steps that ship with belljar."""
    files = sorted(path.stem for path in _SHIPPED.glob("*.py") if not path.stem.startswith("_"))
    return tuple(stem.replace("_", "-") for stem in files)


def entry_point_names() -> tuple[str, ...]:
    """Return the names of the steps that installed packages declare."""
    return tuple(sorted({entry.name for entry in metadata.entry_points(group=GROUP)}))


def find_declared(entry: str, base: Path, place: Place) -> Declared:
    """Return the step that *entry* names: a shipped one, one of a package, or ``file.py:function`` below *base*.

    Raises:
        ConfigError: there is none, or what it declares cannot be read.
    """
    if ":" in entry or "/" in entry or entry.endswith(".py"):
        path, function = step_file(entry, base, place)
        return _read(f"{path.name}:{function}", path, function, f"{path}:{function}", place)
    if entry in shipped_names():
        stem = entry.replace("-", "_")
        return _read(entry, _SHIPPED / f"{stem}.py", stem, f"belljar.child.steps.{stem}:{stem}", place)
    for point in metadata.entry_points(group=GROUP):
        if point.name == entry:
            return _read(entry, _file_of(point, place), point.attr, f"{point.module}:{point.attr}", place)
    raise place.unknown("early-init step", entry, (*shipped_names(), *entry_point_names()))


def _file_of(point: metadata.EntryPoint, place: Place) -> Path:
    """Return the file of an entry point's module, without importing the package that it is in."""
    relative = point.module.replace(".", "/")
    for name in (f"{relative}.py", f"{relative}/__init__.py"):
        path = Path(str(point.dist.locate_file(name))) if point.dist is not None else Path(name)
        if path.is_file():
            return path
    from importlib.util import find_spec  # an editable install: its finder knows

    spec = find_spec(point.module)
    if spec is None or spec.origin is None:
        raise place.error(f"could not find the module {quoted(point.module)} of the step {quoted(point.name)}")
    return Path(spec.origin)


def _read(name: str, path: Path, function: str, reference: str, place: Place) -> Declared:
    try:
        about = os.stat(path)
        definition = _definitions(str(path), about.st_mtime_ns, about.st_size).get(function)
    except (OSError, SyntaxError, ValueError) as error:
        line = f"{error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        raise place.error(f"could not read the step {quoted(name)} in {quoted(str(path))}: {line}") from None
    if definition is None:
        names = _definitions(str(path), about.st_mtime_ns, about.st_size)
        raise place.error(f"{quoted(str(path))} defines no function {quoted(function)}{nearest(function, names)}")
    try:
        declaration = _declaration(definition)
    except ValueError as error:
        raise place.error(f"{path}, line {definition.lineno}: {function} declares what cannot be: {error}") from None
    return Declared(name, reference, path, declaration, _parameters(definition))


@functools.lru_cache(maxsize=256)
def _definitions(path: str, changed: int, size: int) -> dict[str, ast.FunctionDef]:
    """Return the functions at the top of the file *path* by name; read anew once it has *changed*."""
    tree = ast.parse(Path(path).read_bytes(), path)
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def _declaration(function: ast.FunctionDef) -> Declaration:
    for decorator in function.decorator_list:
        if not isinstance(decorator, ast.Call) or _last_name(decorator.func) != DECORATOR:
            continue
        given: dict[str, Any] = {}
        for keyword in decorator.keywords:
            try:
                given[keyword.arg or "**"] = ast.literal_eval(keyword.value)
            except ValueError:
                raise ValueError(f"{keyword.arg or '**'} must be a literal, for the host reads it unrun") from None
        return Declaration.of(given)
    return Declaration()


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _parameters(function: ast.FunctionDef) -> tuple[Parameter, ...]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    without = len(positional) - len(arguments.defaults)
    named = [(argument, index < without) for index, argument in enumerate(positional)]
    named += [
        (argument, default is None)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    return tuple(Parameter(argument.arg, required, _is_path(argument.annotation)) for argument, required in named)


def _is_path(annotation: ast.expr | None) -> bool:
    return annotation is not None and any(
        _last_name(node) == "Path" for node in ast.walk(annotation) if isinstance(node, ast.expr)
    )
