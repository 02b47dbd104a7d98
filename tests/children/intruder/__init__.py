"""A plugin that tries every attack of the list (book.py). It does no harm where it succeeds.

Each theme is a module beside this one; importing it enters its attacks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from . import files as files
from . import inherited as inherited
from . import kernel as kernel
from . import limits as limits
from . import machine as machine
from . import memory as memory
from . import metadata as metadata
from . import network as network
from . import processes as processes
from . import programs as programs
from . import terminal as terminal
from .book import ATTACKS as ATTACKS
from .book import NOT_IN_KERNEL as NOT_IN_KERNEL
from .book import Attack as Attack
from .book import Outcome as Outcome
from .book import Target as Target
from .book import attempt as attempt


class Intruder:
    """Tries what it is told to, one after the other."""

    def attempt_all(self, names: list[str], target: Target) -> dict[str, Outcome]:
        """Return what came of each attack of *names*; in a thread of early init, if that left one for it."""
        older = (getattr(thread, "run_in_it", None) for thread in threading.enumerate())
        run = next(filter(None, older), _run)
        outcomes: dict[str, Outcome] = run(lambda: {name: attempt(ATTACKS[name].act, target) for name in names})
        return outcomes


def _run(job: Callable[[], dict[str, Outcome]]) -> dict[str, Outcome]:
    return job()
