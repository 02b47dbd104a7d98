"""``none``: no confinement at all, for debugging and for tests. Loud about it.

A child of this backend can do all that its user can do. It takes the same stages with the same messages, so that a
plugin can be debugged without a sandbox and an attack test can show that its attack works.
"""

from __future__ import annotations

import logging
import socket

from ..base import FOR_A_CHILD, Birth, Launch, Started
from ..launch.executed import ExecutedHost

log = logging.getLogger("belljar.sandbox")


class HostSide(ExecutedHost):
    """Has the guard start each child by exec, and says aloud what that means."""

    name = "none"
    requires = FOR_A_CHILD

    def start(self, launch: Launch) -> Started:
        """Start ``python -I -m belljar.child``."""
        log.warning("backend 'none' confines nothing: %s can do all that its user can do", launch.birth.name)
        return super().start(launch)


class ChildSide:
    """Does nothing, twice."""

    def __init__(self, link: socket.socket | None) -> None:
        """There is no link."""

    def confine_early(self, birth: Birth) -> None:
        """Nothing to do."""

    def take_files(self) -> None:
        """Nothing to do."""
