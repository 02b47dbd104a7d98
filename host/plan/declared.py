"""Find the step that an entry names, and read what it declares: from its text, for the host runs none of it.

A step is a function with the decorator ``early_init`` of `belljar.child.step`. Its arguments are literals, so that what
a step needs can be known before any process exists, and in a process that could not even import the libraries of the
step. A plain function is a step too: one that needs files and leaves nothing.
"""

from __future__ import annotations

import ast
import functools
import os
import re
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from ...sandbox.declaration import FD_KINDS, GRAPHICS_DRIVER, RIGHTS, SINGLE_THREADED, Declaration, Leaves
from ..config.files import step_file
from ..config.place import Place, nearest, quoted, types_in_words

GROUP: Final = "belljar.early_init"
"""The entry points of packages that bring steps."""

DECORATOR: Final = "early_init"
AROUND: Final = "around_seal"

WORDS: Final = ("step", "name", *Declaration.__struct_fields__)
"""The keys of an entry that are no options."""

_SHIPPED: Final = Path(__file__).parents[2] / "child" / "steps"

_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "needs": (*RIGHTS, SINGLE_THREADED),
    "needs_after_seal": (*RIGHTS, GRAPHICS_DRIVER),
    "fds": FD_KINDS,
}


class Parameter(NamedTuple):
    """One parameter of a step's function: an option."""

    name: str
    required: bool
    is_path: bool


class Declared(NamedTuple):
    """A step as its text has it.

    Attributes:
        function: What the child calls.
        file: Where it stands.
        around: Which of ``quiesce`` and ``resume`` it asks for, as far as its own text shows.
    """

    name: str
    function: str
    file: Path
    declaration: Declaration
    parameters: tuple[Parameter, ...]
    around: tuple[str, ...]


@functools.cache
def shipped_names() -> tuple[str, ...]:
    """Return the names of the steps that ship with belljar."""
    files = sorted(path.stem for path in _SHIPPED.glob("*.py") if not path.stem.startswith("_"))
    return tuple(stem.replace("_", "-") for stem in files)


@functools.cache
def _entry_points() -> Mapping[str, metadata.EntryPoint]:
    """The steps that installed packages declare, by name; 20 ms, so only once a process."""
    return {entry.name: entry for entry in metadata.entry_points(group=GROUP)}


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
    if (point := _entry_points().get(entry)) is not None:
        return _read(entry, _file_of(point, place), point.attr, f"{point.module}:{point.attr}", place)
    raise place.unknown("early-init step", entry, (*shipped_names(), *_entry_points()))


def declare(given: Mapping[str, Any]) -> Declaration:
    """Return the declaration of the words that are *given*.

    Raises:
        ValueError: a word is not known, with the nearest that is, or its value cannot be used; one sentence.
    """
    _known("word of a declaration", given, Declaration.__struct_fields__)
    leaves: object = given.get("leaves")
    if isinstance(leaves, dict):
        _known("word of leaves", leaves, Leaves.__struct_fields__)
    for words in (given, leaves):
        for key, valid in _VALUES.items():
            if isinstance(words, dict) and isinstance(values := words.get(key), (list, tuple)):
                _known(f"word of {key}", values, valid)
    try:
        return Declaration.of(dict(given))
    except ValueError as error:
        raise ValueError(types_in_words(str(error))) from None


def _known(what: str, given: Any, valid: tuple[str, ...]) -> None:
    for word in given:
        if isinstance(word, str) and word not in valid:
            raise ValueError(f"there is no {what} {quoted(word)}{nearest(word, valid)}")


def _file_of(point: metadata.EntryPoint, place: Place) -> Path:
    """Return the file of an entry point's module, without importing the package that it is in.

    `find_spec` of a name without dots imports nothing; it also knows packages that are installed as a link.
    """
    if not point.attr:
        raise place.error(f"the step {quoted(point.name)} is an entry point that names no function: {point.value}")
    top, *rest = point.module.split(".")
    spec = find_spec(top)
    folders = [Path(folder) for folder in (spec.submodule_search_locations if spec else None) or ()]
    candidates = [Path(spec.origin)] if spec and spec.origin and not rest else []
    for folder in folders if rest else ():
        candidates += [folder.joinpath(*rest).with_suffix(".py"), folder.joinpath(*rest, "__init__.py")]
    for path in candidates:
        if path.suffix == ".py" and path.is_file():
            return path
    raise place.error(
        f"the step {quoted(point.name)} is an entry point for {quoted(point.value)}, but there is no file of that "
        "module; mend or remove that package"
    )


class _Text(NamedTuple):
    """The file of a step, parsed: what stands at its top by name, and what the decorators are called in it."""

    top: Mapping[str, ast.stmt]
    decorators: frozenset[str]


class _Unusable(Exception):
    """A function is no step, or declares what cannot be; one sentence that names it."""


class _Step(NamedTuple):
    declaration: Declaration
    parameters: tuple[Parameter, ...]
    around: tuple[str, ...]


def _read(name: str, path: Path, function: str, reference: str, place: Place) -> Declared:
    try:
        about = os.stat(path)
        found = _step_in(str(path), about.st_mtime_ns, about.st_size, function)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        raise place.error(f"could not read the step {quoted(name)} in {quoted(str(path))}: {line}") from None
    except _Unusable as error:
        raise place.error(f"{quoted(str(path))}{error}") from None
    return Declared(name, reference, path, *found)


@functools.lru_cache(maxsize=1024)
def _step_in(path: str, changed: int, size: int, function: str) -> _Step:
    """Return what a *function* of the file *path* declares. *changed* and *size* are those of the file now."""
    text = _parsed(path, changed, size)
    definition = text.top.get(function)
    if definition is None:
        raise _Unusable(f" defines no function {quoted(function)}{nearest(function, text.top)}")
    where = f", line {definition.lineno}: {function}"
    if not isinstance(definition, ast.FunctionDef):
        raise _Unusable(f"{where} is no step: expected a plain function, neither async nor a class")
    try:
        return _Step(_declaration(definition, text.decorators), _parameters(definition), _around(definition))
    except ValueError as error:
        raise _Unusable(f"{where} cannot be declared so: {error}") from None


@functools.lru_cache(maxsize=256)
def _parsed(path: str, changed: int, size: int) -> _Text:
    """Return the text of the file *path*; read anew once it has *changed*, a time in nanoseconds, or its *size* has."""
    tree = ast.parse(Path(path).read_bytes(), path)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {alias.asname or alias.name for node in imports for alias in node.names if alias.name == DECORATOR}
    return _Text({node.name: node for node in tree.body if isinstance(node, kinds)}, frozenset(names))


def _declaration(function: ast.FunctionDef, decorators: frozenset[str]) -> Declaration:
    ours = [node for node in function.decorator_list if _is_ours(node, decorators)]
    if len(ours) > 1:
        raise ValueError(f"{DECORATOR} stands above it twice; keep one")
    if not ours:
        return Declaration()
    [call] = ours
    if not isinstance(call, ast.Call) or call.args:
        raise ValueError(f"{DECORATOR} takes its words by name, such as @{DECORATOR}(needs=['files'])")
    return declare({keyword.arg or "**": _literal(keyword) for keyword in call.keywords})


def _is_ours(decorator: ast.expr, names: frozenset[str]) -> bool:
    """Whether *decorator* is ``early_init``, by the name that it was imported under, or as part of its module."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr == DECORATOR if isinstance(called, ast.Attribute) else getattr(called, "id", "") in names


def _literal(keyword: ast.keyword) -> Any:
    try:
        return ast.literal_eval(keyword.value)
    except (ValueError, TypeError):
        text = f"{keyword.arg or '**'} = {ast.unparse(keyword.value)}"
        raise ValueError(
            f"{quoted(text)} is no literal; write it out, for the host reads it and runs nothing"
        ) from None


def _parameters(function: ast.FunctionDef) -> tuple[Parameter, ...]:
    arguments = function.args
    without = len(arguments.args) - len(arguments.defaults)
    found = [(argument, index < without) for index, argument in enumerate(arguments.args)]
    found += [
        (argument, default is None)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    for argument in [*arguments.posonlyargs, *(argument for argument, _ in found)]:
        if argument.arg in WORDS or argument in arguments.posonlyargs:
            raise ValueError(
                f"an entry cannot set the parameter {quoted(argument.arg)}: "
                + ("it has no name for callers" if argument in arguments.posonlyargs else "that is a word of entries")
                + "; change it"
            )
    return tuple(Parameter(argument.arg, required, _is_path(argument.annotation)) for argument, required in found)


def _is_path(annotation: ast.expr | None) -> bool:
    return annotation is not None and bool(re.search(r"\bPath\b", ast.unparse(annotation)))


def _around(function: ast.FunctionDef) -> tuple[str, ...]:
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    named = [call for call in calls if AROUND in (getattr(call.func, "id", ""), getattr(call.func, "attr", ""))]
    return tuple(dict.fromkeys(keyword.arg for call in named for keyword in call.keywords if keyword.arg))
