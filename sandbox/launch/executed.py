"""What backends share whose child is started by exec: the guard starts it, perhaps through a helper program.

The birth travels in a sealed memfd and not in the arguments, which every user of the machine can read. A backend
that is made of this says in `command` what stands before the interpreter; the rest is its promises.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import msgspec

from ...ipc.messages import RunStep
from ...ipc.payload import make_sealed
from ..base import Launch, Started
from ..layers import Layer
from ..policy import Policy
from ..user import User

if TYPE_CHECKING:
    from ..probe import Machine

CONTROL_FD = 3
BIRTH_FD = 4


@dataclass(slots=True)
class Command:
    """What stands before the interpreter, with the variables and the fds (target -> fd) that it wants."""

    prefix: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    fds: Mapping[int, int] = field(default_factory=dict)


class NothingMore:
    """A launch of which the backend knows nothing more than the launcher reports."""

    def confirm(self, child_pid: int) -> str:
        """Nothing speaks against it."""
        return ""

    def close(self) -> None:
        """Nothing is held."""


class ExecutedHost:
    """The host half of a backend whose child is executed; subclasses say what differs."""

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]]
    has_helper: ClassVar[bool] = False
    own_pid_only: ClassVar[bool] = True

    def unable(self, policy: Policy, machine: Machine) -> str:
        """Nothing is out of reach."""
        return ""

    def promises(self, policy: Policy) -> Mapping[Layer, str]:
        """Nothing."""
        return {}

    def is_warm(self, shared: tuple[RunStep, ...], user: User) -> bool:
        """Whether the guard runs."""
        from . import client  # here and below: the child half does without it

        return client.has_guard()

    def warm(self, shared: tuple[RunStep, ...], user: User) -> None:
        """Start the guard."""
        from . import client

        client.guard()

    def start(self, launch: Launch) -> Started:
        """Have the guard execute the child."""
        with ExitStack() as fds:
            self.execute(launch, self.command(launch, fds))
        return NothingMore()

    def command(self, launch: Launch, fds: ExitStack) -> Command:
        """Return what stands before the interpreter; what is opened for it belongs on *fds*."""
        return Command()

    def program(self) -> list[str]:
        """Return the command of a child; after it stand ``exec``, the control channel's fd and that of its birth.

        A backend may have another one than belljar's: docs/protocol.md says all that it must do.
        """
        return [sys.executable, "-I", "-m", "belljar.child"]

    def execute(self, launch: Launch, command: Command) -> None:
        """Ask the guard for the process."""
        from . import client

        birth = make_sealed(msgspec.json.encode(launch.birth), name="belljar-birth")
        try:
            fds = {1: launch.stdout, 2: launch.stderr, CONTROL_FD: launch.control.fileno(), BIRTH_FD: birth}
            argv = [*command.prefix, *self.program(), "exec", str(CONTROL_FD), str(BIRTH_FD)]
            env = {**client.ENVIRONMENT, **launch.birth.env, **command.env}
            client.guard().spawn(argv, env, {**fds, **command.fds}, launch.report, launch.user)
        finally:
            os.close(birth)

    def explain(self, exit_code: int | None, stderr: Sequence[str]) -> str:
        """The launched process is the child, which speaks for itself."""
        return ""

    def child_status(self, status: int) -> int | None:
        """The launched process is the child."""
        return status
