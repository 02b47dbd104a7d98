"""Stage 6, early init: the named steps that need files, devices or threads, while the child is still trusted.

Each step is announced before it runs, so that the host knows which one hangs, timed, and looked at afterwards for what
it left. The host holds the deadline: a step that is stuck in C cannot be interrupted from inside. A zygote runs the
steps that it may share beforehand (`run_shared`); a child of it does not run them again.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import time
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from ..ipc.interface.adapters import load_adapters
from ..ipc.messages import Left, Phase, RunStep, StepBegan, StepEnded, shorten
from ..sandbox.policy import Policy
from .left import left, look
from .link import Link
from .step import scene

_shared: Final[set[RunStep]] = set()
"""The steps that this process, or the zygote that forked it, has run for all children."""


class EarlyInit:
    """The steps of one child, and what they want done around its seal."""

    def __init__(self, link: Link, steps: tuple[RunStep, ...], policy: Policy) -> None:
        self.link = link
        self.steps = steps
        scene.policy = policy

    def run(self, *, late: bool = False) -> None:
        """Run the steps of stage 6 in their order, or the *late* ones, which stand after the seal.

        Early init loads the files of late ones too, in the end, while they can be read.

        Raises:
            Whatever a step raises that is not optional, with the step's name as a note.
        """
        waiting = [
            (number, step) for number, step in enumerate(self.steps) if step.late == late and step not in _shared
        ]
        scene.is_sealed = late
        before = look() if waiting and not late else None
        for number, step in waiting:
            began = self._announce(number, "run")
            failure = _attempt(step)
            took = _millis_since(began)
            if before is None:  # after the seal there is no /proc to look at
                found = Left()
            else:
                after = look()
                found, before = left(before, after), after
            self.link.send(StepEnded(number, took, found, failure))
        if not late:
            self._load_late()

    def _load_late(self) -> None:
        for step in self.steps:
            if step.late:
                self._call(step.name, "load", partial(_function, step.function))

    def quiesce(self) -> None:
        """Stage 7, first: let each step that asked for it stop what must not run while the seal is made."""
        for around in reversed(scene.arounds):
            self._call(around.step, "quiesce", around.quiesce)

    def resume(self) -> None:
        """Stage 9, first: the host has verified the seal."""
        for around in scene.arounds:
            if around.resume is not None:
                self._call(around.step, "resume", around.resume)

    def _call(self, name: str, phase: Phase, function: Callable[[], object]) -> None:
        number = next(number for number, step in enumerate(self.steps) if step.name == name)
        began = self._announce(number, phase)
        with _named(f"{phase} of {name}"):
            function()
        self.link.send(StepEnded(number, _millis_since(began), phase=phase))

    def _announce(self, number: int, phase: Phase) -> float:
        self.link.send(StepBegan(number, phase))
        return time.perf_counter()


def _millis_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def run_shared(step: RunStep) -> None:
    """Run *step* in a zygote, for all its children. Raises whatever the step raises."""
    _run(step)
    _shared.add(step)
    load_adapters()


def _attempt(step: RunStep) -> str:
    """Run *step*; return why it failed, if it did and was optional."""
    try:
        _run(step)
    except Exception as error:
        if not step.optional:
            raise
        scene.arounds[:] = [around for around in scene.arounds if around.step != step.name]
        failure = scene.failed[step.name] = shorten(_words(error), 4096)
        return failure
    return ""


def _run(step: RunStep) -> None:
    scene.running = step.name
    try:
        with _named(step.name):
            function = _function(step.function)
            scene.handed[step.name] = function(**_arguments(function, dict(step.options)))
    finally:
        scene.running = ""


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Give whatever the block raises the note that says in which step."""
    try:
        yield
    except BaseException as error:
        error.add_note(name)
        raise


def _words(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}{f': {text}' if text else ''}"


def _arguments(function: Callable[..., object], options: dict[str, Any]) -> dict[str, Any]:
    """Return *options* as the types that the function's annotations name; a wrong one is a `TypeError`."""
    # Not of what it returns, whose type may come from a library that the step imports only as it runs.
    wanted = types.SimpleNamespace(
        __annotations__={name: kind for name, kind in function.__annotations__.items() if name in options}
    )
    kinds = typing.get_type_hints(wanted, vars(sys.modules[function.__module__]))
    converted: dict[str, Any] = {}
    for name, value in options.items():
        try:
            converted[name] = msgspec.convert(value, kinds.get(name, Any), dec_hook=_path)
        except msgspec.ValidationError as error:
            raise TypeError(f"option {name}: {error}") from None
    inspect.signature(function).bind(**converted)
    return converted


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(f"an option cannot be a {kind.__name__}")


def _function(reference: str) -> Callable[..., object]:
    """Return the function of ``/path/file.py:name`` or ``module:name``."""
    place, _, name = reference.rpartition(":")
    module = _file(place) if place.startswith("/") else importlib.import_module(place)
    function: Callable[..., object] = getattr(module, name)
    return function


def _file(path: str) -> types.ModuleType:
    """Return the module of the file *path*, loaded once and under a name that no other module has."""
    name = f"belljar_step:{path}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and annotations look a class's module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
