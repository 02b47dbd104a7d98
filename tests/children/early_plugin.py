"""A plugin that says what early init handed on to it."""

from __future__ import annotations

import os
import threading
from typing import Any

from belljar import StepError, handed


class Plug:
    """Looks at what was handed on."""

    def handed(self, step: str) -> Any:
        return handed(step)

    def why_not(self, step: str) -> str:
        try:
            handed(step)
        except StepError as error:
            return str(error)
        return ""

    def watchdog(self) -> list[str]:
        """The watchdog's log, with the number of threads in the end."""
        return [*handed("early.py:watchdog").log, str(threading.active_count())]

    def through_directory(self, step: str, name: str) -> str:
        """Try to open *name* below the directory that *step* left open."""
        try:
            os.close(os.open(name, os.O_RDONLY, dir_fd=handed(step)))
        except OSError as error:
            return type(error).__name__
        return "opened"
