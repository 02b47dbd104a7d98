"""``none``: no confinement at all, for debugging and for tests. Loud about it.

A child of this backend can do all that the host can do. It takes the same stages with the same messages, so that a
plugin can be debugged without a sandbox and an attack test can show that its attack works.
"""

from __future__ import annotations

import logging
import sys

import msgspec

from ..base import Birth, Launch
from ..layers import Layer
from ..policy import Policy

log = logging.getLogger("belljar.sandbox")

CONTROL_FD = 3


class HostSide:
    """Has the guard start each child by exec."""

    name = "none"
    has_helper = False
    requires = ("pidfd", "memfd-seal", "proc")

    def promises(self, policy: Policy) -> frozenset[Layer]:
        """Nothing."""
        return frozenset()

    def is_warm(self, preload: tuple[str, ...]) -> bool:
        """Whether the guard runs."""
        from ..launch import client  # here and below: the child half does without it

        return client.has_guard()

    def warm(self, preload: tuple[str, ...]) -> None:
        """Start the guard."""
        from ..launch import client

        client.guard()

    def start(self, launch: Launch) -> None:
        """Start ``python -I -m belljar.child``."""
        from ..launch import client

        log.warning("backend 'none' confines nothing: %s can do all that this process can do", launch.birth.name)
        birth = msgspec.json.encode(launch.birth).decode()
        argv = [sys.executable, "-I", "-m", "belljar.child", "exec", str(CONTROL_FD), birth]
        fds = {1: launch.stdout, 2: launch.stderr, CONTROL_FD: launch.control.fileno()}
        client.guard().spawn(argv, client.ENVIRONMENT | launch.birth.env, fds, launch.report)


class ChildSide:
    """Does nothing, twice."""

    def __init__(self, link_fd: int | None) -> None:
        """There is no link."""

    def confine_early(self, birth: Birth) -> None:
        """Nothing to do."""

    def empty_root(self) -> None:
        """Nothing to do."""
