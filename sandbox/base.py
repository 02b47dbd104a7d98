"""What a backend is: two halves, one for each side of the launch.

A backend is one file in ``sandbox/backends/``. Its host half says what it needs and promises and starts the
process; its child half is applied by the child to itself. Nothing outside of that file knows how it confines.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Protocol

import msgspec

from .layers import Layer
from .policy import Limits, Policy


class Birth(msgspec.Struct, frozen=True):
    """What a child must know before its hello, because it acts on it in stage 3."""

    backend: str
    name: str
    limits: Limits
    share_network: bool
    env: dict[str, str]


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch as the host asks a backend for it. The backend copies the fds; the host closes its own.

    Attributes:
        control: the child's end of the control channel.
        report: the end over which the process that waits for the child reports (`launch.wire`).
        stdout, stderr: write ends of the pipes that the host reads.
        preload: modules to import before the child exists, where the backend can.
    """

    control: socket.socket
    report: socket.socket
    stdout: int
    stderr: int
    policy: Policy
    birth: Birth
    preload: tuple[str, ...]


class HostHalf(Protocol):
    """What a backend does outside of the child."""

    @property
    def name(self) -> str:
        """The name in configuration files."""
        ...

    @property
    def requires(self) -> tuple[str, ...]:
        """The features of `probe` without which this backend refuses to launch."""
        ...

    @property
    def has_helper(self) -> bool:
        """Whether the child is a descendant of the launched process instead of that process itself."""
        ...

    def promises(self, policy: Policy) -> frozenset[Layer]:
        """The layers that must be seen engaged from outside once a child under *policy* is sealed."""
        ...

    def is_warm(self, preload: tuple[str, ...]) -> bool:
        """Whether `warm` would return at once."""
        ...

    def warm(self, preload: tuple[str, ...]) -> None:
        """Start the processes that launches need beforehand, once for all of them. Blocks; safe in any thread.

        Raises:
            SandboxError: one of them could not be started.
        """
        ...

    def start(self, launch: Launch) -> None:
        """Ask for the child; the answer comes over ``launch.report``. Does not block after `warm`."""
        ...


class ChildHalf(Protocol):
    """What a backend does to the process it runs in. It cannot be undone."""

    def confine_early(self, birth: Birth) -> None:
        """Stage 3: all that needs a single thread. `OSError` or `SandboxError` names the step that failed."""
        ...

    def empty_root(self) -> None:
        """Stage 7, before the filter: take away the files. Does nothing where the backend cannot."""
        ...
