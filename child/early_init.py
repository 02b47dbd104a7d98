"""Stage 6, early init: the named steps that need files, devices or threads, while the child is still trusted.

Each step is announced before it runs, so that the host knows which one hangs, and timed. The host holds the
deadline: a step that is stuck in C cannot be interrupted from inside.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from collections.abc import Callable

from ..ipc.messages import Step, StepBegan
from .link import Link


def run_steps(link: Link, steps: tuple[Step, ...]) -> dict[str, float]:
    """Run *steps* in order and return the milliseconds of each by its name.

    Raises:
        Whatever a step raises; the caller names the stage and asks `current_step` for the step.
    """
    took: dict[str, float] = {}
    for step in steps:
        began = time.perf_counter()
        action = _ACTIONS[step.kind]
        if not (step.kind == "preload" and step.name in sys.modules):
            link.send(StepBegan(label(step)))
        try:
            action(step.name)
        except BaseException as error:
            error.add_note(label(step))
            raise
        took[label(step)] = (time.perf_counter() - began) * 1000
    return took


def label(step: Step) -> str:
    """Return the step as people know it, such as ``preload PIL.Image`` or ``warm-up warm.py:pillow``."""
    return f"{step.kind} {step.name.rpartition('/')[2]}"


def _preload(module: str) -> None:
    importlib.import_module(module)


def _warm_up(reference: str) -> None:
    _function(reference)()


def _function(reference: str) -> Callable[[], object]:
    """Return the function of ``/path/FILE.py:name``; the file's module is private to this step."""
    path, _, name = reference.rpartition(":")
    spec = importlib.util.spec_from_file_location("belljar_warm_up", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[], object] = getattr(module, name)
    return function


_ACTIONS: dict[str, Callable[[str], None]] = {"preload": _preload, "warm-up": _warm_up}
