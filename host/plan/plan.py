"""`Plan`, the early-init steps of a process type in their order, and `make_plan`: find them, read them, order them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...ipc.messages import MAX_STEPS, Option, RunStep
from ...sandbox.declaration import SEAL, Declaration
from ..files import existing
from ..place import Place, nearest, quoted
from .declared import Declared, find_declared
from .order import Edge, Ordered, Unordered, order
from .step import Step

MAX_NAME = 100


class Planned(NamedTuple):
    """One step as it will run.

    Attributes:
        name: Unique in the plan.
        function: What the child calls.
        options: Its arguments; paths are absolute.
        declaration: What it declares, with what the configuration replaced.
        file: Where it stands.
        files: The files that it needs to see: its own, and those among its options.
        late: Whether it runs after the seal.
        shared: Whether a zygote may run it for all its children.
    """

    name: str
    function: str
    options: tuple[tuple[str, Option], ...]
    declaration: Declaration
    file: Path
    files: tuple[str, ...]
    late: bool = False
    shared: bool = False

    def to_run(self) -> RunStep:
        """Return the step as the child gets it."""
        return RunStep(
            self.name, self.function, self.options, self.declaration.optional, self.late, _version(self.files)
        )


class Plan(NamedTuple):
    """The steps in their order, what fixed it, and the entries of ``early_init`` as listed, with absolute paths."""

    steps: tuple[Planned, ...]
    edges: tuple[Edge, ...]
    entries: tuple[Step, ...]

    @property
    def shared(self) -> tuple[RunStep, ...]:
        """The steps that a zygote may run for all its children."""
        return tuple(step.to_run() for step in self.steps if step.shared)

    @property
    def files(self) -> tuple[str, ...]:
        """All files that the steps need to see."""
        return tuple(dict.fromkeys(file for step in self.steps for file in step.files))

    def why(self, name: str) -> str:
        """Return why the step *name* stands where it does."""
        own = [edge for edge in self.edges if name in (edge.first, edge.second)]
        moving = [edge for edge in own if edge.second != SEAL or edge.declared] or own
        return "; ".join(dict.fromkeys(edge.why for edge in moving))


def make_plan(
    preload: Sequence[str], entries: Sequence[str | Step], base: Path, place: Place, *, env: bool = False
) -> Plan:
    """Return the plan of the modules in *preload* and the *entries* of ``early_init``; runs nothing.

    Args:
        base: Where relative paths begin.
        env: Whether the process type sets variables, which a step that a zygote shares would not see.

    Raises:
        ConfigError: A step does not exist, an option does not fit, or the declarations contradict each other.
    """
    planned = [_preload(module) for module in preload]
    absolute: list[Step] = []
    for index, entry in enumerate(entries):
        step = entry if isinstance(entry, Step) else Step(entry)
        found = _planned(step, base, place.at("early_init", f"[{index}]"))
        planned.append(found)
        named = f"{found.file}:{step.step.rpartition(':')[2]}" if ":" in step.step else step.step
        absolute.append(Step(named, found.name, dict(found.options), step.declared))
    _check_names(planned, place.at("early_init"))
    try:
        ordered = order([(step.name, step.declaration) for step in planned])
    except Unordered as error:
        raise place.at("early_init").error(str(error)) from None
    return _arranged(planned, ordered, tuple(absolute), env=env)


def _arranged(planned: Sequence[Planned], ordered: Ordered, entries: tuple[Step, ...], *, env: bool) -> Plan:
    by_name = {step.name: step._replace(late=step.name in ordered.late) for step in planned}
    in_order = [by_name[name] for name in ordered.names]
    shared: set[str] = set()
    for step in in_order:
        behind = {edge.first for edge in ordered.edges if edge.second == step.name}
        sees_env = env and not step.name.startswith("preload ")
        if step.declaration.shared and not step.late and not sees_env and behind <= shared:
            shared.add(step.name)
    steps = [step._replace(shared=step.name in shared) for step in in_order]
    # What a zygote does is done before all that a child does.
    return Plan(tuple(sorted(steps, key=lambda step: not step.shared)), ordered.edges, entries)


def _version(files: Sequence[str]) -> str:
    abouts = map(os.stat, files)
    return " ".join(f"{about.st_mtime_ns}:{about.st_size}" for about in abouts)


def _preload(module: str) -> Planned:
    declared = find_declared("preload", Path(), Place("preload"))
    return Planned(
        f"preload {module}", declared.function, (("modules", (module,)),), declared.declaration, declared.file, ()
    )


def _planned(step: Step, base: Path, place: Place) -> Planned:
    declared = find_declared(step.step, base, place)
    name = step.name or declared.name
    if not name.isprintable() or not 0 < len(name) <= MAX_NAME or name == SEAL:
        raise place.at("name").error(
            f"expected a name of 1 to {MAX_NAME} printable characters that is not 'seal', got {quoted(name)}"
        )
    options = _options(step, declared, base, place)
    paths = [value for key, value in options if _is_path(declared, key)]
    files = [str(declared.file)] if ":" in step.step else []
    files += [path for value in paths for path in (value if isinstance(value, tuple) else (str(value),))]
    declaration = _declaration(step, declared, place)
    return Planned(name, declared.function, options, declaration, declared.file, tuple(files))


def _declaration(step: Step, declared: Declared, place: Place) -> Declaration:
    if not step.declared:
        return declared.declaration
    import msgspec

    own: dict[str, Any] = msgspec.to_builtins(declared.declaration)
    try:
        return Declaration.of(own | step.declared)
    except ValueError as error:
        raise place.error(str(error)) from None


def _options(step: Step, declared: Declared, base: Path, place: Place) -> tuple[tuple[str, Option], ...]:
    known = {parameter.name: parameter for parameter in declared.parameters}
    for name in step.options:
        if name not in known:
            also = [*known, *Declaration.__struct_fields__, "step", "name"]
            raise place.at(name).error(f"the step {quoted(declared.name)} has no such option{nearest(name, also)}")
    for parameter in declared.parameters:
        if parameter.required and parameter.name not in step.options:
            raise place.error(f"the step {quoted(declared.name)} needs the option {quoted(parameter.name)}")
    return tuple(
        (name, _value(value, known[name].is_path, base, place.at(name))) for name, value in step.options.items()
    )


def _value(value: Any, is_path: bool, base: Path, place: Place) -> Option:
    values = value if isinstance(value, list | tuple) else [value]
    if len(values) > 1 or isinstance(value, list | tuple):
        if any(not isinstance(each, str) for each in values):
            raise place.error("expected a list of strings")
        return tuple(_path(each, base, place) if is_path else each for each in values)
    if not isinstance(value, str | int | float):
        raise place.error("expected a string, a number, true, false, or a list of strings")
    return _path(value, base, place) if is_path and isinstance(value, str) else value


def _path(entry: str, base: Path, place: Place) -> str:
    return os.path.normpath(existing(place, base, entry))


def _is_path(declared: Declared, option: str) -> bool:
    return any(parameter.is_path for parameter in declared.parameters if parameter.name == option)


def _check_names(planned: Sequence[Planned], place: Place) -> None:
    names = [step.name for step in planned]
    if len(names) > MAX_STEPS:
        raise place.error(f"expected at most {MAX_STEPS} steps with preload, got {len(names)}")
    for name in names:
        if names.count(name) > 1:
            raise place.error(f"two steps are called {quoted(name)}; give one of them another name = ...")
