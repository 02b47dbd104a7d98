"""`find_steps`: the early-init steps of a process type as listed, each found, read and given its options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ...ipc.messages import MAX_STEPS, Option, RunStep
from ...sandbox.declaration import SEAL, Declaration
from ..config.files import existing
from ..config.place import Place, nearest, quoted
from .declared import WORDS, Declared, declare, find_declared
from .step import Step

MAX_NAME = 100
MAX_OPTION = 4096
"""Characters of a string among the options."""

MAX_ALL = 24 << 10
"""Bytes of all steps in the message that tells a child its steps, and its filter beside them."""

PRELOAD = "preload"
"""The step that a process type's key ``preload`` stands for, once for each module."""

CHANNEL_ZMQ = "channel-zmq"
"""The step that a process type's ``channel = "zmq"`` stands for."""


ASYNCIO = "asyncio"
ON_LOOP = "belljar.child.on_loop"
"""The step that makes an event loop, and the module with all that it imports."""


class Planned(NamedTuple):
    """One step as it will run.

    Attributes:
        entry: What names it, with absolute paths.
        name: Unique in the plan.
        declared: The step as its text has it.
        declaration: What it declares, with what the entry replaced.
        files: The files that it needs to see: its own, and those among its options.
        version: Differs once a file of it has changed.
        late: Whether it runs after the seal.
        shared: Whether a zygote may run it for all its children.
    """

    entry: Step
    name: str
    declared: Declared
    declaration: Declaration
    files: tuple[str, ...]
    version: str
    late: bool = False
    shared: bool = False

    @property
    def is_preload(self) -> bool:
        """Whether it is the step ``preload``, which imports modules and looks at nothing else."""
        return self.entry.step == PRELOAD

    def to_run(self) -> RunStep:
        """Return the step as the child gets it."""
        options = tuple(self.entry.options.items())
        return RunStep(self.name, self.declared.function, options, self.declaration.optional, self.late, self.version)


def find_steps(preload: Sequence[str], entries: Sequence[str | Step], base: Path, place: Place) -> tuple[Planned, ...]:
    """Return the steps of the modules in *preload*, then those of the *entries* of ``early_init``; runs nothing.

    Args:
        base: Where relative paths begin.

    Raises:
        ConfigError: A step does not exist, or an option does not fit.
    """
    listed = [(preload_entry(module), place.at("preload")) for module in preload]
    for index, entry in enumerate(entries):
        listed.append((entry if isinstance(entry, Step) else Step(entry), place.at("early_init", f"[{index}]")))
    found = tuple(_planned(step, base, at) for step, at in listed)
    _check_names([step.name for step in found], place.at("early_init"))
    if (size := len(msgspec.msgpack.encode([step.to_run() for step in found]))) > MAX_ALL:
        raise place.at("early_init").error(
            f"names and options of all steps take {size} bytes, and at most {MAX_ALL} are sent to a child; "
            "let a step read a file instead"
        )
    return found


def with_loop(preload: tuple[str, ...], entries: Sequence[str | Step]) -> tuple[str, ...]:
    """Return *preload*, with what the step ``asyncio`` imports if it is among *entries*: a zygote can share that."""
    has_loop = any((entry.step if isinstance(entry, Step) else entry) == ASYNCIO for entry in entries)
    return (*preload, ON_LOOP) if has_loop and ON_LOOP not in preload else preload


def preload_entry(module: str) -> Step:
    """Return the entry of ``early_init`` that the *module* in ``preload`` stands for."""
    return Step(PRELOAD, f"{PRELOAD} {module}", {"modules": (module,)})


def _planned(step: Step, base: Path, place: Place) -> Planned:
    declared = find_declared(step.step, base, place)
    name = step.name or declared.name
    if not name.isprintable() or not 0 < len(name) <= MAX_NAME or name == SEAL:
        raise place.at("name").error(
            f"expected a name of 1 to {MAX_NAME} printable characters that is not 'seal', got {quoted(name)}"
        )
    options = _options(step, declared, base, place)
    is_file = declared.function.startswith("/")
    files = [str(declared.file)] if is_file else []
    paths = {parameter.name for parameter in declared.parameters if parameter.is_path}
    for value in (value for key, value in options.items() if key in paths):
        files += value if isinstance(value, tuple) else [str(value)]
    entry = Step(declared.function if is_file else step.step, name, options, step.declared)
    declaration = _declaration(step, declared, place)
    return Planned(entry, name, declared, declaration, tuple(files), _version(files, place))


def _version(files: Sequence[str], place: Place) -> str:
    """Return text of bounded length; of a folder, only its own entries count."""
    try:
        abouts = [os.stat(file) for file in files]
    except OSError as error:
        raise place.error(f"{quoted(str(error.filename))} has just gone: {error.strerror}") from None
    return f"{hash(tuple((about.st_mtime_ns, about.st_size, about.st_ino) for about in abouts)):x}" if files else ""


def _declaration(step: Step, declared: Declared, place: Place) -> Declaration:
    if not step.declared:
        return declared.declaration
    own: dict[str, Any] = msgspec.to_builtins(declared.declaration)
    try:
        return declare(own | step.declared)
    except ValueError as error:
        raise place.error(str(error)) from None


def _options(step: Step, declared: Declared, base: Path, place: Place) -> dict[str, Option]:
    known = {parameter.name: parameter for parameter in declared.parameters}
    for name in step.options:
        if name not in known:
            hint = nearest(name, [*known, *WORDS])
            raise place.at(name).error(f"the step {quoted(declared.name)} has no such option{hint}")
    for parameter in declared.parameters:
        if parameter.required and parameter.name not in step.options:
            raise place.error(f"the step {quoted(declared.name)} needs the option {quoted(parameter.name)}")
    return {key: _value(value, known[key].is_path, base, place.at(key)) for key, value in step.options.items()}


def _value(value: Any, is_path: bool, base: Path, place: Place) -> Option:
    is_list = isinstance(value, (list, tuple))
    for each in value if is_list else [value]:
        if isinstance(each, str) and len(each) > MAX_OPTION:
            raise place.error(f"expected at most {MAX_OPTION} characters, got {len(each)}")
    if is_list:
        if any(not isinstance(each, str) for each in value):
            raise place.error("expected a list of strings")
        return tuple(_path(each, base, place) if is_path else each for each in value)
    if not isinstance(value, (str, int, float)):
        raise place.error("expected a string, a number, true, false, or a list of strings")
    return _path(value, base, place) if is_path and isinstance(value, str) else value


def _path(entry: str, base: Path, place: Place) -> str:
    return os.path.normpath(existing(place, base, entry))


def _check_names(names: Sequence[str], place: Place) -> None:
    if len(names) > MAX_STEPS:
        raise place.error(f"expected at most {MAX_STEPS} steps with preload, got {len(names)}")
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        raise place.error(f"two steps are called {quoted(twice)}; give one of them another name = ...")
